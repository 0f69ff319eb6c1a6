"""HTTP connections that a client can hold open for nothing only so long."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# Time for all headers of a request, and for 64 KiB of an answer.
HEADERS_SECONDS = 10.0
SLOWEST_SECONDS = 30.0


class PatientProtocol(H11Protocol):
    """Connection that ends where its client sends no whole request in time, or takes no part of an answer.

    Uvicorn waits for both without end, and a few sockets of a client that does nothing would use it up.
    """

    _unheard: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """Take part of a request, and wait for the rest of its headers."""
        super().data_received(data)
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy and self._unheard is not None:
            self._unheard.cancel()
            self._unheard = None
        elif not is_busy:
            self._await_request()

    def pause_writing(self) -> None:
        """Wait for a client that takes an answer slower than it is sent."""
        super().pause_writing()
        self._unread = self.loop.call_later(SLOWEST_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        for timer in (self._unheard, self._unread):
            if timer is not None:
                timer.cancel()

    def _await_request(self) -> None:
        if self._unheard is None:
            self._unheard = self.loop.call_later(HEADERS_SECONDS, self.transport.abort)

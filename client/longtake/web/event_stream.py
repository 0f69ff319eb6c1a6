"""Answer with a stream of server-sent events, which ends with its client, with what it tells, or with the server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from longtake.concurrency import cancel_and_wait, wait_all

# Proxies close what has been silent for a minute.
KEEP_ALIVE_SECONDS = 15.0


@dataclass(frozen=True)
class Event:
    """One event of a stream.

    Args:
        data: Its data, JSON.
        name: Its name.
        id: What a client that comes back sends as `Last-Event-ID`; None for what need not be resumed.
    """

    data: bytes
    name: str
    id: str | None = None

    def encode(self) -> bytes:
        """Return the event as it is sent."""
        head = f"id: {self.id}\n" if self.id is not None else ""
        lines = b"".join(b"data: %s\n" % line for line in self.data.splitlines() or [b""])
        return f"{head}event: {self.name}\n".encode() + lines + b"\n"


class EventStream(Response):
    """Stream of events.

    Args:
        events: The events; closed when the stream ends, whatever ends it.
        closing: Is set when the server ends.
        keep_alive_seconds: Silence after which a comment is sent.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Event],
        closing: asyncio.Event,
        *,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        # Proxies that gather what they pass on would hold events back.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._closing = closing
        self._keep_alive_seconds = keep_alive_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until one of the three ends."""
        ends = [
            asyncio.ensure_future(work) for work in (self._send_all(send), _until_gone(receive), self._closing.wait())
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                await cancel_and_wait(task)
        sending = ends[0]
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        coming: asyncio.Future[Event] | None = None
        try:
            # Sent at once, so that the client knows that it is connected.
            await _send(send, b"retry: 2000\n\n")
            while True:
                coming = coming or asyncio.ensure_future(anext(self._events))
                await asyncio.wait([coming], timeout=self._keep_alive_seconds)
                if not coming.done():
                    await _send(send, b": still here\n\n")
                    continue
                done, coming = coming, None
                try:
                    event = done.result()
                except StopAsyncIteration:
                    return
                await _send(send, event.encode())
        finally:
            if coming is not None:
                coming.cancel()
                await wait_all(coming)
            await self._events.aclose()  # type: ignore[attr-defined]


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

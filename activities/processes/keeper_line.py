"""A keeper's end of the line to its worker."""

import contextlib
import select
import socket

from activities.processes.ipc import SignalInbox
from activities.processes.wire import Message, Messages, encode

# How long the last words may take when the worker is slow to read.
_LAST_WORDS_SECONDS = 5.0


class KeeperLine:
    """Hears orders and signals, and says what happens, without ever waiting for a worker that does not read."""

    def __init__(self, channel: socket.socket, inbox: SignalInbox) -> None:
        self._channel = channel
        self._inbox = inbox
        self._messages = Messages()
        self._pending = bytearray()
        self.is_open = True

    def first(self) -> Message | None:
        """Return what the worker wants at first, or None when it has gone."""
        while data := self._channel.recv(1 << 20):
            if messages := self._messages.feed(data):
                self._channel.setblocking(False)
                return messages[0]
        return None

    def wait(self, seconds: float) -> tuple[list[Message], set[int]]:
        """Return the orders and signals that come, after the time at the latest."""
        poll = select.poll()
        poll.register(self._inbox.fileno(), select.POLLIN)
        if self.is_open:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._pending else 0))
        ready = dict(poll.poll(max(0.0, seconds) * 1000))
        signals = self._inbox.take() if self._inbox.fileno() in ready else set()
        if self._channel.fileno() not in ready:
            return [], signals
        self._flush()
        return self._receive(), signals

    def say(self, message: Message, *, droppable: bool = False) -> None:
        """Send a message as soon as that can be; or, when others wait already, not at all."""
        if not self.is_open or (droppable and self._pending):
            return
        self._pending += encode(message)
        self._flush()

    def close(self) -> None:
        """Send what is left, and say that there will be no more."""
        with contextlib.suppress(OSError):
            self._channel.settimeout(_LAST_WORDS_SECONDS)
            self._channel.sendall(self._pending)
        # Told, not only closed: a thread that waits for a hanging store may keep this process from ending.
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> list[Message]:
        try:
            data = self._channel.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.is_open = self.is_open and bool(data)
        return self._messages.feed(data)

    def _flush(self) -> None:
        try:
            while self._pending:
                del self._pending[: self._channel.send(self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self._pending.clear()
            self.is_open = False

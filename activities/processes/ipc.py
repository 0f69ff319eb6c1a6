"""Messages between worker and keepers, one JSON document a line, and signals as a file descriptor to wait for.

Standard library only: see `supervisor_main`.
"""

import contextlib
import json
import os
import select
import signal
import socket
from types import FrameType
from typing import Any

Message = dict[str, Any]


def encode_message(message: Message) -> bytes:
    """Encode a message as one line of JSON."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


class MessageDecoder:
    """Assembles messages from the bytes of a socket."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take in received bytes and return the messages that are complete now."""
        self._rest += data
        if b"\n" not in data:
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        return [json.loads(line) for line in lines]


class SignalInbox:
    """Collects signals of this process; the descriptor is readable while there are some, so that `poll` wakes up."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _ignore)
        # A terminal sends SIGINT to the whole process group; the worker alone decides whether renders end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def fileno(self) -> int:
        return self._reading

    def take(self) -> set[int]:
        """Return the numbers of the signals that came since the last call."""
        taken: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reading, 4096):
                taken |= set(data)
        return taken

    def wake(self) -> None:
        """Make the descriptor readable, from another thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"\0")

    def close(self) -> None:
        """Close the pipe, in a fork that makes an inbox of its own."""
        signal.set_wakeup_fd(-1)
        os.close(self._reading)
        os.close(self._writing)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal was written to the wakeup descriptor already."""


# How long sending the closing messages may take when the worker is slow to read.
_CLOSE_SECONDS = 5.0


class KeeperChannel:
    """The keeper's end of the socket to its worker; never blocks on a worker that does not read.

    Args:
        channel: The socket.
        inbox: Signals to this process, which `wait` returns too.
    """

    def __init__(self, channel: socket.socket, inbox: SignalInbox) -> None:
        self._channel = channel
        self._channel.setblocking(False)
        self._inbox = inbox
        self._messages = MessageDecoder()
        self._pending = bytearray()
        self._put_back: list[Message] = []
        self.is_open = True

    @property
    def has_put_back(self) -> bool:
        """Whether orders wait that were put back."""
        return bool(self._put_back)

    def put_back(self, messages: list[Message]) -> None:
        """Have the next call of `wait` return these orders again, at once."""
        self._put_back += messages

    def wait(self, seconds: float | None = None, *, also: int | None = None) -> tuple[list[Message], set[int]]:
        """Wait for orders and signals, and return them.

        Args:
            seconds: How long to wait at most; None for ever.
            also: A descriptor that ends the wait when it is readable.
        """
        if self._put_back:
            messages, self._put_back = self._put_back, []
            return messages, self._inbox.take()
        poll = select.poll()
        poll.register(self._inbox.fileno(), select.POLLIN)
        if self.is_open:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._pending else 0))
        if also is not None:
            poll.register(also, select.POLLIN)
        ready = dict(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))
        # Whatever is ready: a signal that comes as the wait ends for a message is handled before the message.
        signals = self._inbox.take()
        if self._channel.fileno() not in ready:
            return [], signals
        self._flush()
        return self._receive(), signals

    def send(self, message: Message, *, droppable: bool = False) -> None:
        """Send a message, or queue it while the socket is full; drop a droppable one while others are queued."""
        if not self.is_open or (droppable and self._pending):
            return
        self._pending += encode_message(message)
        self._flush()

    def close(self) -> None:
        """Send what is queued, and shut the socket down."""
        with contextlib.suppress(OSError):
            self._channel.settimeout(_CLOSE_SECONDS)
            self._channel.sendall(self._pending)
        # Shut down, not only closed at exit: a thread that hangs on a store may keep this process from ending.
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

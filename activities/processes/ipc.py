"""Messages between worker and keepers, one JSON document a line, and signals as a file descriptor to wait for.

Standard library only: see `supervisor_main`.
"""

import contextlib
import json
import os
import signal
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

    def close(self) -> None:
        """Close the pipe, in a fork that makes an inbox of its own."""
        signal.set_wakeup_fd(-1)
        os.close(self._reading)
        os.close(self._writing)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal was written to the wakeup descriptor already."""

"""Signals as something that a loop can wait for."""

import contextlib
import json
import os
import signal
from types import FrameType
from typing import Any


class SignalInbox:
    """Keeps signals until they are taken; its descriptor is readable when there are some."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _keep)
        # A terminal sends it to all that it started; whether renders end is for the worker to say.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def fileno(self) -> int:
        return self._reading

    def take(self) -> set[int]:
        """Return the signals that came since the last call."""
        taken: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reading, 4096):
                taken |= set(data)
        return taken

    def close(self) -> None:
        """Give it up, in a fork that makes its own."""
        signal.set_wakeup_fd(-1)
        os.close(self._reading)
        os.close(self._writing)


def _keep(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has it already."""


Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return a message as it travels."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


class Messages:
    """Puts messages together from what arrives."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete with this."""
        self._rest += data
        if b"\n" not in data:
            return []
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        return [json.loads(line) for line in lines]

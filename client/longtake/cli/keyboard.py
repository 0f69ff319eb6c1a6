"""Read single keys from a terminal, without waiting for a whole line."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Self

# What terminals send for keys that are no characters: xterm, the Linux console, rxvt, tmux and screen.
_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1bOH": "home",
    b"\x1b[1~": "home",
    b"\x1b[7~": "home",
    b"\x1b[F": "end",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
    b"\x1b[8~": "end",
}
_NAMED = {b"\r": "enter", b"\n": "enter", b"\x7f": "backspace", b"\x08": "backspace", b"\t": "tab", b"\x15": "clear"}

# A sequence that comes in two parts over a slow line is taken for the escape key after this time.
_ESCAPE_SECONDS = 0.1


class KeyDecoder:
    """Decode what a terminal sends into names of keys; characters are their own names."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def is_open(self) -> bool:
        """Whether a sequence has begun that may be the escape key."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """Return the keys in what was sent; a sequence that may go on is kept."""
        data, keys = self._rest + data, list[str]()
        self._rest = b""
        while data:
            if data[:1] == b"\x1b":
                length = _find_length(data)
                if length == 0:
                    self._rest = data
                    break
                keys.append(_SEQUENCES.get(data[:length], "escape" if length == 1 else ""))
            else:
                length = _count_character(data)
                if length > len(data):
                    self._rest = data
                    break
                character = data[:length].decode("utf-8", "ignore")
                keys.append(_NAMED.get(data[:1]) or (character if character.isprintable() else ""))
            data = data[length:]
        return [key for key in keys if key]

    def flush(self) -> list[str]:
        """Return the key of a sequence that did not go on: it was the escape key."""
        rest, self._rest = self._rest, b""
        return ["escape"] if rest[:1] == b"\x1b" else []


def _find_length(data: bytes) -> int:
    """Return the length of the sequence that data begins with; 0 where it may go on."""
    if len(data) == 1:
        return 0
    if data[1:2] not in (b"[", b"O"):
        return 1
    for place in range(2, len(data)):
        # Parameters and intermediate bytes, then one final byte (ECMA-48).
        if 0x40 <= data[place] <= 0x7E:
            return place + 1
    return 0 if len(data) < 16 else len(data)


def _count_character(data: bytes) -> int:
    """Return how many bytes the character has that data begins with."""
    first = data[0]
    if not 0xC2 <= first <= 0xF4:
        # ASCII, or what begins no character of UTF-8.
        return 1
    return 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2


class Keyboard:
    """Read keys from standard input while the context is open; then the terminal is as it was.

    Args:
        on_key: Called on the event loop with the name of each key.
    """

    def __init__(self, on_key: Callable[[str], None]) -> None:
        self._on_key = on_key
        self._decoder = KeyDecoder()
        self._descriptor = sys.stdin.fileno()
        self._flush: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        # Ctrl-C stays a signal.
        tty.setcbreak(self._descriptor)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._flush is not None:
            self._flush.cancel()
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 1024)
        except OSError:
            data = b""
        if not data:
            # The terminal is gone; the loop would be called without end.
            self._loop.remove_reader(self._descriptor)
            self._on_key("q")
            return
        if self._flush is not None:
            self._flush.cancel()
        for key in self._decoder.feed(data):
            self._on_key(key)
        if self._decoder.is_open:
            self._flush = self._loop.call_later(_ESCAPE_SECONDS, self._end_sequence)

    def _end_sequence(self) -> None:
        for key in self._decoder.flush():
            self._on_key(key)

"""The newest of what a program prints into a pipe with a name."""

import asyncio
import os
from pathlib import Path
from typing import Self

_PIECE_BYTES = 1 << 16


class TailPipe:
    """Reads a named pipe as fast as it is written, and keeps the end.

    Args:
        path: Where it is made.
        most_bytes: How much is kept.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._kept = bytearray()
        self._descriptor = -1

    def __enter__(self) -> Self:
        os.mkfifo(self._path, 0o600)
        # For both, so that it neither waits for a writer nor ends with one.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def tail(self) -> bytes:
        """Return the end of what was printed; all of it is read once nobody writes any more."""
        while self._read():
            pass
        return bytes(self._kept)

    def _read(self) -> bool:
        try:
            piece = os.read(self._descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return False
        self._kept += piece
        if len(self._kept) > 2 * self._most_bytes:
            del self._kept[: -self._most_bytes]
        return bool(piece)

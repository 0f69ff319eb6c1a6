"""The log of an attempt: its head and its newest end, whatever a renderer prints."""

import contextlib
import os
import time

# The head says how a render was started; the end says why it failed. What lies between is dropped, piece by piece.
SEGMENT_BYTES = 4 * 1024 * 1024
_KEPT_SEGMENTS = 2

# How long output is dropped after a write that failed, before the next try.
_RETRY_SECONDS = 1.0


class BoundedLog:
    """Appends to `PATH`, then to segments `PATH.OFFSET`, of which the newest two are kept.

    The offset is the position of the segment's first byte in all that was printed, so that readers see what is left
    out. A write that fails drops what it should have written and is never the renderer's trouble.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._size = 0
        self._end = 0
        self._segments: list[int] = []
        self._resumed = False
        self._silent_until = 0.0

    def begin(self) -> None:
        """Make the file, so that there is a log also of a renderer that prints nothing."""
        with contextlib.suppress(OSError):
            self._open()

    def write(self, data: memoryview) -> None:
        """Append."""
        if time.monotonic() < self._silent_until:
            self._end += len(data)
            return
        while data:
            try:
                if self._file is None:
                    self._open()
                written = self._append(data)
            except OSError:
                self.close()
                self._end += len(data)
                self._silent_until = time.monotonic() + _RETRY_SECONDS
                return
            data = data[written:]

    def close(self) -> None:
        """Let go of the file; a write opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, data: memoryview) -> int:
        assert self._file is not None
        written = os.write(self._file, data[: SEGMENT_BYTES - self._size])
        self._size += written
        self._end += written
        # Only now is the new segment worth an old one.
        while len(self._segments) > _KEPT_SEGMENTS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._path}.{self._segments.pop(0)}")
        if self._size >= SEGMENT_BYTES:
            self.close()
        return written

    def _open(self) -> None:
        if not self._resumed:
            self._resume()
        head = self._end == 0 or (not self._segments and self._size_of(self._path) == self._end < SEGMENT_BYTES)
        if head:
            path, self._size = self._path, self._end
        else:
            newest = self._segments[-1] if self._segments else None
            path, size = (f"{self._path}.{newest}", self._size_of(f"{self._path}.{newest}"))
            if newest is None or newest + size != self._end or size >= SEGMENT_BYTES:
                path, size = f"{self._path}.{self._end}", 0
                self._segments.append(self._end)
            self._size = size
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def _resume(self) -> None:
        """Go on where an earlier command of the same attempt ended."""
        folder, name = os.path.split(self._path)
        ends = [entry[len(name) + 1 :] for entry in os.listdir(folder) if entry.startswith(f"{name}.")]
        self._segments = sorted(int(end) for end in ends if end.isdigit())
        newest = self._segments[-1] if self._segments else 0
        self._end = newest + self._size_of(f"{self._path}.{newest}" if newest else self._path)
        self._resumed = True

    @staticmethod
    def _size_of(path: str) -> int:
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

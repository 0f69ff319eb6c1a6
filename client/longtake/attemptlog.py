"""The log of one attempt: its beginning, and the newest of what came after."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Writers fill the head to this size before they begin segments; each of those holds as much, and two are kept.
HEAD_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Segment:
    """One file of a log: bytes `[offset, stop)` of all that was printed."""

    path: Path
    offset: int
    size: int

    @property
    def stop(self) -> int:
        """Where the next segment begins."""
        return self.offset + self.size


@dataclass(frozen=True)
class Piece:
    """Bytes of a log; `offset` is past the place asked for where what lay between is no longer kept."""

    offset: int
    data: bytes

    @property
    def stop(self) -> int:
        """Where the next piece begins."""
        return self.offset + len(self.data)


class AttemptLog:
    """Reads a log that may be growing, and whose middle may be gone; a file that vanishes meanwhile is a gap.

    `<name>.log` is the head, `<name>.log.<offset>` are the segments after it.

    Args:
        path: The head.
        head_bytes: A head smaller than this has no segments yet, so that the folder need not be listed:
            a job's folder of logs may hold 100,000 files, and a log is looked at several times a second.
    """

    def __init__(self, path: Path, *, head_bytes: int = HEAD_BYTES) -> None:
        self.path = path
        self._head_bytes = head_bytes
        self._newest: Segment | None = None

    @property
    def size(self) -> int:
        """How many bytes were printed so far, kept or not."""
        return self._newest_segment().stop

    def segments(self) -> list[Segment]:
        """Return the head and what is kept after it, in order."""
        head = self._look(self.path, 0)
        if not self._is_full(head):
            return [head]
        return [head, *self._list()]

    def read(self, offset: int, most: int) -> Piece:
        """Return at most so many bytes from the first place at or after `offset` that is kept; none at the end."""
        piece = Piece(offset, b"")
        for segment in self._from(offset):
            if segment.offset > piece.stop:
                if piece.data:
                    # A piece has no holes: what lies behind this one comes with the next read.
                    break
                piece = Piece(segment.offset, b"")
            piece = Piece(piece.offset, piece.data + _bytes_of(segment, piece.stop, most - len(piece.data)))
            if len(piece.data) >= most:
                break
        return piece

    def tail(self, most: int) -> bytes:
        """Return the newest bytes, at most so many."""
        return self.read(max(0, self.size - most), most).data

    def _from(self, offset: int) -> Iterator[Segment]:
        newest = self._newest_segment()
        if offset >= newest.offset:
            # As it is for whoever follows a log: no listing.
            yield newest
        else:
            yield from (segment for segment in self.segments() if segment.stop > offset)

    def _newest_segment(self) -> Segment:
        """Return the last file of the log; listed only where following the chain of offsets does not find it."""
        known = self._look(self._newest.path, self._newest.offset) if self._newest else None
        if known is None or not known.path.exists():
            head = self._look(self.path, 0)
            listed = self._list() if self._is_full(head) else []
            known = listed[-1] if listed else head
        while known.size and (after := self._after(known)).exists():
            known = self._look(after, known.stop)
        # A head is looked at anew each time: it may be put aside or not be there yet.
        self._newest = known if known.offset else None
        return known

    def _is_full(self, head: Segment) -> bool:
        return head.size >= self._head_bytes or (head.size > 0 and self._after(head).exists())

    def _after(self, segment: Segment) -> Path:
        return self.path.with_name(f"{self.path.name}.{segment.stop}")

    def _list(self) -> list[Segment]:
        prefix = f"{self.path.name}."
        try:
            with os.scandir(self.path.parent) as entries:
                names = [entry.name for entry in entries if entry.name.startswith(prefix)]
        except OSError:
            return []
        offsets = (name.removeprefix(prefix) for name in names)
        # 18 digits are an exabyte; more is no offset, and `int` refuses thousands of them.
        known = sorted(int(text) for text in offsets if text.isascii() and text.isdigit() and len(text) <= 18)
        return [self._look(self.path.with_name(f"{prefix}{offset}"), offset) for offset in known if offset]

    @staticmethod
    def _look(path: Path, offset: int) -> Segment:
        try:
            return Segment(path, offset, path.stat().st_size)
        except OSError:
            return Segment(path, offset, 0)


def _bytes_of(segment: Segment, offset: int, most: int) -> bytes:
    """Return bytes of one file from a place in the whole log; none if it is gone."""
    try:
        with segment.path.open("rb") as file:
            file.seek(offset - segment.offset)
            return file.read(most)
    except OSError:
        return b""

"""Read the log of one attempt on the host where it runs: its head and the newest end, while it may still be growing.

What is in a store is read by `longtake.stored_logs`.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from longtake.concurrency import Throttle

# Listing is throttled: a job's folder of logs may hold 100,000 files, and logs are read several times a second.
_LISTING_SHARE_OF_A_CORE = 0.005

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


@dataclass(frozen=True)
class Segment:
    """One file of a log, with the bytes `[offset, stop)` of all that was printed."""

    path: Path
    offset: int
    size: int

    @property
    def stop(self) -> int:
        """Offset after the last byte, where the next segment begins unless bytes were dropped."""
        return self.offset + self.size


@dataclass(frozen=True)
class Piece:
    """Bytes of a log and their offset, which is later than asked for if the bytes between are no longer kept."""

    offset: int
    data: bytes

    @property
    def stop(self) -> int:
        """Offset after the last byte, where the next piece begins."""
        return self.offset + len(self.data)


class KeptPart(Protocol):
    """One file of a log, in a folder or in a store."""

    @property
    def offset(self) -> int:
        """Position of its first byte in all that was printed."""
        ...

    @property
    def stop(self) -> int:
        """Position behind its last byte."""
        ...


Part = TypeVar("Part", bound=KeptPart)


def read_kept(
    parts: Iterable[Part], offset: int, most: int, read: Callable[[Part, int, int], bytes], *, stop: int = sys.maxsize
) -> Piece:
    """Return bytes of a log from the first offset at or after `offset` that is kept; they end before a gap.

    Args:
        parts: Files of the log, in order.
        offset: Offset in all that was printed.
        most: Largest number of bytes to return.
        read: Returns bytes of a file from an offset in all that was printed, at most so many; none if it is gone.
        stop: Offset behind the last byte that is wanted.
    """
    piece = Piece(offset, b"")
    for part in parts:
        if part.stop <= piece.stop:
            continue
        if part.offset > piece.stop:
            if piece.data:
                # A piece has no gaps: the bytes after this one come with the next read.
                break
            piece = Piece(part.offset, b"")
        wanted = min(most - len(piece.data), stop - piece.stop)
        if wanted <= 0:
            break
        piece = Piece(piece.offset, piece.data + read(part, piece.stop, wanted))
    return piece if piece.data else Piece(offset, b"")


class AttemptLog:
    """Read a log that may be growing and whose middle may be gone; files that vanish meanwhile become gaps.

    `<name>.log` is the head, `<name>.log.<offset>` are the segments after it, each named by the position of its first
    byte in all that was printed.

    Args:
        path: The head, which need not exist yet.
        list_names: Lists the names in the folder of the log; default: reads the local folder.
    """

    def __init__(self, path: Path, list_names: Callable[[], Iterable[str]] | None = None) -> None:
        self.path = path
        self._list_names = list_names or self._list_folder
        self._listing = Throttle(self.segments, share=_LISTING_SHARE_OF_A_CORE)
        self._newest: Segment | None = None

    @property
    def size(self) -> int:
        """Number of bytes that were printed so far, kept or not."""
        return self._find_newest().stop

    def segments(self) -> list[Segment]:
        """Return the head and the segments that are kept, in order, by a listing of the folder."""
        prefix = f"{self.path.name}."
        texts = (name.removeprefix(prefix) for name in self._list_names() if name.startswith(prefix))
        # A name with more than 18 digits, an exabyte, is no offset.
        offsets = sorted({0, *(int(text) for text in texts if text.isascii() and text.isdigit() and len(text) <= 18)})
        found = [self._segment(offset) for offset in offsets]
        segments = [segment for segment in found if segment is not None]
        self._newest = segments[-1] if segments else None
        return segments

    def read(self, offset: int, most: int) -> Piece:
        """Return bytes from the first offset at or after `offset` that is kept; none at the end of the log.

        Args:
            offset: Offset in all that was printed.
            most: Largest number of bytes to return.

        Raises:
            OSError: A file exists and cannot be read.
        """
        return read_kept(self._from(offset), offset, most, _bytes_of)

    def tail(self, most: int, *, since: int = 0) -> bytes:
        """Return the newest bytes, at most `most`, and none from before the offset `since`."""
        return self.read(max(since, self.size - most), most).data

    def _from(self, offset: int) -> Iterator[Segment]:
        newest = self._find_newest()
        # A follower reads the newest segment, which needs no listing.
        segments = [newest] if offset >= newest.offset else self.segments()
        yield from (segment for segment in segments if segment.stop > offset)

    def _find_newest(self) -> Segment:
        """Return the last file of the log: mostly that of the last call, or else the one that begins at its end."""
        before = self._newest
        newest = self._segment(before.offset) if before else None
        while newest and newest.size and (after := self._segment(newest.stop)):
            newest = after
        if newest and newest != before:
            self._newest = newest
        else:
            # No new bytes there. After a full disk, or when segments came and went meanwhile, only a listing finds
            # the newest file.
            self._listing.call_if_due()
        if self._newest is None:
            # A loaded machine lists so slowly that the next listing is due long after a short render has ended.
            self._newest = self._segment(0)
        return self._newest or Segment(self.path, 0, 0)

    def _segment(self, offset: int) -> Segment | None:
        path = self.path.with_name(f"{self.path.name}.{offset}") if offset else self.path
        try:
            return Segment(path, offset, path.stat().st_size)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise

    def _list_folder(self) -> list[str]:
        try:
            return os.listdir(self.path.parent)
        except OSError as error:
            if error.errno in _GONE:
                return []
            raise


def _bytes_of(segment: Segment, offset: int, most: int) -> bytes:
    """Return bytes of one file from an offset in the whole log; none if the file is gone."""
    try:
        with segment.path.open("rb") as file:
            file.seek(offset - segment.offset)
            return file.read(most)
    except OSError as error:
        if error.errno in _GONE:
            return b""
        raise

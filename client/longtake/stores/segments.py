"""Read segments: files of the records of many chunks, written by one attempt at a span; and seal those of others.

An attempt writes numbered *parts*, each by an exclusive create and whole or not at all. A part is the claim on its
chunks; the next one by the same attempt proves that their files were placed. Whoever takes over *seals* the segment: he
takes the name of its next part, so that of a part and a seal exactly one can exist, in a directory, on a share and in a
bucket alike. A clean end *closes* it: all records in one file, in place of the parts.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Generic, Protocol, TypeVar

from longtake.models.fields import Contract
from longtake.stores.store import OversizedFileError, Store, map_parallel

_NAME = re.compile(
    r"(?P<first>\d{6,9})-(?P<last>\d{6,9})\.(?P<attempt>.+?)(?:\.(?P<part>\d{6})\.part|\.jsonl)", re.ASCII
)
_REVOKED = re.compile(r"(?P<key>\d{6,9})\.(?P<attempt>.+)\.json", re.ASCII)
_MARK = b'{"mark":'
_KEY = re.compile(rb'\{"key":"(\d{6,9})"')

# Segments that are read at once: a large one has some hundred kilobytes.
_BATCH = 16


class SegmentMark(Contract):
    """A line of a part that is no record: it opens, ends or seals the segment."""

    mark: str
    by: str = ""

    def encode(self) -> bytes:
        """Return the line."""
        return self.model_dump_json().encode() + b"\n"


OPENED, ENDED, SEALED = "opened", "ended", "sealed"


@dataclass(frozen=True)
class SegmentName:
    """What the names of the files of a segment tell: the chunks that it may hold, and whose it is.

    Args:
        folder: Location of the folder of all segments.
        first: First chunk.
        last: Last chunk.
        attempt: Name of the attempt that writes it.
    """

    folder: str
    first: int
    last: int
    attempt: str

    @property
    def closed(self) -> str:
        """Location of the file of all records, written at a clean end."""
        return f"{self.folder}/{self.first:06}-{self.last:06}.{self.attempt}.jsonl"

    def part(self, number: int) -> str:
        """Return the location of a part."""
        return f"{self.folder}/{self.first:06}-{self.last:06}.{self.attempt}.{number:06}.part"


@dataclass
class ListedSegment:
    """A segment as a listing shows it.

    Args:
        name: Its name.
        parts: Numbers of its parts.
        is_closed: Whether all of its records are in one file.
    """

    name: SegmentName
    parts: list[int] = field(default_factory=list)
    is_closed: bool = False

    @property
    def location(self) -> str:
        """Location of the file that was written last."""
        return self.name.closed if self.is_closed or not self.parts else self.name.part(max(self.parts))


@dataclass(frozen=True)
class SegmentLines:
    """The records of a segment.

    Args:
        placed: Records of chunks whose files have their final names.
        claimed: Records of chunks whose files are being placed, or were when their worker died.
        is_ended: Whether no record can follow.
    """

    placed: list[bytes]
    claimed: list[bytes]
    is_ended: bool


def list_segments(store: Store, folder: str) -> list[ListedSegment]:
    """Return the segments in a folder, by one listing, those of the first chunks first."""
    found: dict[SegmentName, ListedSegment] = {}
    for file in store.names(folder):
        if (match := _NAME.fullmatch(file)) is not None:
            name = SegmentName(folder, int(match["first"]), int(match["last"]), match["attempt"])
            segment = found.setdefault(name, ListedSegment(name))
            if match["part"] is None:
                segment.is_closed = True
            else:
                segment.parts.append(int(match["part"]))
    return sorted(found.values(), key=lambda segment: (segment.name.first, segment.name.last, segment.name.attempt))


def read_segment(store: Store, segment: ListedSegment) -> SegmentLines:
    """Return the records of a segment; none of a file that is gone or too large to be one."""
    if not segment.is_closed:
        placed: list[bytes] = []
        claimed: list[bytes] = []
        is_ended = False
        try:
            for number in sorted(segment.parts):
                lines = store.read(segment.name.part(number)).splitlines()
                marks = [SegmentMark.model_validate_json(line).mark for line in lines if line.startswith(_MARK)]
                if SEALED in marks:
                    return SegmentLines(placed, claimed, is_ended=True)
                placed += claimed
                claimed = [line for line in lines if line and not line.startswith(_MARK)]
                is_ended = ENDED in marks
            return SegmentLines(placed, claimed, is_ended)
        except FileNotFoundError:
            # It was closed meanwhile, which removes its parts.
            pass
        except (ValueError, OversizedFileError):
            # What somebody else has written there counts as no record.
            return SegmentLines(placed, claimed, is_ended=False)
    with suppress(FileNotFoundError, OversizedFileError):
        return SegmentLines([line for line in store.read(segment.name.closed).splitlines() if line], [], is_ended=True)
    return SegmentLines([], [], is_ended=True)


def seal_segment(store: Store, segment: ListedSegment, by: str) -> SegmentLines:
    """Seal a segment that has not ended, and return its records: none can follow.

    Args:
        store: The store.
        segment: The segment.
        by: Who does so, for people.
    """
    parts, lines = list(segment.parts), read_segment(store, segment)
    mark = SegmentMark(mark=SEALED, by=by).encode()
    while not lines.is_ended:
        number = max(parts, default=-1) + 1
        is_sealed = store.create(segment.name.part(number), mark)
        # Taken: by a part that was quicker and counts, or by the seal of another one.
        parts.append(number)
        found = read_segment(store, ListedSegment(segment.name, list(parts)))
        lines = SegmentLines(found.placed, found.claimed, found.is_ended or is_sealed)
    return lines


class KeyedRecord(Protocol):
    """The record of a chunk."""

    @property
    def key(self) -> str:
        """Key of the chunk."""
        ...

    @property
    def attempt(self) -> str:
        """Name of the attempt that made it."""
        ...


RecordType = TypeVar("RecordType", bound=KeyedRecord)


@dataclass(frozen=True)
class FoundRecord(Generic[RecordType]):
    """A record in a segment.

    Args:
        record: The record.
        location: Location of the file that holds it.
        is_placed: Whether the files of the chunk have their final names.
    """

    record: RecordType
    location: str
    is_placed: bool


class SegmentRecords(Generic[RecordType]):
    """The records of chunks in the segments of a job, as one listing shows them; each segment is read when it is asked.

    Args:
        store: The store.
        folder: Location of the folder of all segments.
        revoked: Location of the folder for records that were taken back.
        decode: Returns the record that a line holds; None where it holds none.
    """

    def __init__(self, store: Store, folder: str, revoked: str, decode: Callable[[bytes], RecordType | None]) -> None:
        self._store = store
        self._decode = decode
        self.segments = list_segments(store, folder)
        names = store.names(revoked) if self.segments else []
        # Keys and attempts of the records that were taken back.
        self.revoked = frozenset((m["key"], m["attempt"]) for m in map(_REVOKED.fullmatch, names) if m is not None)
        self._known: dict[SegmentName, dict[str, list[FoundRecord[RecordType]]]] = {}

    def __iter__(self) -> Iterator[FoundRecord[RecordType]]:
        """Yield the records of all segments, some segments at a time."""
        rest = iter(self.segments)
        while batch := list(islice(rest, _BATCH)):
            for segment, lines in zip(
                batch, map_parallel(self._store, partial(read_segment, self._store), batch), strict=True
            ):
                yield from self.decode(segment, lines)

    def decode(self, segment: ListedSegment, lines: SegmentLines) -> Iterator[FoundRecord[RecordType]]:
        """Yield the records that the lines of a segment hold, without those that were taken back."""
        for is_placed, found in ((True, lines.placed), (False, lines.claimed)):
            for line in found:
                record = self._decode(line)
                if record is not None and (record.key, record.attempt) not in self.revoked:
                    yield FoundRecord(record, segment.location, is_placed)

    def find(self, chunk: int) -> FoundRecord[RecordType] | None:
        """Return the record of a chunk, a placed one where there is one."""
        return next(iter(self.find_all(chunk)), None)

    def find_all(self, chunk: int) -> list[FoundRecord[RecordType]]:
        """Return all records of a chunk, placed ones first; only segments that may hold it are read.

        Chunks are asked for in order, mostly: the segments of the last one are remembered, and those alone.
        """
        before = self._known
        self._known = {
            segment.name: before[segment.name] if segment.name in before else self._index(segment)
            for segment in self.overlapping(chunk, chunk + 1)
        }
        found = [each for records in self._known.values() for each in records.get(f"{chunk:06}", [])]
        return sorted(found, key=lambda each: not each.is_placed)

    def _index(self, segment: ListedSegment) -> dict[str, list[FoundRecord[RecordType]]]:
        records: dict[str, list[FoundRecord[RecordType]]] = {}
        for each in self.decode(segment, read_segment(self._store, segment)):
            records.setdefault(each.record.key, []).append(each)
        return records

    def find_placed(self, start: int, stop: int) -> dict[int, RecordType]:
        """Return the records of those of these chunks whose files have their final names, by chunk."""
        found: dict[int, RecordType] = {}
        for segment in self.overlapping(start, stop):
            for each in self.decode(segment, read_segment(self._store, segment)):
                if each.is_placed and start <= (chunk := int(each.record.key)) < stop:
                    found.setdefault(chunk, each.record)
        return found

    def overlapping(self, start: int, stop: int) -> list[ListedSegment]:
        """Return the segments that may hold one of these chunks."""
        return [each for each in self.segments if each.name.first < stop and each.name.last >= start]

    def finished(self) -> Iterator[FoundRecord[RecordType]]:
        """Yield the records of chunks whose files have their final names."""
        return (found for found in self if found.is_placed)


@dataclass(frozen=True)
class RecordKey:
    """The little of a record that counts chunks."""

    key: str
    attempt: str


def decode_key(line: bytes) -> RecordKey | None:
    """Return the key of a record by its first bytes: of a million, reading all of each takes a minute."""
    match = _KEY.match(line)
    if match is None:
        return None
    start = line.find(b'"attempt":"') + 11
    return RecordKey(match[1].decode(), line[start : line.find(b'"', start)].decode(errors="replace"))

"""Tell what became of each chunk of a job, from its records in the store and from its status.

A reader keeps what it has read in columns of plain numbers, 28 bytes a chunk, and reads again only what has changed:
a listing of each folder, new parts of segments, new sidecars.
"""

import sys
import time
from array import array
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from hashlib import blake2b
from itertools import islice

from pydantic import Field

from longtake.chunks import ChunkPlan
from longtake.frame_list import cut_frames
from longtake.models.fields import Contract
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobState, JobStatus, RunningChunk
from longtake.ranges import RangeSet
from longtake.stores.job_records import JobRecords
from longtake.stores.publications import RenderRecord
from longtake.stores.segments import ListedSegment, SegmentName, read_segment
from longtake.stores.store import map_parallel
from longtake.stores.try_records import list_tries, read_listed_tries

# Sidecars, and segments, that are read at once.
_SIDECARS_AT_ONCE = 500
_SEGMENTS_AT_ONCE = 16

# The column of hosts has two bytes a chunk, and 0 says that nothing is known.
_MOST_HOSTS = 65_535
_MOST_TRIES = 255

# Records of tries that one refresh reads.
_MOST_TRIES_READ = 5_000

# What a chunk is known from.
_NOTHING, _LISTED, _SIDECAR, _SEGMENT = range(4)


class ChunkState(StrEnum):
    """States of a chunk. Columns have their numbers in this order."""

    TODO = "todo"
    RUNNING = "running"
    WAITING = "waiting"
    FROZEN = "frozen"
    DONE = "done"
    FAILED = "failed"
    LEFT_OUT = "left_out"

    @property
    def number(self) -> int:
        """Number of the state in columns."""
        return _NUMBERS[self]


_NUMBERS = {state: number for number, state in enumerate(ChunkState)}
_STATES = tuple(ChunkState)
_IS_KNOWN = bytes([ChunkState.TODO.number, *[ChunkState.DONE.number] * 255])


class ChunkFrames:
    """Frame numbers of the chunks of a job: computed for most, and eight bytes a chunk for those of lists.

    Args:
        job: The job.
        plan: Its chunks; none where the file of their list is gone.
    """

    def __init__(self, job: RenderJobSpec, plan: ChunkPlan) -> None:
        frames = job.frames
        self._computed = frames.chunks if frames is not None else None
        # First frame and number of frames of each chunk, unless each begins after the one before.
        self.firsts, self.counts = array("i"), array("i")
        if frames is not None and len(frames.runs) == 1 and frames.step == 1:
            self.first, self.total, self.per_chunk = frames.first, frames.count, min(frames.per_chunk, frames.count)
            return
        with suppress(IndexError):
            # Raised where the list is gone.
            for chunk in plan:
                self.firsts.append(chunk.start)
                self.counts.append(chunk.count)
        self.first, self.total, self.per_chunk = (
            min(self.firsts, default=0),
            sum(self.counts),
            max(self.counts, default=1),
        )
        step = self.per_chunk
        if self.firsts == array("i", range(self.first, self.first + step * len(self.firsts), step)) and (
            self._computed is None and all(count == step for count in self.counts[:-1])
        ):
            self._computed = cut_frames((range(self.first, self.first + self.total),), step)
            self.firsts, self.counts = array("i"), array("i")

    @property
    def is_contiguous(self) -> bool:
        """Whether each chunk begins after the one before, and all but the last are equally long."""
        return not self.firsts

    def __getitem__(self, chunk: int) -> range:
        if self._computed is not None:
            return self._computed[chunk] if chunk < len(self._computed) else range(0)
        return range(self.firsts[chunk], self.firsts[chunk] + self.counts[chunk])


@dataclass
class ChunkFacts:
    """Columns of what is known of the attempts that have rendered their chunks; one number a chunk.

    Args:
        count: Number of chunks.
    """

    count: int
    source: bytearray = field(init=False)
    host: "array[int]" = field(init=False)
    render_seconds: "array[float]" = field(init=False)
    cpu_seconds: "array[float]" = field(init=False)
    peak_memory_bytes: "array[float]" = field(init=False)
    published_at: "array[float]" = field(init=False)
    tries: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.source, self.tries = bytearray(self.count), bytearray(self.count)
        self.host = array("H", bytes(2 * self.count))
        self.render_seconds, self.cpu_seconds, self.peak_memory_bytes = (
            array("f", bytes(4 * self.count)) for _ in range(3)
        )
        self.published_at = array("d", bytes(8 * self.count))

    def forget(self, chunk: int) -> None:
        """Clear what is known of a chunk but its tries."""
        self.source[chunk] = _NOTHING
        for column in (self.host, self.render_seconds, self.cpu_seconds, self.peak_memory_bytes, self.published_at):
            column[chunk] = 0


class ChunkHistory:
    """What became of each chunk of a job, as it was known at one moment.

    Args:
        facts: Columns of the attempts that have rendered their chunks.
        states: Number of the state of each chunk; see `ChunkState.number`.
        hosts: Names of the hosts; the column of hosts counts them from 1.
        frames: Frame numbers of each chunk.
        unread: Number of finished chunks of which no more is known than that.
    """

    def __init__(
        self, facts: ChunkFacts, states: bytearray, hosts: Sequence[str], frames: ChunkFrames, unread: int = 0
    ) -> None:
        self.facts = facts
        self.states = states
        self.hosts = hosts
        self.unread = unread
        self._frames = frames

    def __len__(self) -> int:
        return self.facts.count

    def state(self, chunk: int) -> ChunkState:
        """Return the state of a chunk."""
        return _STATES[self.states[chunk]]

    def frames(self, chunk: int) -> range:
        """Return the frame numbers of a chunk; none where the list of chunks is gone."""
        return self._frames[chunk]

    def host(self, chunk: int) -> str:
        """Return the host that has rendered a chunk; empty where that is not known."""
        number = self.facts.host[chunk]
        return self.hosts[number - 1] if number else ""

    def count_states(self) -> dict[ChunkState, int]:
        """Return how many chunks have each state."""
        return {state: self.states.count(state.number) for state in ChunkState}

    def find(self, *states: ChunkState) -> Iterator[int]:
        """Yield the chunks that have one of these states."""
        wanted = {state.number for state in states}
        return (chunk for chunk, number in enumerate(self.states) if number in wanted)

    @cached_property
    def tag(self) -> str:
        """Digest of the columns: another one where anything in them has changed."""
        digest = blake2b(digest_size=12)
        facts = self.facts
        for column in (self.states, facts.tries, facts.host, facts.render_seconds, facts.published_at):
            digest.update(column)
        digest.update("\n".join(self.hosts).encode())
        return digest.hexdigest()

    def columns(self) -> "ChunkColumns":
        """Return the columns as they travel."""
        facts, frames = self.facts, self._frames
        return ChunkColumns(
            count=len(self),
            first_frame=frames.first,
            total_frames=frames.total,
            frames_per_chunk=frames.per_chunk,
            first_frames="contiguous" if frames.is_contiguous else _pack(frames.firsts),
            frame_counts=_pack(frames.counts),
            hosts=tuple(self.hosts),
            state=_pack(self.states),
            host=_pack(facts.host),
            seconds=_pack(facts.render_seconds),
            memory=_pack(facts.peak_memory_bytes),
            ended=_pack(facts.published_at),
            tries=_pack(facts.tries),
            unread=self.unread,
        )


class ChunkColumns(Contract):
    """What became of each chunk, in columns: Base64 of little-endian numbers, one for each chunk."""

    count: int = Field(description="number of chunks")
    first_frame: int = Field(default=0, description="number of the first frame of the first chunk")
    total_frames: int = Field(default=0, description="number of frames of all chunks")
    frames_per_chunk: int = Field(default=1, description="frames of each chunk; of the last one at most as many")
    first_frames: str = Field(
        default="contiguous", description="`contiguous`: each chunk begins after the one before; or int32, first frames"
    )
    frame_counts: str = Field(default="", description="int32, frames of each chunk, unless they are contiguous")
    hosts: tuple[str, ...] = Field(default=(), description="names of hosts")
    state: str = Field(default="", description="uint8: todo, running, waiting, frozen, done, failed, left_out")
    host: str = Field(default="", description="uint16: place in hosts, from 1; 0 is none")
    seconds: str = Field(default="", description="float32: how long it was rendered")
    memory: str = Field(default="", description="float32: most memory that its processes had, in bytes")
    ended: str = Field(default="", description="float64: when it was published, in seconds since 1970; 0 is not")
    tries: str = Field(default="", description="uint8: how often it was tried, the one that runs included")
    unread: int = Field(default=0, description="finished chunks whose times and hosts are still being read")


def _pack(column: "bytearray | array[int] | array[float]") -> str:
    if isinstance(column, array) and sys.byteorder != "little":
        column = column[:]
        column.byteswap()
    return b64encode(column).decode("ascii")


def read_chunk_history(records: JobRecords, job: RenderJobSpec, status: JobStatus | None) -> ChunkHistory:
    """Read what became of each chunk of a job, all of it; blocking. See `HistoryReader` for readers that come again.

    Args:
        records: Records of the job.
        job: The job as it was accepted.
        status: Its status; None where Temporal has forgotten the job.
    """
    return HistoryReader(records, job).refresh(status)


class HistoryReader:
    """Read what became of each chunk of a job, again and again, at the cost of what has changed.

    Args:
        records: Records of the job; their store stays open as long as the reader is used.
        job: The job as it was accepted.
    """

    def __init__(self, records: JobRecords, job: RenderJobSpec) -> None:
        self._records = records
        self._facts = ChunkFacts(job.chunk_count)
        self._frames = ChunkFrames(job, records.read_plan(job))
        self._hosts: dict[str, int] = {}
        self._unread = RangeSet()
        self._segments: dict[SegmentName, tuple[int, bool]] = {}
        self._revoked: frozenset[tuple[str, str]] = frozenset()
        self._rerenders: list[str] = []
        self._tries: list[tuple[int, str]] = []
        # End of the newest known try of each chunk, and whether the chunk was given up with it.
        self._ends: dict[int, tuple[float, bool]] = {}
        self._read_tries: set[tuple[int, str]] = set()

    def refresh(self, status: JobStatus | None, *, most_seconds: float | None = None) -> ChunkHistory:
        """Read what has changed, and return what is known now; blocking.

        Args:
            status: Status of the job; None where Temporal has forgotten it.
            most_seconds: How long to read sidecars, each a file of its own; the next call goes on. None reads all.

        Raises:
            OSError: The store cannot be read; the next call goes on.
        """
        self._read_sidecars(most_seconds)
        self._read_segments()
        self._count_tries()
        facts = self._copy_facts()
        states = self._facts.source.translate(_IS_KNOWN)
        _lay_status(states, facts.tries, status, self._find_given_up(status))
        return ChunkHistory(facts, states, tuple(self._hosts), self._frames, len(self._unread))

    def _copy_facts(self) -> ChunkFacts:
        mine, copy = self._facts, ChunkFacts(0)
        copy.count = mine.count
        copy.source, copy.tries, copy.host = mine.source[:], mine.tries[:], mine.host[:]
        copy.render_seconds, copy.cpu_seconds = mine.render_seconds[:], mine.cpu_seconds[:]
        copy.peak_memory_bytes, copy.published_at = mine.peak_memory_bytes[:], mine.published_at[:]
        return copy

    def _read_sidecars(self, most_seconds: float | None) -> None:
        records, facts = self._records, self._facts
        rerenders = records.store.names(records.rerenders_dir)
        listed = records.list_sidecars().within(0, facts.count)
        known = _find_sources(facts.source, _LISTED, _SIDECAR)
        gone, new = RangeSet(known.ranges), RangeSet(listed.ranges)
        gone.remove_all(listed)
        new.remove_all(known)
        if rerenders != self._rerenders:
            # Records of these chunks may have been exchanged for new ones of the same name.
            gone, new, self._rerenders = known, listed, rerenders
        for chunk in gone:
            facts.forget(chunk)
        if gone:
            # What segments say of them counts now, unless it is revoked, too.
            self._segments.clear()
        for start, stop in new.ranges:
            facts.source[start:stop] = bytes([_LISTED]) * (stop - start)
        self._unread.add_all(new)
        self._unread.remove_all(gone)
        self._unread.add_all(new.overlap(gone))
        began = time.monotonic()
        while self._unread and (most_seconds is None or time.monotonic() - began < most_seconds):
            batch = list(islice(self._unread, _SIDECARS_AT_ONCE))
            for chunk, record in zip(
                batch, map_parallel(records.store, records.find_render_record, batch), strict=True
            ):
                self._unread.remove(chunk, chunk + 1)
                if record is not None:
                    self._note(chunk, record, _SIDECAR)

    def _read_segments(self) -> None:
        """Read the parts of segments that were not there before, and the one before them, which they prove."""
        segments = self._records.read_render_records()
        there = {segment.name for segment in segments.segments}
        if segments.revoked != self._revoked or not there >= self._segments.keys():
            # Rare: chunks are rendered again, or a record could not be published.
            for chunk in _find_sources(self._facts.source, _SEGMENT):
                self._facts.forget(chunk)
            self._revoked = segments.revoked
            self._segments.clear()
        rest = iter([changed for each in segments.segments if (changed := self._find_changed(each)) is not None])
        store = self._records.store
        while batch := list(islice(rest, _SEGMENTS_AT_ONCE)):
            for segment, lines in zip(batch, map_parallel(store, partial(read_segment, store), batch), strict=True):
                for found in segments.decode(segment, lines):
                    if found.is_placed:
                        self._note(int(found.record.key), found.record, _SEGMENT)
                self._segments[segment.name] = (max(segment.parts, default=-1), segment.is_closed)

    def _find_changed(self, segment: ListedSegment) -> ListedSegment | None:
        """Return what of a segment is to be read; None where all of it was."""
        last, was_closed = self._segments.get(segment.name, (-1, False))
        if was_closed or (not segment.is_closed and max(segment.parts, default=-1) == last):
            return None
        if segment.is_closed:
            return segment
        return ListedSegment(segment.name, [part for part in segment.parts if part >= last])

    def _note(self, chunk: int, record: RenderRecord, source: int) -> None:
        facts = self._facts
        if chunk >= facts.count or (source == _SEGMENT and facts.source[chunk]):
            return
        facts.source[chunk] = source
        if record.host:
            number = self._hosts.setdefault(record.host, len(self._hosts) + 1)
            facts.host[chunk] = number if number <= _MOST_HOSTS else 0
        facts.render_seconds[chunk] = record.render_seconds
        facts.cpu_seconds[chunk] = record.cpu_seconds
        facts.peak_memory_bytes[chunk] = record.peak_memory_bytes
        if record.published_at is not None:
            facts.published_at[chunk] = record.published_at.timestamp()

    def _count_tries(self) -> None:
        """Count the failed tries of each chunk, by a listing."""
        names = list_tries(self._records)
        if names == self._tries:
            return
        self._tries = names
        tries = self._facts.tries
        tries[:] = bytes(len(tries))
        for chunk, _ in names:
            if chunk < len(tries):
                tries[chunk] = min(_MOST_TRIES - 1, tries[chunk] + 1)

    def _find_given_up(self, status: JobStatus | None) -> list[int]:
        """Return the chunks that have failed for good: the status names the first of them, and records of tries all."""
        has_stopped = status is not None and status.state in (JobState.FAILED, JobState.CANCELLED)
        if status is not None and status.failed_chunks <= len(status.failures) and not has_stopped:
            return [failure.chunk for failure in status.failures] if status.failed_chunks else []
        new = [each for each in self._tries if each not in self._read_tries][:_MOST_TRIES_READ]
        for failed in read_listed_tries(self._records, new):
            end = (failed.ended.timestamp() if failed.ended else 0.0, failed.last)
            self._ends[failed.chunk] = max(self._ends.get(failed.chunk, end), end)
        self._read_tries.update(new)
        given_up = ((end, chunk) for chunk, (end, is_last) in self._ends.items() if is_last)
        newest = [chunk for _, chunk in sorted(given_up, reverse=True) if not self._is_known(chunk)]
        if status is None:
            return newest
        if has_stopped:
            # Started again for some of its chunks, it has not tried the others anew: they are as they were.
            return [*(failure.chunk for failure in status.failures), *newest]
        # Chunks that are retried had failed before: the status counts those that have not been taken up again.
        return list(dict.fromkeys([*(failure.chunk for failure in status.failures), *newest]))[: status.failed_chunks]

    def _is_known(self, chunk: int) -> bool:
        return chunk >= self._facts.count or self._facts.source[chunk] != _NOTHING


def _find_sources(source: bytearray, *wanted: int) -> RangeSet:
    """Return the chunks that are known from one of these sources."""
    table = bytes(number in wanted for number in range(256))
    flags, found, place = source.translate(table), [], 0
    while (start := flags.find(1, place)) >= 0:
        place = flags.find(0, start)
        place = len(flags) if place < 0 else place
        found.append((start, place))
    return RangeSet(found)


def _lay_status(states: bytearray, tries: bytearray, status: JobStatus | None, given_up: Iterable[int]) -> None:
    """Write what the status tells over the states of chunks that are not finished, and count the tries that run."""
    done, todo = ChunkState.DONE.number, ChunkState.TODO.number
    is_done = states.translate(bytes(number == done for number in range(256)))
    # One addition for all: as one long number, of which no byte carries over into the next.
    both = int.from_bytes(tries, "little") + int.from_bytes(is_done, "little")
    tries[:] = both.to_bytes(len(tries), "little")
    count = len(states)
    for chunk in given_up:
        if chunk < count and not is_done[chunk]:
            states[chunk] = ChunkState.FAILED.number
    if status is None:
        return
    left_out = bytes([ChunkState.LEFT_OUT.number])
    for start, stop in status.left_out:
        states[start:stop] = states[start:stop].replace(bytes([todo]), left_out)
    if status.state is JobState.COMPLETED:
        # What is in no film of a job that has completed was left out; what had failed before is known by the above.
        states[:] = states.replace(bytes([todo]), left_out)
    for running in status.running:
        if running.chunk < count and not is_done[running.chunk]:
            states[running.chunk] = _find_running_state(running).number
            tries[running.chunk] = min(_MOST_TRIES, max(tries[running.chunk] + 1, running.attempt))


def _find_running_state(running: RunningChunk) -> ChunkState:
    if running.frozen:
        return ChunkState.FROZEN
    return ChunkState.WAITING if running.waiting else ChunkState.RUNNING

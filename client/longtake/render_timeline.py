"""Tell who rendered what, and when: bars by host, for a timeline of a job, and the distribution of their lengths."""

import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from math import ceil

from pydantic import Field

from longtake.chunk_history import ChunkHistory, ChunkState
from longtake.models.fields import Contract
from longtake.models.status import JobStatus
from longtake.stores.try_records import FailedTry

# More of them are narrower than a pixel.
MOST_BARS = 5_000

_BINS = 36
_MOST_OUTLIERS = 20


class BarKind(StrEnum):
    """Kinds of bars of a timeline."""

    RENDERED = "rendered"
    FAILED = "failed"
    RUNNING = "running"
    FROZEN = "frozen"


class TimelineBar(Contract):
    """A time in which a host was at work on a chunk, or on several that are shown as one."""

    host: str
    start: float = Field(description="seconds since 1970")
    stop: float
    chunk: int = Field(description="the chunk, or the first of several")
    kind: BarKind
    chunks: int = Field(default=1, description="how many chunks it stands for")


def make_timeline(
    history: ChunkHistory,
    tries: Iterable[FailedTry],
    status: JobStatus | None,
    *,
    now: datetime,
    since: float = 0,
    most: int = MOST_BARS,
) -> list[TimelineBar]:
    """Return the bars of a timeline, by host and then by time.

    Args:
        history: What became of each chunk.
        tries: Tries that failed.
        status: Status of the job, which tells what runs; None where Temporal has forgotten it.
        now: When the status was read.
        since: Bars that end before this are left out, in seconds since 1970.
        most: How many bars are returned at most; of more, neighbours of one host and kind are merged.
    """
    bars = [*_find_rendered(history, since, most), *_find_failed(tries, since), *_find_running(history, status, now)]
    if len(bars) > most:
        bars = heapq.nlargest(most, bars, key=lambda bar: (bar.kind is not BarKind.RENDERED, bar.stop - bar.start))
    return sorted(bars, key=lambda bar: (bar.host, bar.start))


def _find_rendered(history: ChunkHistory, since: float, most: int) -> list[TimelineBar]:
    facts, hosts = history.facts, ("", *history.hosts)
    wanted = [(chunk, ended) for chunk, ended in enumerate(facts.published_at) if ended > since]
    if not wanted:
        return []
    is_many = len(wanted) > most
    began, last = min(ended for _, ended in wanted), max(ended for _, ended in wanted)
    # Of many bars those of one host are one where they end within this time.
    width = max((last - began) / max(1, most // len(hosts)), 0.001)
    found: dict[tuple[int, int], tuple[float, float, int, int]] = {}
    for chunk, ended in wanted:
        key = (facts.host[chunk], int((ended - began) / width) if is_many else chunk)
        bar = (ended - facts.render_seconds[chunk], ended, chunk, 1)
        if (before := found.get(key)) is not None:
            bar = (min(bar[0], before[0]), max(ended, before[1]), before[2], before[3] + 1)
        found[key] = bar
    return [
        TimelineBar(
            host=hosts[host],
            start=round(start, 3),
            stop=round(stop, 3),
            chunk=chunk,
            kind=BarKind.RENDERED,
            chunks=count,
        )
        for (host, _), (start, stop, chunk, count) in found.items()
    ]


def _find_failed(tries: Iterable[FailedTry], since: float) -> Iterator[TimelineBar]:
    for each in tries:
        if each.ended is not None and each.ended.timestamp() > since:
            # Of a lost worker nobody knows when it began.
            start = each.began or each.ended
            yield TimelineBar(
                host=each.host,
                start=round(start.timestamp(), 3),
                stop=round(each.ended.timestamp(), 3),
                chunk=each.chunk,
                kind=BarKind.FAILED,
            )


def _find_running(history: ChunkHistory, status: JobStatus | None, now: datetime) -> Iterator[TimelineBar]:
    for each in status.running if status is not None else ():
        if not each.host or each.waiting:
            continue
        start = each.began.timestamp() if each.began is not None else now.timestamp()
        if 0 < each.chunk < len(history) and history.host(each.chunk - 1) == each.host:
            # A span began before this chunk of it.
            start = max(start, history.facts.published_at[each.chunk - 1])
        yield TimelineBar(
            host=each.host,
            start=round(min(start, now.timestamp()), 3),
            stop=round(now.timestamp(), 3),
            chunk=each.chunk,
            kind=BarKind.FROZEN if each.frozen else BarKind.RUNNING,
        )


class SlowChunk(Contract):
    """A chunk whose frames took much longer than those of most others."""

    chunk: int
    seconds: float = Field(description="what a frame of it took")
    host: str = ""


class FrameTimes(Contract):
    """How long frames took: of each finished chunk its time through the number of its frames."""

    chunks: int = Field(default=0, description="how many chunks were measured")
    mean: float = 0
    p50: float = Field(default=0, description="half of them took no longer")
    p95: float = Field(default=0, description="19 of 20 took no longer")
    longest: float = 0
    bin_seconds: float = Field(default=0, description="width of a bin")
    bins: tuple[int, ...] = Field(
        default=(), description="how many took so long; the last one has all that took longer"
    )
    slow: tuple[SlowChunk, ...] = Field(default=(), description="the slowest outliers, the slowest first")
    slow_count: int = Field(default=0, description="how many outliers there are: beyond p75 and three times p75 - p25")


def measure_frame_times(history: ChunkHistory) -> FrameTimes:
    """Return the distribution of what a frame has taken, over the finished chunks whose times are known."""
    seconds = history.facts.render_seconds
    measured = [
        (took / max(1, len(history.frames(chunk))), chunk)
        for chunk in history.find(ChunkState.DONE)
        if (took := seconds[chunk]) > 0
    ]
    if not measured:
        return FrameTimes()
    measured.sort()
    times = [took for took, _ in measured]
    p25, p50, p75, p95 = (find_quantile(times, share) for share in (0.25, 0.5, 0.75, 0.95))
    # A spread of nothing would make outliers of all that took a little longer.
    limit = p75 + 3 * max(p75 - p25, 0.1 * p50)
    first_slow = bisect_right(times, limit)
    top = min(times[-1], max(limit, p95)) or 1.0
    width = top / _BINS
    edges = [width * number for number in range(1, _BINS)]
    places = [0, *(bisect_right(times, edge) for edge in edges), len(times)]
    slow = measured[first_slow:][: -_MOST_OUTLIERS - 1 : -1]
    return FrameTimes(
        chunks=len(times),
        mean=sum(times) / len(times),
        p50=p50,
        p95=p95,
        longest=times[-1],
        bin_seconds=width,
        bins=tuple(stop - start for start, stop in pairwise(places)),
        slow=tuple(SlowChunk(chunk=chunk, seconds=took, host=history.host(chunk)) for took, chunk in slow),
        slow_count=len(times) - first_slow,
    )


def find_quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of sorted values does not exceed (nearest rank)."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


class HostWork(Contract):
    """What a host has done for a job."""

    host: str = Field(description="its name; empty where records do not tell it")
    chunks: int = 0
    frames: int = 0
    render_seconds: float = Field(default=0, description="time in tries that succeeded")
    cpu_seconds: float = 0
    peak_memory_bytes: float = 0
    failed_tries: int = 0


def sum_up_hosts(history: ChunkHistory, tries: Iterable[FailedTry]) -> list[HostWork]:
    """Return what each host has done, the one that has rendered most first."""
    facts = history.facts
    # Chunks, frames, render seconds, CPU seconds, most memory.
    sums: dict[str, list[float]] = {}
    for chunk in history.find(ChunkState.DONE):
        own = sums.setdefault(history.host(chunk), [0, 0, 0.0, 0.0, 0.0])
        own[0] += 1
        own[1] += len(history.frames(chunk))
        own[2] += facts.render_seconds[chunk]
        own[3] += facts.cpu_seconds[chunk]
        own[4] = max(own[4], facts.peak_memory_bytes[chunk])
    failed = Counter(each.host for each in tries)
    work = [
        HostWork(
            host=host,
            chunks=int(chunks),
            frames=int(frames),
            render_seconds=round(seconds, 3),
            cpu_seconds=round(cpu, 3),
            peak_memory_bytes=memory,
            failed_tries=failed[host],
        )
        for host in sums.keys() | failed.keys()
        for chunks, frames, seconds, cpu, memory in [sums.get(host, [0, 0, 0.0, 0.0, 0.0])]
    ]
    return sorted(work, key=lambda each: (-each.render_seconds, each.host))

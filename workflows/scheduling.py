"""Which chunks are rendered next: pure decisions, no clock and no I/O, so that every one can be tested."""

from collections.abc import Iterable
from dataclasses import dataclass

from longtake.models.messages import ChunkBill, SpanReport
from longtake.models.status import JobMetrics, PauseMode, RemoteStop, RemoteStops
from longtake.names import Control
from longtake.ranges import Range, RangeSet

# Keeps a job's history below 4,000 events whatever its size: a span costs 3 events and at most one workflow task
# of 3 more (measured: 3.3 to 6 together).
MOST_SPANS = 400

# A span shorter than this spends more on Temporal than on rendering; a longer one makes a drain wait.
SPAN_SECONDS = 2.0


@dataclass(frozen=True)
class Span:
    """Consecutive chunks `[start, stop)` given to one activity.

    `failures` counts the tries of its first chunk that failed before, in this pass.
    """

    start: int
    stop: int
    failures: int = 0


class Scheduler:
    """Hands out every chunk until it is done or has failed for good, and never one that is done or running.

    Args:
        chunk_count: Chunks of the job, numbered from 0.
        limit: Spans that run at once.
        done: Chunks that need no rendering.
        passes: How often a chunk that failed is taken up again, the first time included.
    """

    def __init__(self, chunk_count: int, *, limit: int, done: Iterable[Range] = (), passes: int = 1) -> None:
        self.limit = limit
        self.chunk_count = chunk_count
        self._done = RangeSet(done)
        self._pending = self._done.gaps(0, chunk_count)
        self._failed = RangeSet()
        self._left_out = RangeSet()
        self._running: list[Span] = []
        self._tries: dict[int, int] = {}
        self._passes_left = passes - 1
        self._rendered = 0
        self._seconds = 0.0

    @property
    def done(self) -> tuple[Range, ...]:
        """Chunks that are published."""
        return self._done.ranges

    @property
    def done_count(self) -> int:
        """How many chunks are published."""
        return len(self._done)

    @property
    def failed(self) -> tuple[Range, ...]:
        """Chunks that used up the attempts of this pass."""
        return self._failed.ranges

    @property
    def failed_count(self) -> int:
        """How many chunks used up the attempts of this pass."""
        return len(self._failed)

    def has_failed(self, chunk: int) -> bool:
        """Tell whether a chunk stands as failed."""
        return chunk in self._failed

    @property
    def left_out(self) -> tuple[Range, ...]:
        """Chunks that nobody wants any more."""
        return self._left_out.ranges

    @property
    def left_out_count(self) -> int:
        """How many chunks nobody wants any more."""
        return len(self._left_out)

    @property
    def pending(self) -> tuple[Range, ...]:
        """Chunks that wait for a span of this pass."""
        return self._pending.ranges

    @property
    def running(self) -> tuple[Span, ...]:
        """Spans handed out and not heard of again."""
        return tuple(self._running)

    @property
    def failed_for_good(self) -> bool:
        """Whether a chunk has failed and no pass is left that would take it up again."""
        return bool(self._failed) and self._passes_left == 0

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing is left to hand out."""
        return not self._running and not self._pending and (not self._failed or self._passes_left == 0)

    @property
    def mean_seconds(self) -> float | None:
        """What a chunk took on average, of those measured."""
        return self._seconds / self._rendered if self._rendered else None

    def take(self) -> list[Span]:
        """Return the spans to start now, and count them as running."""
        if self._failed and self._passes_left > 0 and not self._pending and not self._running:
            self._pending, self._failed = self._failed, RangeSet()
            self._passes_left -= 1
        taken = []
        while self._pending and len(self._running) < self.limit:
            taken.append(self._cut())
            self._running.append(taken[-1])
        return taken

    def retry(self, ranges: Iterable[Range] = ()) -> int:
        """Take up failed chunks again, and named ones that were left out; return how many.

        Args:
            ranges: Which; none means all failed ones.
        """
        count = 0
        for start, stop in tuple(ranges) or self._failed.ranges:
            again = RangeSet((*self._failed.within(start, stop).ranges, *self._left_out.within(start, stop).ranges))
            count += len(again)
            for low, high in again.ranges:
                self._failed.remove(low, high)
                self._left_out.remove(low, high)
                self._pend(low, high)
        return count

    def leave_out(self, ranges: Iterable[Range]) -> int:
        """Render these chunks no more; return how many that changes. Those that are published stay so."""
        before = len(self._left_out)
        for start, stop in ranges:
            for low, high in self._done.gaps(max(0, start), min(stop, self.chunk_count)).ranges:
                self._left_out.add(low, high)
                self._pending.remove(low, high)
                self._failed.remove(low, high)
        return len(self._left_out) - before

    def wants(self, span: Span) -> bool:
        """Tell whether a running span still holds chunks that are wanted."""
        return bool(self._left_out.gaps(span.start, span.stop))

    def report(
        self, span: Span, *, done: Iterable[Range] = (), failed: Iterable[Range] = (), tries: int = 0,
        rendered: int = 0, seconds: float = 0.0,
    ) -> None:  # fmt: skip
        """Take a span back: what is neither done nor failed is pending again.

        Args:
            span: As it was handed out.
            done: Its published chunks.
            failed: Its chunks that used up their attempts.
            tries: Failed tries of the first chunk that is pending again.
            rendered: Chunks that were measured.
            seconds: What those took together.
        """
        self._running.remove(span)
        for start, stop in done:
            self._done.add(max(start, span.start), min(stop, span.stop))
            # Somebody did not want it, and it was published before anyone could stop it.
            self._left_out.remove(max(start, span.start), min(stop, span.stop))
        left = self._done.gaps(span.start, span.stop)
        for start, stop in self._left_out.within(span.start, span.stop).ranges:
            left.remove(start, stop)
        for start, stop in failed:
            # What is published has not failed, whatever became of the try that says so.
            for low, high in left.within(start, stop).ranges:
                self._failed.add(low, high)
                left.remove(low, high)
        for start, stop in left.ranges:
            self._pending.add(start, stop)
        if left and tries:
            self._tries[left.front[0]] = tries
        self._rendered += rendered
        self._seconds += seconds

    def _pend(self, start: int, stop: int) -> None:
        """Make chunks pending that no running span will report."""
        wanted = RangeSet([(start, stop)])
        for span in self._running:
            wanted.remove(span.start, span.stop)
        for low, high in wanted.ranges:
            self._pending.add(low, high)

    def _cut(self) -> Span:
        start, stop = self._pending.front
        # In huge jobs a span may reach over chunks that are done: skipping them costs less than a span each.
        end = self.chunk_count if self._least_size() > 1 else stop
        # A chunk with failed tries begins a span, because only a span's first chunk can bring its count along.
        edges = [*self._tries, *(span.start for span in self._running)]
        stop = min([start + self._span_size(), end, *(edge for edge in edges if edge > start)])
        # A chunk that failed waits for the next pass, and one that was left out for nothing.
        stop = min(each.gaps(start, stop).front[1] for each in (self._failed, self._left_out))
        self._pending.remove(start, stop)
        return Span(start, stop, self._tries.pop(start, 0))

    def _least_size(self) -> int:
        return -(-self.chunk_count // MOST_SPANS)

    def _span_size(self) -> int:
        mean = self.mean_seconds
        if mean is None:
            return self._least_size()
        short = int(SPAN_SECONDS / max(mean, 0.001))
        # Towards the end spans shrink, so that the last worker does not work alone.
        share = -(-len(self._pending) // (2 * self.limit))
        return max(self._least_size(), min(short, share))


# A status that lists every one would not fit a payload.
MOST_STOPS = 20


class Totals:
    """Adds up the reports of a job's spans."""

    def __init__(self) -> None:
        self.stops = RemoteStops()
        self._sums = JobMetrics()
        self._open: dict[int, ChunkBill] = {}

    @property
    def metrics(self) -> JobMetrics:
        """The sums; of chunks that are not published, each with its latest bill."""
        seconds = sum(bill.seconds for bill in self._open.values())
        usd = sum(bill.usd for bill in self._open.values())
        return self._sums.model_copy(
            update={
                "billed_seconds": round(self._sums.billed_seconds + seconds, 3),
                "cost_usd": round(self._sums.cost_usd + usd, 9),
            }
        )

    def add(self, report: SpanReport) -> None:
        """Take in what a span came to."""
        sums = self._sums
        self._sums = sums.model_copy(
            update={
                "render_seconds": sums.render_seconds + report.render_seconds,
                "cpu_seconds": round(sums.cpu_seconds + report.cpu_seconds, 3),
                "peak_memory_bytes": max(sums.peak_memory_bytes, report.peak_memory_bytes),
                "billed_seconds": sums.billed_seconds + report.billed_seconds,
                "cost_usd": sums.cost_usd + report.cost_usd,
            }
        )
        if self._open:
            # The bill of a chunk that is published holds what was open of it.
            for chunk in [chunk for chunk in self._open if any(start <= chunk < stop for start, stop in report.done)]:
                del self._open[chunk]
        self._open |= {bill.chunk: bill for bill in report.open_bills}
        if report.stops:
            self.stops = _with_stops(self.stops, report.stops)

    def forget_stops(self) -> None:
        """Begin anew: the job goes on, and what it stopped before is history."""
        self.stops = RemoteStops()


def _with_stops(stops: RemoteStops, more: Iterable[RemoteStop]) -> RemoteStops:
    more = tuple(more)
    silent = tuple(stop for stop in more if not stop.confirmed)
    heard = [stop.seconds for stop in more if stop.confirmed]
    return RemoteStops(
        where=next((stop.where for stop in more if stop.where), stops.where),
        confirmed=stops.confirmed + len(heard),
        slowest_seconds=round(max([stops.slowest_seconds, *heard]), 3),
        unconfirmed_count=stops.unconfirmed_count + len(silent),
        unconfirmed=(*stops.unconfirmed, *silent)[:MOST_STOPS],
    )


class PauseOrders:
    """The pause in force, if there is one; requests may come at any time, in any order and twice."""

    def __init__(self) -> None:
        self.pause_mode: PauseMode | None = None
        self._freezes = 0

    @property
    def paused(self) -> bool:
        """Whether nothing new may start."""
        return self.pause_mode is not None

    @property
    def freeze(self) -> int:
        """Number of the freeze in force, by which answers to an earlier one are told apart; 0 when there is none."""
        return self._freezes if self.pause_mode is PauseMode.FREEZE else 0

    @property
    def control(self) -> Control:
        """What workers are told."""
        if self.pause_mode is None:
            return Control.RUN
        return Control.FREEZE if self.freeze else Control.DRAIN

    def pause(self, mode: PauseMode) -> None:
        """Pause, or harden the pause in force; a softer request changes nothing."""
        if self.pause_mode is None or mode.is_harder_than(self.pause_mode):
            self.pause_mode = mode
            self._freezes += mode is PauseMode.FREEZE

    def resume(self) -> None:
        """Take back the pause."""
        self.pause_mode = None

"""Know which chunks of a job are pending, running, done, failed or left out, and how long chunks take.

Pure, as the scheduling is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from longtake.models.continuation import ChunkTries, SavedChunks
from longtake.ranges import Range, RangeSet

# What a chunk takes at least: to start a process, to check and to publish are not in the measured seconds.
_LEAST_CHUNK_SECONDS = 0.01

# Parts of a job whose durations are learned apart. Neighbours are alike: a film has quiet scenes and heavy ones.
_REGIONS = 64

# What one more measured chunk weighs in the mean of its region.
_WEIGHT = 0.1

# From so many failed chunks on, spans of a job where nothing is rendered hold several, too: before that, the next
# failure may be the one that ends the job.
_MANY_FAILURES = 100

# Chunks whose tries travel one by one to the next run of a job; see `JobContinuation`.
_MOST_SAVED = 2000


class Tries(NamedTuple):
    """What became of the tries of a chunk in this pass: failed ones, and workers that were lost while they rendered.

    Where the next one has to wait, it is due at a time, in seconds since 1970.
    """

    failures: int = 0
    losses: int = 0
    next_try_at: float = 0

    @classmethod
    def read(cls, saved: ChunkTries) -> "Tries":
        """Return what a run before, or a batch, has saved."""
        return cls(saved.failures, saved.losses, saved.next_try_at)


NO_TRIES = Tries()


@dataclass(frozen=True)
class Span:
    """Consecutive chunks `[start, stop)` given to one activity.

    Attributes:
        tries: Tries of the first chunk before.
        split: Number of the last order to split when it began; it obeys later ones.
        slots: How many of its chunks run at once.
        is_batch: Whether it is given to a workflow of its own, which cuts it into spans.
        chunks: Of a batch, how many it has to render: it may hold others that are done.
    """

    start: int
    stop: int
    tries: Tries = NO_TRIES
    split: int = 0
    slots: int = 1
    is_batch: bool = False
    chunks: int = 0

    @property
    def may_give_back(self) -> bool:
        """Whether it may hold chunks that have not begun: the first ones begin at once."""
        return (self.chunks or self.stop - self.start) > self.slots


class Durations:
    """What chunks take, learned by region: the latest of a region count most, and a new region is as its nearest.

    Args:
        chunk_count: Chunks of the job.
        means: Seconds of a chunk by region, as learned before.
    """

    def __init__(self, chunk_count: int, means: Mapping[int, float] | None = None) -> None:
        self._width = max(1, -(-chunk_count // _REGIONS))
        self.means = dict(means or {})

    def learn(self, span: Range, chunks: int, seconds: float) -> None:
        """Learn what some chunks of a span took together."""
        if chunks <= 0:
            return
        regions = self._regions(span)
        weight = 1 - (1 - _WEIGHT) ** (chunks / len(regions))
        for region in regions:
            before = self.means.get(region, seconds / chunks)
            self.means[region] = before + weight * (seconds / chunks - before)

    def adopt(self, span: Range, means: Mapping[int, float]) -> None:
        """Take over what others have learned of the regions of a span."""
        for region in self._regions(span):
            if region in means:
                self.means[region] = means[region]

    def save(self) -> dict[int, float]:
        """Return the means, rounded."""
        return {region: round(mean, 4) for region, mean in self.means.items()}

    def estimate(self, chunk: int) -> float | None:
        """Return what a chunk may take; None before anything is known."""
        region = chunk // self._width
        nearest = min(self.means, key=lambda known: (abs(known - region), known), default=None)
        return None if nearest is None else max(self.means[nearest], _LEAST_CHUNK_SECONDS)

    def _regions(self, span: Range) -> range:
        start, stop = span
        return range(start // self._width, (stop - 1) // self._width + 1)


class ChunkStates:
    """The chunks of a job, each in one state: pending, running, done, failed for this pass, or left out.

    Args:
        chunk_count: Chunks of the job, numbered from 0.
        saved: What `save` has returned.
    """

    def __init__(self, chunk_count: int, saved: SavedChunks) -> None:
        self.chunk_count = chunk_count
        self._done = RangeSet(saved.done)
        self._failed = RangeSet(saved.failed)
        self._left_out = RangeSet(saved.left_out)
        self._pending = RangeSet([(0, chunk_count)])
        for settled in (self._done, self._failed, self._left_out):
            self._pending.remove_all(settled)
        self._running: list[Span] = []
        self._tries = {each.chunk: Tries.read(each) for each in saved.tries}
        self._passes_left = saved.passes_left
        self._rendered = saved.measured
        self._seconds = saved.seconds
        self._durations = Durations(chunk_count, saved.means)

    def save(self) -> SavedChunks:
        """Return all that must be known to go on, while no span runs."""
        return SavedChunks(
            done=self._done.ranges,
            failed=self._failed.ranges,
            left_out=self._left_out.ranges,
            tries=self._save_tries(0, self.chunk_count),
            passes_left=self._passes_left,
            measured=self._rendered,
            seconds=self._seconds,
            means=self._durations.save(),
        )

    @property
    def done(self) -> tuple[Range, ...]:
        """The chunks that are published."""
        return self._done.ranges

    @property
    def done_count(self) -> int:
        """Number of published chunks."""
        return len(self._done)

    @property
    def failed(self) -> tuple[Range, ...]:
        """The chunks that used up their tries in this pass."""
        return self._failed.ranges

    @property
    def failed_count(self) -> int:
        """Number of chunks that used up their tries in this pass."""
        return len(self._failed)

    def has_failed(self, chunk: int) -> bool:
        """Return whether a chunk counts as failed."""
        return chunk in self._failed

    @property
    def left_out(self) -> tuple[Range, ...]:
        """The chunks that were skipped on request."""
        return self._left_out.ranges

    @property
    def left_out_count(self) -> int:
        """Number of chunks that were skipped on request."""
        return len(self._left_out)

    @property
    def pending(self) -> tuple[Range, ...]:
        """The chunks that this pass has not assigned to a span yet."""
        return self._pending.ranges

    @property
    def running(self) -> tuple[Span, ...]:
        """The spans that are assigned and not finished."""
        return tuple(self._running)

    @property
    def running_count(self) -> int:
        """Number of slots that are taken."""
        return sum(span.slots for span in self._running)

    @property
    def has_more(self) -> bool:
        """Whether spans are to be started, now or when those that run have ended."""
        return bool(self._pending) or (bool(self._failed) and self._passes_left > 0)

    @property
    def is_finished(self) -> bool:
        """Whether no span runs and no chunk is left to assign."""
        return not self._running and not self._pending and (not self._failed or self._passes_left == 0)

    @property
    def has_failed_for_good(self) -> bool:
        """Whether a chunk has failed and no pass is left that would take it up again."""
        return bool(self._failed) and self._passes_left == 0

    @property
    def has_passes_left(self) -> bool:
        """Whether chunks that fail now are taken up again by another pass."""
        return self._passes_left > 0

    @property
    def mean_seconds(self) -> float | None:
        """Mean seconds of the chunks that were measured; None before the first one."""
        return self._seconds / self._rendered if self._rendered else None

    def is_wanted(self, span: Span) -> bool:
        """Return whether a running span has chunks that are not left out."""
        return bool(self._left_out.gaps(span.start, span.stop))

    def published_within(self, span: Span) -> tuple[Range, ...]:
        """Return the chunks of a span that are done: their time and cost are counted, and must not be again."""
        return self._done.within(span.start, span.stop).ranges

    def begin_pass_if_due(self) -> None:
        """Make failed chunks pending again where all others are settled and a pass is left."""
        if self._failed and self._passes_left > 0 and not self._pending and not self._running:
            self._pending, self._failed = self._failed, RangeSet()
            self._passes_left -= 1

    def retry(self, ranges: Iterable[Range] = ()) -> int:
        """Make failed chunks pending again, and left out ones that are named; return how many.

        Args:
            ranges: The chunks; none means all failed ones.
        """
        asked = RangeSet(ranges)
        again = self._failed.overlap(asked) if asked else RangeSet(self._failed.ranges)
        again.add_all(self._left_out.overlap(asked))
        self._failed.remove_all(again)
        self._left_out.remove_all(again)
        count = len(again)
        for span in self._running:
            # The end of their span decides about those.
            again.remove(span.start, span.stop)
        self._pending.add_all(again)
        return count

    def end_waits(self) -> None:
        """Have the next try of each pending chunk begin at once."""
        self._tries = {chunk: each._replace(next_try_at=0) for chunk, each in self._tries.items()}

    def leave_out(self, ranges: Iterable[Range]) -> int:
        """Leave chunks out of the job; return how many that changes. Published chunks stay published."""
        before = len(self._left_out)
        wanted = RangeSet((max(0, start), min(stop, self.chunk_count)) for start, stop in ranges)
        wanted.remove_all(self._done)
        self._left_out.add_all(wanted)
        self._pending.remove_all(wanted)
        self._failed.remove_all(wanted)
        return len(self._left_out) - before

    def finish_span(
        self, span: Span, *, done: Iterable[Range] = (), failed: Iterable[Range] = (), tries: Tries = NO_TRIES,
        rendered: int = 0, seconds: float = 0.0, elapsed: float = 0.0,
    ) -> None:  # fmt: skip
        """Record the end of a span: its chunks that are neither done nor failed become pending again.

        Args:
            span: The span as it was assigned.
            done: Its published chunks.
            failed: Its chunks that used up their tries.
            tries: Tries of the first chunk that is pending again.
            rendered: Number of chunks that were measured.
            seconds: Seconds that those took together.
            elapsed: Time from the start of the span to its end; where none was measured, what failed chunks took.
        """
        failed = tuple(failed)
        left = self._settle(span, done, failed)
        if left and any(tries):
            self._tries[left.front[0]] = tries
        self._rendered += rendered
        self._seconds += seconds
        if rendered > 0:
            self._durations.learn((span.start, span.stop), rendered, seconds)
        elif elapsed and len(self._failed) > _MANY_FAILURES:
            self._durations.learn((span.start, span.stop), sum(stop - start for start, stop in failed), elapsed)

    def save_batch(self, batch: Span) -> SavedChunks:
        """Return what must be known to render the chunks of a batch; all others count as left out there."""
        others = RangeSet([(0, batch.start), (batch.stop, self.chunk_count)])
        for settled in (self._failed, self._left_out):
            others.add_all(settled.within(batch.start, batch.stop))
        return SavedChunks(
            done=self._done.within(batch.start, batch.stop).ranges,
            left_out=others.ranges,
            tries=self._save_tries(batch.start, batch.stop),
            means=self._durations.save(),
        )

    def finish_batch(self, batch: Span, saved: SavedChunks | None) -> None:
        """Record the end of a batch: its chunks that are neither done nor failed become pending again.

        Args:
            batch: The batch as it was assigned.
            saved: What its own scheduler has saved; None where it ended without a word.
        """
        saved = saved or SavedChunks()
        self._settle(batch, saved.done, saved.failed)
        for chunk in [chunk for chunk in self._tries if batch.start <= chunk < batch.stop]:
            del self._tries[chunk]
        self._tries |= {each.chunk: Tries.read(each) for each in saved.tries if each.chunk in self._pending}
        self._rendered += saved.measured
        self._seconds += saved.seconds
        self._durations.adopt((batch.start, batch.stop), saved.means)

    def _settle(self, span: Span, done: Iterable[Range], failed: Iterable[Range]) -> RangeSet:
        """Count what has become of the chunks of a span, and return those that are pending again."""
        self._running.remove(span)
        for start, stop in done:
            self._done.add(max(start, span.start), min(stop, span.stop))
            # A chunk that was skipped and published before its render could be stopped is done, not left out.
            self._left_out.remove(max(start, span.start), min(stop, span.stop))
        left = self._done.gaps(span.start, span.stop)
        for start, stop in self._left_out.within(span.start, span.stop).ranges:
            left.remove(start, stop)
        if span.is_batch:
            # It has passed over those that had failed before.
            left.remove_all(self._failed.within(span.start, span.stop))
        for start, stop in failed:
            # A published chunk has not failed, whatever a later try of it reports.
            for low, high in left.within(start, stop).ranges:
                self._failed.add(low, high)
                left.remove(low, high)
        if span.is_batch:
            self._pending.add_all(left)
        else:
            for start, stop in left.ranges:
                self._pending.add(start, stop)
        return left

    def _save_tries(self, start: int, stop: int) -> tuple[ChunkTries, ...]:
        tries = [
            ChunkTries(chunk=chunk, failures=each.failures, losses=each.losses, next_try_at=each.next_try_at)
            for chunk, each in self._tries.items()
            if start <= chunk < stop
        ]
        return tuple(tries[-_MOST_SAVED:])

"""Decide which chunks of a job render next, and which pause is in force.

Pure: no clock, no I/O, nothing of Temporal, so that a workflow can replay each decision and a test can make it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from longtake.models.continuation import ChunkTries, SavedChunks
from longtake.models.status import PauseMode
from longtake.names import Control
from longtake.ranges import Range, RangeSet
from workflows.durations import Durations

# Work of a span, where its chunks are not longer: what a span costs in Temporal, 20 to 50 ms, is nothing beside it, and
# what was learned while it ran still decides about most of the job.
SPAN_SECONDS = 10.0

# Of jobs whose renderer stays for a span and is started anew for the next: what costs minutes to start.
_SESSION_SECONDS = 600.0

# Spans of one workflow run at most: each costs 3 events and at most one workflow task of 3 more (measured: 3.3 to 6
# together), and no history passes 4,000.
SPANS_A_RUN = 600

# A job goes on in a new run when all have come back: the order is heard within a second, and the new run begins within
# another half. Spans are longer, so that this takes a two-hundredth of their time.
_CONTINUATION_SECONDS = 1.5
_CONTINUATION_SHARE = 0.005

# Spans that one workflow runs at once: each has 6 events ahead of the 4,000 of a history, and Temporal allows 2,000
# activities. Jobs that may run more run them in batches.
MOST_RUNNING = 500

# Spans that a batch runs at once, about. With fewer, each slot is filled anew more often before a history is full, and
# the job has more batches to tell of a pause.
BATCH_SLOTS = 100

# Spans whose events a batch costs its job.
SPANS_A_BATCH = 2

# Chunks of a span, those that it passes over included: its order and its report fit a bitmap of 1 KiB.
WIDEST_SPAN = 5000

# From so many failed chunks on, spans of a job where nothing is rendered hold several, too: before that, the next
# failure may be the one that ends the job.
_MANY_FAILURES = 100

# Chunks whose tries travel one by one to the next run of a job; see `JobContinuation`.
_MOST_SAVED = 2000


class Tries(NamedTuple):
    """What became of the tries of a chunk in this pass: failed ones, and workers that were lost while they rendered."""

    failures: int = 0
    losses: int = 0


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


class Scheduler:
    """Cuts the chunks of a job into spans, and knows which are pending, running, done, failed or left out.

    Each chunk is assigned until it is done or has failed for good, and none while it is done or running. A span is a
    share of what is left, so that the last ones end together. Where an estimate was wrong and slots idle at the end,
    `order_split` has the running spans give back what they have not begun.

    Args:
        chunk_count: Chunks of the job, numbered from 0.
        limit: Most spans that run at once; may be set anew at any time.
        done: Chunks that need no rendering.
        passes: How often the job goes over its failed chunks, the first pass included.
        saved: What `save` has returned, in place of the last two.
        has_sessions: Whether each span starts a program that should have much to do.
    """

    def __init__(
        self,
        chunk_count: int,
        *,
        limit: int,
        done: Iterable[Range] = (),
        passes: int = 1,
        saved: SavedChunks | None = None,
        has_sessions: bool = False,
    ) -> None:
        saved = saved or SavedChunks(done=tuple(done), passes_left=passes - 1)
        self._has_sessions = has_sessions
        self.limit = limit
        self.chunk_count = chunk_count
        self._done = RangeSet(saved.done)
        self._failed = RangeSet(saved.failed)
        self._left_out = RangeSet(saved.left_out)
        self._pending = RangeSet([(0, chunk_count)])
        for settled in (self._done, self._failed, self._left_out):
            self._pending.remove_all(settled)
        self._running: list[Span] = []
        self._tries = {each.chunk: Tries(each.failures, each.losses) for each in saved.tries}
        self._passes_left = saved.passes_left
        self._rendered = saved.measured
        self._seconds = saved.seconds
        self._durations = Durations(chunk_count, saved.means)
        self._splits = 0

    def save(self) -> SavedChunks:
        """Return all that must be known to go on, while no span runs."""
        tries = [
            ChunkTries(chunk=chunk, failures=each.failures, losses=each.losses) for chunk, each in self._tries.items()
        ]
        return SavedChunks(
            done=self._done.ranges,
            failed=self._failed.ranges,
            left_out=self._left_out.ranges,
            tries=tuple(tries[-_MOST_SAVED:]),
            passes_left=self._passes_left,
            measured=self._rendered,
            seconds=self._seconds,
            means=self._durations.save(),
        )

    @property
    def has_more(self) -> bool:
        """Whether spans are to be started, now or when those that run have ended."""
        return bool(self._pending) or (bool(self._failed) and self._passes_left > 0)

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
    def excess(self) -> int:
        """Number of taken slots beyond the limit."""
        return self.running_count - self.limit

    @property
    def has_failed_for_good(self) -> bool:
        """Whether a chunk has failed and no pass is left that would take it up again."""
        return bool(self._failed) and self._passes_left == 0

    @property
    def has_passes_left(self) -> bool:
        """Whether chunks that fail now are taken up again by another pass."""
        return self._passes_left > 0

    @property
    def is_finished(self) -> bool:
        """Whether no span runs and no chunk is left to assign."""
        return not self._running and not self._pending and (not self._failed or self._passes_left == 0)

    @property
    def splits(self) -> int:
        """Number of the last order to split; 0 before the first one."""
        return self._splits

    @property
    def needs_split(self) -> bool:
        """Whether slots idle while spans hold chunks that they have not begun, and were not told to give back."""
        if self._pending or not self._running or self.running_count >= self.limit:
            return False
        if any(span.is_batch for span in self._running) and (self.limit - self.running_count) * 4 < self.limit:
            # Each batch that is asked costs its job some events: not for a few slots.
            return False
        return any(span.split == self._splits and span.may_give_back for span in self._running)

    def order_split(self) -> int:
        """Have the spans that run give back what they have not begun at their next chunk; return the order's number."""
        self._splits += 1
        return self._splits

    @property
    def mean_seconds(self) -> float | None:
        """Mean seconds of the chunks that were measured; None before the first one."""
        return self._seconds / self._rendered if self._rendered else None

    def assign_spans(self, most: int = SPANS_A_RUN) -> list[Span]:
        """Return the spans to start now, and count them as running.

        Args:
            most: How many spans the history of the job still has room for.
        """
        if self._failed and self._passes_left > 0 and not self._pending and not self._running:
            self._pending, self._failed = self._failed, RangeSet()
            self._passes_left -= 1
        assigned: list[Span] = []
        free = self.limit - self.running_count
        while self._pending and free > 0 and most > 0:
            if self.limit > MOST_RUNNING:
                count = -(-self.limit // BATCH_SLOTS)
                slots = min(-(-self.limit // count), len(self._pending))
                # Slots that spans of before leave one by one are gathered.
                if free < slots // 2 or most < SPANS_A_BATCH:
                    break
                span = self._cut_batch(min(free, slots), count)
            else:
                span = self._cut_span(most)
            most -= SPANS_A_BATCH if span.is_batch else 1
            free -= span.slots
            assigned.append(span)
            self._running.append(span)
        return assigned

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

    def leave_out(self, ranges: Iterable[Range]) -> int:
        """Leave chunks out of the job; return how many that changes. Published chunks stay published."""
        before = len(self._left_out)
        wanted = RangeSet((max(0, start), min(stop, self.chunk_count)) for start, stop in ranges)
        wanted.remove_all(self._done)
        self._left_out.add_all(wanted)
        self._pending.remove_all(wanted)
        self._failed.remove_all(wanted)
        return len(self._left_out) - before

    def is_wanted(self, span: Span) -> bool:
        """Return whether a running span has chunks that are not left out."""
        return bool(self._left_out.gaps(span.start, span.stop))

    def published_within(self, span: Span) -> tuple[Range, ...]:
        """Return the chunks of a span that are done: their time and cost are counted, and must not be again."""
        return self._done.within(span.start, span.stop).ranges

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

    def _cut_batch(self, slots: int, count: int) -> Span:
        """Cut an equal share of what is left: one more batch costs more than a span, and one that lags is recalled."""
        start = self._pending.front[0]
        stop = self._pending.reach(max(slots, -(-len(self._pending) // count)))
        stop = min([stop, *(span.start for span in self._running if span.start > start)])
        chunks = len(self._pending.within(start, stop))
        self._pending.remove(start, stop)
        return Span(start, stop, split=self._splits, slots=min(slots, chunks), is_batch=True, chunks=chunks)

    def save_batch(self, batch: Span) -> SavedChunks:
        """Return what must be known to render the chunks of a batch; all others count as left out there."""
        others = RangeSet([(0, batch.start), (batch.stop, self.chunk_count)])
        for settled in (self._failed, self._left_out):
            others.add_all(settled.within(batch.start, batch.stop))
        tries = [
            ChunkTries(chunk=chunk, failures=each.failures, losses=each.losses)
            for chunk, each in self._tries.items()
            if batch.start <= chunk < batch.stop
        ]
        return SavedChunks(
            done=self._done.within(batch.start, batch.stop).ranges,
            left_out=others.ranges,
            tries=tuple(tries[-_MOST_SAVED:]),
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
        self._tries |= {
            each.chunk: Tries(each.failures, each.losses) for each in saved.tries if each.chunk in self._pending
        }
        self._rendered += saved.measured
        self._seconds += saved.seconds
        self._durations.adopt((batch.start, batch.stop), saved.means)

    def _cut_span(self, most: int) -> Span:
        start = self._pending.front[0]
        # A span passes over chunks that are done: skipping them costs less than a span for each gap.
        end = min(self._pending.reach(self._span_size(start, most)), start + WIDEST_SPAN)
        # A chunk with failed tries must begin a span, because an order carries the tries of its first chunk alone.
        edges = [*self._tries, *(span.start for span in self._running)]
        stop = min([end, *(edge for edge in edges if edge > start)])
        # A failed chunk waits for the next pass, and a left out one is not rendered at all.
        stop = min(each.gaps(start, stop).front[1] for each in (self._failed, self._left_out))
        self._pending.remove(start, stop)
        return Span(start, stop, self._tries.pop(start, NO_TRIES), self._splits)

    def _span_size(self, start: int, most: int) -> int:
        seconds = self._durations.estimate(start)
        if self._has_sessions:
            # All that is left, at once: where slots idle later, spans give back what they have not begun.
            share = -(-len(self._pending) // max(1, self.limit - self.running_count))
            return max(1, share if seconds is None else min(share, int(_SESSION_SECONDS / seconds)))
        if seconds is None:
            return 1
        # Half of what is left for one round of all slots, the other half for the next: the last ones end together.
        # Where the history has no room for that many rounds, all of it: what is left over at the end is split.
        rounds = 2 if most > 3 * self.limit else 1
        share = -(-len(self._pending) // (rounds * self.limit))
        fitting = len(self._pending) * seconds / most
        # All wait for the longest of the chunks that run then.
        lost = _CONTINUATION_SECONDS + 2 * seconds
        worthwhile = lost * self.limit / SPANS_A_RUN / _CONTINUATION_SHARE
        span_seconds = max(SPAN_SECONDS, min(fitting, worthwhile))
        return max(1, min(share, int(span_seconds / seconds)))


class PauseState:
    """The pause in force, if there is one; pauses and resumes may come at any time, in any order and twice.

    Args:
        mode: The pause of the run before, if there was one.
        freezes: Freezes before.

    Attributes:
        mode: How hard the pause is; None when the job is not paused.
        freezes: Number of freezes so far.
    """

    def __init__(self, mode: PauseMode | None = None, freezes: int = 0) -> None:
        self.mode = mode
        self.freezes = freezes

    @property
    def is_paused(self) -> bool:
        """Whether no chunk may be started."""
        return self.mode is not None

    @property
    def freeze_number(self) -> int:
        """Number of the freeze in force, 0 without one; tells answers to an earlier freeze from those to this one."""
        return self.freezes if self.mode is PauseMode.FREEZE else 0

    @property
    def control(self) -> Control:
        """The order to the workers that render chunks of the job."""
        if self.mode is None:
            return Control.RUN
        return Control.FREEZE if self.freeze_number else Control.DRAIN

    def pause(self, mode: PauseMode) -> None:
        """Set a pause, or harden the one in force; a softer request changes nothing."""
        if self.mode is None or mode.is_harder_than(self.mode):
            self.mode = mode
            self.freezes += mode is PauseMode.FREEZE

    def resume(self) -> None:
        """End the pause."""
        self.mode = None

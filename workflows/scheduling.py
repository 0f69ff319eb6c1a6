"""Decide which chunks of a job render next, and which pause is in force.

Pure: no clock, no I/O, nothing of Temporal, so that a workflow can replay each decision and a test can make it.
"""

from collections.abc import Iterable

from longtake.models.continuation import SavedChunks
from longtake.models.status import PauseMode
from longtake.names import Control
from longtake.ranges import Range
from workflows.chunk_states import NO_TRIES, ChunkStates, Span

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

# Of the scheduling before spans were shares: a history of any job was to stay below 4,000 events.
MOST_FLOORED_SPANS = 400
FLOORED_SPAN_SECONDS = 2.0


class Scheduler(ChunkStates):
    """Cuts the pending chunks of a job into spans.

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
        super().__init__(chunk_count, saved or SavedChunks(done=tuple(done), passes_left=passes - 1))
        self._has_sessions = has_sessions
        self.limit = limit
        self._splits = 0

    @property
    def excess(self) -> int:
        """Number of taken slots beyond the limit."""
        return self.running_count - self.limit

    def assign_spans(self, most: int = SPANS_A_RUN) -> list[Span]:
        """Return the spans to start now, and count them as running.

        Args:
            most: How many spans the history of the job still has room for.
        """
        self.begin_pass_if_due()
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

    def _cut_span(self, most: int) -> Span:
        start = self._pending.front[0]
        # A span passes over chunks that are done: skipping them costs less than a span for each gap.
        end = min(self._pending.reach(self._span_size(start, most)), start + WIDEST_SPAN)
        # A chunk with failed tries must begin a span, because an order carries the tries of its first chunk alone.
        edges = [*self._tries, *(span.start for span in self._running)]
        stop = min([end, *(edge for edge in edges if edge > start)])
        # A failed chunk waits for the next pass, and a left out one is not rendered at all.
        stop = min(each.gaps(start, stop).front[1] for each in (self._failed, self._left_out))
        tries = self._tries.pop(start, NO_TRIES)
        if tries.next_try_at:
            # No other chunk waits with it.
            stop = start + 1
        self._pending.remove(start, stop)
        return Span(start, stop, tries, self._splits)

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

    def _cut_batch(self, slots: int, count: int) -> Span:
        """Cut an equal share of what is left: one more batch costs more than a span, and one that lags is recalled."""
        start = self._pending.front[0]
        stop = self._pending.reach(max(slots, -(-len(self._pending) // count)))
        stop = min([stop, *(span.start for span in self._running if span.start > start)])
        chunks = len(self._pending.within(start, stop))
        self._pending.remove(start, stop)
        return Span(start, stop, split=self._splits, slots=min(slots, chunks), is_batch=True, chunks=chunks)

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


class FlooredScheduler(Scheduler):
    """Cuts spans as jobs did that began before spans were shares: 400 at most, whatever that costs at the end."""

    @property
    def needs_split(self) -> bool:
        """False: workers of that time would not know the order."""
        return False

    def published_within(self, span: Span) -> tuple[Range, ...]:
        """Return the chunks of a span that are done: their time and cost are counted, and must not be again."""
        return super().published_within(span)[:200]

    def _cut_span(self, most: int) -> Span:
        start, stop = self._pending.front
        least = -(-self.chunk_count // MOST_FLOORED_SPANS)
        end = self.chunk_count if least > 1 else stop
        edges = [*self._tries, *(span.start for span in self._running)]
        stop = min([start + self._floored_size(least), end, *(edge for edge in edges if edge > start)])
        stop = min(each.gaps(start, stop).front[1] for each in (self._failed, self._left_out))
        self._pending.remove(start, stop)
        return Span(start, stop, self._tries.pop(start, NO_TRIES))

    def _floored_size(self, least: int) -> int:
        if self.mean_seconds is None:
            return least
        share = -(-len(self._pending) // (2 * self.limit))
        return max(least, min(int(FLOORED_SPAN_SECONDS / max(self.mean_seconds, 0.001)), share))


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

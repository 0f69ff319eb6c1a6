"""Simulate a job that is rendered in batches: how long it takes, and how many events each of its workflows has."""

import heapq
import itertools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from support.simulation import DISPATCH_SECONDS, ORDER_SECONDS, RUN_SECONDS, find_bound

from longtake.models.continuation import SavedChunks
from longtake.ranges import Range, RangeSet
from workflows.chunk_states import Span
from workflows.history import HistoryBudget
from workflows.scheduling import SPANS_A_BATCH, Scheduler

# From the decision to start a batch to its first spans, and from its last span to the job's next decision.
_BATCH_SECONDS = 0.1

# A batch writes its progress so many times at most.
_MOST_PROGRESS = 50


@dataclass
class Workflow:
    """One run of a workflow: its events, each of which that comes alone brings a workflow task of three more."""

    events: int = 10
    is_recalled: bool = False
    budget: HistoryBudget = field(default_factory=HistoryBudget)

    def __post_init__(self) -> None:
        self.budget.is_bounded = True


@dataclass
class SimulatedBatch:
    """A batch that has not ended, and what it renders: by number the span, when it began, and where it stops."""

    span: Span
    scheduler: Scheduler
    began: float
    workflow: Workflow = field(default_factory=Workflow)
    running: dict[int, tuple[Span, float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchedOutcome:
    """How long a job took, and the most events of one workflow of each kind.

    Attributes:
        seconds: Time from its start to its end.
        bound_seconds: Time that list scheduling of single chunks takes that costs nothing.
        busy: Share of the slots that rendered, on average.
        most_running: Most spans at once.
        batches: How many batches were started.
        runs: Runs of the job's own workflow.
        job_events: Most events of such a run.
        batch_events: Most events of a batch.
    """

    seconds: float
    bound_seconds: float
    busy: float
    most_running: int
    batches: int
    runs: int
    job_events: int
    batch_events: int

    @property
    def ratio(self) -> float:
        return self.seconds / self.bound_seconds


class BatchSimulation:
    """One job in batches, all of whose slots have workers."""

    def __init__(self, durations: Sequence[float], slots: int) -> None:
        self._count, self._slots = len(durations), slots
        self._scheduler = Scheduler(self._count, limit=slots)
        self._sums = [0.0, *accumulate(durations)]
        self._now = 0.0
        self._numbers = itertools.count()
        # What happens: a span of a batch ends, or a batch begins (0). An entry whose span was recalled counts no more.
        self._happens: list[tuple[float, int, int]] = []
        self._batches: dict[int, SimulatedBatch] = {}
        self._job = Workflow()
        self._runs, self._started, self._most = 1, 0, 0
        self._job_events = self._batch_events = 0

    def run(self, bound_seconds: float) -> BatchedOutcome:
        self._assign()
        while self._happens:
            self._now, batch_number, number = heapq.heappop(self._happens)
            batch = self._batches.get(batch_number)
            if batch is None or (number and number not in batch.running):
                continue
            if number:
                self._finish_span(batch, number)
            self._advance(batch_number, batch)
        assert self._scheduler.is_finished
        self._job_events = max(self._job_events, self._job.events)
        busy = self._sums[-1] / self._slots / self._now
        return BatchedOutcome(
            self._now, bound_seconds, busy, self._most, self._started, self._runs, self._job_events, self._batch_events
        )

    def _assign(self) -> None:
        """Do what the workflow of the job does when it wakes."""
        job = self._job
        job.budget.count(job.events, SPANS_A_BATCH * len(self._batches), has_more=self._scheduler.has_more)
        if job.budget.is_closing:
            if self._batches:
                self._recall_batches()
                return
            self._job_events = max(self._job_events, job.events)
            self._job = Workflow()
            self._runs += 1
            self._now += RUN_SECONDS
        for span in self._scheduler.assign_spans(self._job.budget.spans_left):
            # Its start, and that it has started, with a workflow task.
            self._job.events += 5
            self._started += 1
            scheduler = Scheduler(
                self._count,
                limit=span.slots,
                saved=SavedChunks.model_validate(self._scheduler.save_batch(span).model_dump()),
            )
            number = next(self._numbers) + 1
            self._batches[number] = SimulatedBatch(span, scheduler, self._now + _BATCH_SECONDS)
            heapq.heappush(self._happens, (self._now + _BATCH_SECONDS, number, 0))
        if self._scheduler.needs_split:
            self._scheduler.order_split()
            self._job.events += 1
            self._recall_batches(only=lambda span: span.may_give_back)

    def _recall_batches(self, only: Callable[[Span], bool] = lambda span: True) -> None:
        for number, batch in list(self._batches.items()):
            if not batch.workflow.is_recalled and only(batch.span):
                batch.workflow.is_recalled = True
                self._job.events += 2
                batch.workflow.events += 4
                self._recall_spans(number, batch)

    def _advance(self, number: int, batch: SimulatedBatch) -> None:
        """Do what the workflow of a batch does when it wakes."""
        workflow, scheduler = batch.workflow, batch.scheduler
        workflow.budget.count(workflow.events, len(batch.running), has_more=scheduler.has_more)
        if workflow.budget.is_closing and not workflow.is_recalled:
            workflow.is_recalled = True
            self._recall_spans(number, batch)
        if not workflow.is_recalled:
            for span in scheduler.assign_spans(workflow.budget.spans_left):
                workflow.events += 1
                self._start(number, batch, span, span.stop)
            if scheduler.needs_split:
                scheduler.order_split()
                workflow.events += 1
                self._recall_spans(number, batch)
            self._most = max(self._most, sum(len(each.running) for each in self._batches.values()))
        if not batch.running:
            workflow.events += _MOST_PROGRESS + 2
            self._batch_events = max(self._batch_events, workflow.events)
            del self._batches[number]
            self._scheduler.finish_batch(batch.span, scheduler.save())
            self._job.events += 4
            self._now += _BATCH_SECONDS / 10
            self._assign()

    def _finish_span(self, batch: SimulatedBatch, number: int) -> None:
        # Its start, its end, and a workflow task of its own.
        batch.workflow.events += 5
        span, _, stop = batch.running.pop(number)
        done = self._parts(batch, span, stop)
        size = sum(high - low for low, high in done)
        batch.scheduler.finish_span(span, done=done, rendered=size, seconds=self._count_seconds(done))

    def _recall_spans(self, batch_number: int, batch: SimulatedBatch) -> None:
        """Let all spans end with the chunk that they are at when they hear of it."""
        heard = self._now + ORDER_SECONDS
        for number, (span, began, _) in list(batch.running.items()):
            left, place = heard - began, span.stop
            for low, high in self._parts(batch, span, span.stop):
                if left <= self._sums[high] - self._sums[low]:
                    place = bisect_left(self._sums, self._sums[low] + left, low + 1, high)
                    break
                left -= self._sums[high] - self._sums[low]
            del batch.running[number]
            self._start(batch_number, batch, span, place, began)

    def _parts(self, batch: SimulatedBatch, span: Span, stop: int) -> tuple[Range, ...]:
        """Return the chunks of a span below `stop` that it renders: others were done before."""
        return RangeSet(batch.scheduler.published_within(span)).gaps(span.start, stop).ranges

    def _count_seconds(self, parts: tuple[Range, ...]) -> float:
        return sum(self._sums[high] - self._sums[low] for low, high in parts)

    def _start(
        self, batch_number: int, batch: SimulatedBatch, span: Span, stop: int, began: float | None = None
    ) -> None:
        began = self._now + DISPATCH_SECONDS if began is None else began
        number = next(self._numbers) + 1
        batch.running[number] = (span, began, stop)
        end = began + self._count_seconds(self._parts(batch, span, stop))
        heapq.heappush(self._happens, (max(end, self._now), batch_number, number))


def simulate_batches(durations: Sequence[float], slots: int) -> BatchedOutcome:
    """Return how long a job in batches takes.

    Args:
        durations: What each chunk takes.
        slots: `max_parallel`, more than 500, and workers as many.
    """
    return BatchSimulation(durations, slots).run(find_bound(durations, slots))

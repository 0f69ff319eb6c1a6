"""Simulate how long a job takes by the scheduling of the product, without a server: time is a number here."""

import heapq
import itertools
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from longtake.models.continuation import SavedChunks
from longtake.ranges import Range, RangeSet
from workflows.chunk_states import Span
from workflows.history import HistoryBudget
from workflows.scheduling import Scheduler

# Measured on the development server: from the end of a span to the first process of the next one in its slot.
DISPATCH_SECONDS = 0.05

# An order in the memo of a job is read once a second.
ORDER_SECONDS = 1.0

# From the end of the last span of a run to the first spans of the next.
RUN_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """How long a job took.

    Attributes:
        seconds: Time from its start to its end.
        bound_seconds: Time that list scheduling of single chunks takes that costs nothing.
        spans: Activities that were started.
        splits: Orders to give chunks back.
        most_running: Most spans at once.
        runs: Workflow runs, each of which ends before its history is long.
    """

    seconds: float
    bound_seconds: float
    spans: int
    splits: int
    most_running: int
    runs: int

    @property
    def ratio(self) -> float:
        return self.seconds / self.bound_seconds


def find_bound(durations: Sequence[float], slots: int) -> float:
    """Return how long chunks take that are given out one by one, in their order, at no cost."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


class Simulation:
    """One job, all of whose slots have workers."""

    def __init__(self, durations: Sequence[float], slots: int) -> None:
        self._scheduler = Scheduler(len(durations), limit=slots)
        self._sums = [0.0, *accumulate(durations)]
        self._now = 0.0
        # Ends of spans; where an order to split has changed one, the older entry no longer counts.
        self._ends: list[tuple[float, int]] = []
        self._running: dict[int, tuple[Span, float, int]] = {}
        self._numbers = itertools.count()
        self._spans = 0
        self._runs = self._events = 0
        self._is_recalled = False
        self._budget = HistoryBudget()
        self._begin_run()
        self._most_running = 0

    def run(self) -> tuple[float, int, int, int, int]:
        self._assign()
        while self._ends:
            end, number = heapq.heappop(self._ends)
            if number not in self._running:
                continue
            self._now = end
            # Its start, its end, and a workflow task of its own.
            self._events += 5
            span, _, stop = self._running.pop(number)
            done = self._parts(span, stop)
            count = sum(high - low for low, high in done)
            self._scheduler.finish_span(span, done=done, rendered=count, seconds=self._count_seconds(done))
            self._assign()
        assert self._scheduler.is_finished
        return self._now, self._spans, self._scheduler.splits, self._most_running, self._runs

    def _assign(self) -> None:
        self._budget.count(self._events, len(self._running), has_more=self._scheduler.has_more)
        if self._budget.is_closing and self._running:
            if not self._is_recalled:
                self._recall()
            self._is_recalled = True
            return
        if self._budget.is_closing:
            self._begin_run()
            self._now += RUN_SECONDS
        for span in self._scheduler.assign_spans(self._budget.spans_left):
            self._events += 1
            self._start(span, span.stop)
        self._most_running = max(self._most_running, len(self._running))
        if self._scheduler.needs_split:
            self._scheduler.order_split()
            self._recall()

    def _begin_run(self) -> None:
        self._runs += 1
        self._events, self._is_recalled = 10, False
        self._budget = HistoryBudget()
        self._budget.is_bounded = True

    def _recall(self) -> None:
        """Let all spans end with the chunk that they are at when they hear of it."""
        heard = self._now + ORDER_SECONDS
        for number, (span, began, _) in list(self._running.items()):
            left, place = heard - began, span.stop
            for low, high in self._parts(span, span.stop):
                if left <= self._sums[high] - self._sums[low]:
                    place = bisect_left(self._sums, self._sums[low] + left, low + 1, high)
                    break
                left -= self._sums[high] - self._sums[low]
            del self._running[number]
            self._start(span, place, began)

    def _parts(self, span: Span, stop: int) -> tuple[Range, ...]:
        """Return the chunks of a span below `stop` that it renders: others were done before."""
        return RangeSet(self._scheduler.published_within(span)).gaps(span.start, stop).ranges

    def _count_seconds(self, parts: tuple[Range, ...]) -> float:
        return sum(self._sums[high] - self._sums[low] for low, high in parts)

    def _start(self, span: Span, stop: int, began: float | None = None) -> None:
        if began is None:
            self._spans += 1
            began = self._now + DISPATCH_SECONDS
        number = next(self._numbers)
        self._running[number] = (span, began, stop)
        heapq.heappush(self._ends, (began + self._count_seconds(self._parts(span, stop)), number))


def simulate(durations: Sequence[float], slots: int) -> Outcome:
    """Return how long a job takes.

    Args:
        durations: What each chunk takes.
        slots: `max_parallel`, and workers as many.
    """
    seconds, spans, splits, most, runs = Simulation(durations, slots).run()
    return Outcome(seconds, find_bound(durations, slots), spans, splits, most, runs)


def simulate_runs(count: int, slots: int, *, passes: int, fails: bool, noise: random.Random) -> list[int]:
    """Return how many events each run of a job has, where every end of a span has a workflow task of its own.

    Args:
        count: Chunks of the job, of 20 s each.
        slots: `max_parallel`, and workers as many.
        passes: How often failed chunks are rendered.
        fails: Whether all chunks fail.
        noise: Chooses which span ends next.
    """
    runs: list[int] = []
    saved: SavedChunks | None = None
    while True:
        scheduler = Scheduler(count, limit=slots, passes=passes, saved=saved)
        budget = HistoryBudget()
        budget.is_bounded = True
        events, running = 10, list[Span]()
        while not scheduler.is_finished:
            budget.count(events, len(running), has_more=scheduler.has_more)
            if budget.may_continue and not running:
                break
            if not budget.is_closing:
                started = scheduler.assign_spans(budget.spans_left)
                running += started
                events += len(started)
                if scheduler.needs_split:
                    scheduler.order_split()
                    events += 1
            span = running.pop(noise.randrange(len(running)))
            # A span of a run that closes, or that is split, comes back after a chunk.
            comes_back = budget.is_closing or span.split < scheduler.splits
            chunks = [(span.start, span.start + 1 if comes_back else span.stop)]
            size = chunks[0][1] - span.start
            scheduler.finish_span(
                span,
                done=() if fails else chunks,
                failed=chunks if fails else (),
                rendered=0 if fails else size,
                seconds=20.0 * size,
                elapsed=20.0 * size,
            )
            events += 5
        runs.append(events)
        if scheduler.is_finished:
            return runs
        saved = SavedChunks.model_validate_json(scheduler.save().model_dump_json())


def uniform(count: int, noise: random.Random) -> list[float]:
    return [noise.uniform(0.1, 2) for _ in range(count)]


def lognormal(count: int, noise: random.Random) -> list[float]:
    return [min(2.0, max(0.1, 0.4 * noise.lognormvariate(0, 1))) for _ in range(count)]


def heavy_end(count: int, noise: random.Random) -> list[float]:
    """Nine tenths are quick, and the last tenth takes twenty times as long."""
    return [0.1 if chunk < 0.9 * count else 2.0 for chunk in range(count)]


def rising(count: int, noise: random.Random) -> list[float]:
    return [0.1 + 1.9 * chunk / count for chunk in range(count)]


def scenes(count: int, noise: random.Random) -> list[float]:
    """Forty scenes, each of which has its own weight."""
    weights = [noise.uniform(0.1, 2) for _ in range(40)]
    return [weights[40 * chunk // count] * noise.uniform(0.9, 1.1) for chunk in range(count)]


def last_few(count: int, noise: random.Random) -> list[float]:
    """The last twenty take long."""
    return [0.1 if chunk < count - 20 else 2.0 for chunk in range(count)]


SHAPES: dict[str, Callable[[int, random.Random], list[float]]] = {
    shape.__name__: shape for shape in (uniform, lognormal, heavy_end, rising, scenes, last_few)
}

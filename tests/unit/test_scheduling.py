"""The scheduler hands out every chunk, never twice at once and never again when it is done, whatever happens."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.batch_simulation import simulate_batches
from support.simulation import SHAPES, simulate

from longtake.models.continuation import ChunkTries, SavedChunks
from longtake.models.status import PauseMode
from longtake.names import Control
from longtake.ranges import Range
from workflows.chunk_states import Span, Tries
from workflows.history import MOST_EVENTS
from workflows.scheduling import MOST_FLOORED_SPANS, FlooredScheduler, PauseState, Scheduler

sizes = st.one_of(st.integers(1, 12), st.integers(13, 400), st.integers(401, 3000))
fractions = st.floats(0, 1)


def numbers(ranges: Iterable[Range]) -> set[int]:
    return {number for start, stop in ranges for number in range(start, stop)}


def chunks_of(span: Span) -> set[int]:
    return set(range(span.start, span.stop))


class Life(RuleBasedStateMachine):
    """A job's chunks as plain sets beside the scheduler, through pauses, cancels, failures and changes of the limit."""

    @initialize(
        count=sizes,
        limit=st.integers(1, 30),
        passes=st.integers(1, 3),
        done=st.lists(st.tuples(fractions, fractions), max_size=4),
    )
    def begin(self, count: int, limit: int, passes: int, done: list[tuple[float, float]]) -> None:
        self.count = count
        self.all = set(range(count))
        self.done: set[int] = set()
        self._start([(int(start * count), int(stop * count)) for start, stop in done], limit, passes)

    def _start(self, done: list[Range], limit: int, passes: int) -> None:
        self.scheduler = Scheduler(self.count, limit=limit, done=done, passes=passes)
        self.done |= numbers(done)
        self.pending = self.all - self.done
        self.failed: set[int] = set()
        self.left_out: set[int] = set()
        self.running: list[Span] = []
        self.tries: dict[int, int] = {}
        self.passes_left = passes - 1
        self.paused = self.ended = False
        self.splits = 0

    # What the workflow asks for.

    @precondition(lambda self: not self.paused and not self.ended)
    @rule()
    def take(self) -> None:
        if not self.pending and not self.running and self.failed and self.passes_left:
            self.pending, self.failed = self.failed, set()
            self.passes_left -= 1
        before = len(self.running)
        left = len(self.pending)
        for span in self.scheduler.assign_spans():
            self._hand_out(span, left)
        started = len(self.running) > before
        assert not started or len(self.running) <= self.scheduler.limit
        assert not self.pending or len(self.running) >= self.scheduler.limit, "no slot stays empty"

    def _hand_out(self, span: Span, left: int) -> None:
        chunks = chunks_of(span)
        assert chunks <= self.all
        assert span.split == self.splits
        assert span.start in self.pending
        assert not any(chunks & chunks_of(other) for other in self.running), "never two at once"
        assert not chunks & self.failed, "a chunk that failed waits for the next pass"
        assert not chunks & self.left_out, "nobody wants it"
        assert span.tries.failures == self.tries.pop(span.start, 0)
        assert not chunks & self.tries.keys(), "only the first chunk of a span can bring its tries along"
        size = len(chunks & self.pending)
        if self.scheduler.mean_seconds is None:
            assert size == 1, "nothing is known yet"
        assert size <= max(1, -(-left // (2 * self.scheduler.limit))), "a share of what is left"
        self.pending -= chunks
        self.running.append(span)

    @precondition(lambda self: not self.ended)
    @rule(limit=st.integers(1, 30))
    def change_the_limit(self, limit: int) -> None:
        self.scheduler.limit = limit

    @precondition(lambda self: not self.ended and self.scheduler.needs_split)
    @rule()
    def split(self) -> None:
        """It is asked for where a slot idles and a chunk waits behind another one in a span, and not twice."""
        assert not self.pending
        assert len(self.running) < self.scheduler.limit
        assert any(span.stop - span.start > 1 for span in self.running)
        self.splits += 1
        assert self.scheduler.order_split() == self.splits
        assert not self.scheduler.needs_split

    @precondition(lambda self: not self.ended)
    @rule(start=fractions, size=st.integers(1, 5))
    def leave_out(self, start: float, size: int) -> None:
        first = int(start * self.count)
        chunks = set(range(first, min(first + size, self.count))) - self.done - self.left_out
        assert self.scheduler.leave_out([(first, first + size)]) == len(chunks)
        self.left_out |= chunks
        self.pending -= chunks
        self.failed -= chunks

    @precondition(lambda self: not self.ended and self.failed)
    @rule()
    def retry_all_that_failed(self) -> None:
        assert self.scheduler.retry() == len(self.failed)
        self.pending |= self.failed
        self.failed = set()

    @precondition(lambda self: not self.ended)
    @rule(start=fractions, size=st.integers(1, 5))
    def retry_some(self, start: float, size: int) -> None:
        """Also what was left out, when it is named; what runs stays with the span that has it."""
        first = int(start * self.count)
        again = (self.failed | self.left_out) & set(range(first, first + size))
        assert self.scheduler.retry([(first, first + size)]) == len(again)
        self.failed -= again
        self.left_out -= again
        self.pending |= again - {chunk for span in self.running for chunk in chunks_of(span)}

    # What becomes of spans.

    @precondition(lambda self: self.running)
    @rule(which=fractions, seconds=st.floats(0, 10))
    def finish(self, which: float, seconds: float) -> None:
        span = self._one(which)
        size = span.stop - span.start
        self._report(span, done=[(span.start, span.stop)], rendered=size, seconds=size * seconds)

    @precondition(lambda self: self.running)
    @rule(which=fractions, at=fractions)
    def fail_at_a_chunk(self, which: float, at: float) -> None:
        """`on_chunk_failure: fail`: what stands before is done, what stands behind was not tried."""
        span = self._one(which)
        chunk = self._inside(span, at)
        self._report(span, done=[(span.start, chunk)], failed=[(chunk, chunk + 1)])

    @precondition(lambda self: self.running)
    @rule(which=fractions, places=st.lists(fractions, min_size=1, max_size=4))
    def fail_here_and_there(self, which: float, places: list[float]) -> None:
        """`on_chunk_failure: continue`: all others are done."""
        span = self._one(which)
        failed = {self._inside(span, place) for place in places}
        self._report(
            span,
            done=[(chunk, chunk + 1) for chunk in chunks_of(span) - failed],
            failed=[(chunk, chunk + 1) for chunk in failed],
        )

    @precondition(lambda self: self.running)
    @rule(which=fractions)
    def lose_the_workers(self, which: float) -> None:
        """The activity ended without a word about its chunks."""
        span = self._one(which)
        self._report(span, failed=[(span.start, span.stop)])

    @precondition(lambda self: self.running)
    @rule(which=fractions, at=fractions, tries=st.integers(0, 3))
    def give_back_the_rest(self, which: float, at: float, tries: int) -> None:
        """A drain between the chunks of a span."""
        span = self._one(which)
        self._report(span, done=[(span.start, self._inside(span, at))], tries=tries)

    @precondition(lambda self: not self.ended)
    @rule(waiting=st.sets(st.integers(0, 29)), tries=st.integers(0, 3))
    def pause(self, waiting: set[int], tries: int) -> None:
        """Nothing new starts, and what waits in a queue is taken back."""
        self.paused = True
        for span in [span for place, span in enumerate(self.running) if place in waiting]:
            self._report(span, tries=span.tries.failures or tries)

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        self.paused = False

    @precondition(lambda self: not self.ended)
    @rule(really=st.integers(0, 9))
    def cancel(self, really: int) -> None:
        """All is given back, and nothing starts any more."""
        if really == 0:
            self.ended = True
            for span in list(self.running):
                self._report(span)

    @precondition(lambda self: self.ended)
    @rule(limit=st.integers(1, 30), passes=st.integers(1, 3))
    def retry(self, limit: int, passes: int) -> None:
        """A new run of the job finds in the store what is done, and nothing else."""
        self._start(list(self.scheduler.done), limit, passes)

    def _one(self, which: float) -> Span:
        return self.running[min(int(which * len(self.running)), len(self.running) - 1)]

    def _inside(self, span: Span, at: float) -> int:
        return min(span.start + int(at * (span.stop - span.start)), span.stop - 1)

    def _report(
        self, span: Span, *, done: Iterable[Range] = (), failed: Iterable[Range] = (), tries: int = 0,
        rendered: int = 0, seconds: float = 0,
    ) -> None:  # fmt: skip
        self.scheduler.finish_span(
            span, done=done, failed=failed, tries=Tries(tries), rendered=rendered, seconds=seconds
        )
        self.running.remove(span)
        self.done |= numbers(done)
        self.left_out -= self.done
        self.failed |= numbers(failed) - self.done - self.left_out
        left = chunks_of(span) - self.done - self.failed - self.left_out
        self.pending |= left
        if left and tries:
            self.tries[min(left)] = tries

    # What always holds.

    @invariant()
    def every_chunk_is_in_one_place(self) -> None:
        scheduler = self.scheduler
        assert numbers(scheduler.done) == self.done, "P1: and it never shrinks, because the model's never does"
        assert numbers(scheduler.failed) == self.failed
        assert numbers(scheduler.pending) == self.pending
        assert sorted(scheduler.running, key=lambda span: span.start) == sorted(
            self.running, key=lambda span: span.start
        )
        assert numbers(scheduler.left_out) == self.left_out
        running = {chunk for span in self.running for chunk in chunks_of(span)} - self.done - self.left_out
        places = (self.done, self.failed, self.left_out, self.pending, running)
        assert set().union(*places) == self.all
        assert sum(map(len, places)) == self.count

    @invariant()
    def the_counts_are_right(self) -> None:
        assert self.scheduler.done_count == len(self.done)
        assert self.scheduler.failed_count == len(self.failed)
        assert self.scheduler.left_out_count == len(self.left_out)

    @invariant()
    def it_knows_whether_it_is_finished(self) -> None:
        scheduler = self.scheduler
        assert scheduler.has_failed_for_good is bool(self.failed and not self.passes_left)
        to_do = self.pending or self.running or (self.failed and self.passes_left)
        assert scheduler.is_finished is (not to_do)

    def teardown(self) -> None:
        """Whatever happened: when it goes on and nothing fails any more, it comes to its end."""
        if not hasattr(self, "scheduler"):
            return
        self.paused = self.ended = False
        for _ in range(self.count + 10):
            while self.running:
                self.finish(0, 1)
            if self.scheduler.is_finished:
                break
            self.take()
        assert self.scheduler.is_finished
        assert self.done | self.failed | self.left_out == self.all
        assert not self.failed or not self.passes_left
        assert self.scheduler.assign_spans() == []


TestLife = Life.TestCase
TestLife.settings = settings(
    # One has the length of many examples of others.
    max_examples=settings().max_examples // 2,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)


def run_clean(scheduler: Scheduler, *, seconds: float) -> int:
    """Render everything, first come first served; return how many spans that took."""
    spans, running = 0, deque(scheduler.assign_spans())
    while running:
        span = running.popleft()
        size = span.stop - span.start
        spans += 1
        scheduler.finish_span(span, done=[(span.start, span.stop)], rendered=size, seconds=size * seconds)
        running.extend(scheduler.assign_spans())
    assert scheduler.is_finished
    return spans


def test_nothing_known_means_one_chunk_and_every_slot_is_used() -> None:
    scheduler = Scheduler(500, limit=500)

    assert scheduler.assign_spans() == [Span(chunk, chunk + 1) for chunk in range(500)]


def test_as_many_spans_run_as_there_are_chunks_also_when_they_are_short() -> None:
    scheduler = Scheduler(600, limit=500)
    for span in scheduler.assign_spans()[:100]:
        scheduler.finish_span(span, done=[(span.start, span.stop)], rendered=1, seconds=0.001)

    assert len(scheduler.assign_spans()) == 100


def test_short_chunks_share_a_span_and_long_ones_do_not() -> None:
    scheduler = Scheduler(6400, limit=2)
    first, second = scheduler.assign_spans()
    assert (first, second) == (Span(0, 1), Span(1, 2))

    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.1)
    (short,) = scheduler.assign_spans()
    assert short == Span(2, 102), "100 of 0.1 s are 10 s"

    scheduler.finish_span(second, done=[(1, 2)], rendered=1000, seconds=99_900)
    assert scheduler.assign_spans(most=10**6) == [Span(102, 103)]


def test_spans_shrink_towards_the_end() -> None:
    scheduler = Scheduler(41, limit=2)
    first, _ = scheduler.assign_spans()
    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.001)

    assert scheduler.assign_spans() == [Span(2, 12)], "a quarter of 39 chunks, though 1,000 would take ten seconds"


def test_spans_are_longer_where_the_history_has_little_room() -> None:
    """Not longer than a new run now and then is worth, either: 3.5 s of a hundred slots in 700."""
    scheduler = Scheduler(1_000_000, limit=100)
    first = scheduler.assign_spans()[0]
    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=1)

    (span,) = scheduler.assign_spans(most=100)
    assert span.stop - span.start == 116


def test_a_span_passes_over_what_is_done_and_no_further_than_it_must() -> None:
    scheduler = Scheduler(100, limit=1, done=[(chunk, chunk + 1) for chunk in range(1, 99, 2)])
    (first,) = scheduler.assign_spans()
    assert first == Span(0, 1)

    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.1)
    (span,) = scheduler.assign_spans()
    assert span == Span(2, 51), "half of 50"
    assert scheduler.published_within(span) == tuple((chunk, chunk + 1) for chunk in range(3, 50, 2))


def test_a_huge_job_full_of_holes_takes_few_spans() -> None:
    every_other = [(chunk, chunk + 1) for chunk in range(0, 1_000_000, 2)]
    began = time.monotonic()

    assert run_clean(Scheduler(1_000_000, limit=8, done=every_other), seconds=0.001) < 700
    assert time.monotonic() - began < 60


def test_slots_that_idle_at_the_end_get_the_rest_of_spans_that_run_long() -> None:
    scheduler = Scheduler(100, limit=2)
    first, second = scheduler.assign_spans()
    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.1)
    (long,) = scheduler.assign_spans()
    assert long == Span(2, 27)
    assert not scheduler.needs_split

    while scheduler.pending:
        scheduler.finish_span(second, done=[(second.start, second.stop)])
        (second,) = scheduler.assign_spans()
    scheduler.finish_span(second, done=[(second.start, second.stop)])
    assert scheduler.needs_split

    assert scheduler.order_split() == 1
    assert not scheduler.needs_split, "it is told already"
    scheduler.finish_span(long, done=[(2, 3)])
    again = scheduler.assign_spans()
    assert again == [Span(3, 9, split=1), Span(9, 14, split=1)], "shares of what it gave back"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_a_job_takes_no_longer_than_if_each_chunk_were_given_out_alone(shape: str, seed: int) -> None:
    outcome = simulate(SHAPES[shape](2000, random.Random(seed)), slots=16)

    assert outcome.ratio <= (1.03 if shape in ("uniform", "lognormal") else 1.10)


@pytest.mark.parametrize("shape", [pytest.param("uniform", marks=pytest.mark.slow), "heavy_end"])
def test_a_job_of_a_million_chunks_takes_no_longer_than_they_must(shape: str) -> None:
    outcome = simulate(SHAPES[shape](1_000_000, random.Random(1)), slots=64)

    assert outcome.ratio <= 1.03
    assert outcome.most_running == 64
    assert outcome.runs > 1, "the waits for all slots between two runs are in it"


def test_what_was_estimated_far_too_low_is_split() -> None:
    """Four chunks of a minute among many of a tenth of a second; they stood in one span."""
    outcome = simulate([0.1] * 500 + [60.0] * 4 + [0.1] * 26, slots=4)

    assert outcome.splits > 0
    assert outcome.seconds < outcome.bound_seconds + 60 + 2, "one chunk more than it must, and not three"


def test_jobs_that_began_before_keep_their_floor() -> None:
    """Their histories replay with the spans that they recorded."""
    assert run_clean(FlooredScheduler(1_000_000, limit=8), seconds=0.001) == MOST_FLOORED_SPANS

    scheduler = FlooredScheduler(400, limit=2)
    first, second = scheduler.assign_spans()
    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.1)
    assert scheduler.assign_spans() == [Span(2, 22)], "20 of 0.1 s are 2 s"
    scheduler.finish_span(second, done=[(1, 2)], rendered=1, seconds=99.9)
    assert scheduler.assign_spans() == [Span(22, 23)]


def test_tries_go_with_their_chunk() -> None:
    scheduler = Scheduler(10, limit=1)
    (first,) = scheduler.assign_spans()
    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.001)
    (span,) = scheduler.assign_spans()
    assert span == Span(1, 6)

    scheduler.finish_span(span, done=[(1, 3)], tries=Tries(2), rendered=2, seconds=0.002)
    assert scheduler.assign_spans() == [Span(3, 7, Tries(2))]


def test_a_chunk_that_waits_for_its_next_try_waits_alone_until_waits_end() -> None:
    scheduler = Scheduler(10, limit=1)
    (first,) = scheduler.assign_spans()
    scheduler.finish_span(first, done=[(0, 1)], rendered=1, seconds=0.001)
    (span,) = scheduler.assign_spans()
    scheduler.finish_span(span, tries=Tries(1, next_try_at=60))
    scheduler = Scheduler(10, limit=1, saved=scheduler.save())

    (span,) = scheduler.assign_spans()
    assert span == Span(1, 2, Tries(1, next_try_at=60))
    scheduler.finish_span(span, tries=span.tries)
    scheduler.end_waits()
    assert scheduler.assign_spans() == [Span(1, 6, Tries(1))]


def test_a_chunk_with_tries_is_never_hidden_inside_a_span() -> None:
    scheduler = Scheduler(10, limit=2)
    first, second = scheduler.assign_spans()
    scheduler.finish_span(second, tries=Tries(1))
    scheduler.finish_span(first, rendered=1, seconds=0.001)

    assert scheduler.assign_spans() == [Span(0, 1), Span(1, 4, Tries(1))]


def test_a_report_says_nothing_about_chunks_of_others() -> None:
    scheduler = Scheduler(10, limit=2)
    first, second = scheduler.assign_spans()
    scheduler.finish_span(first, done=[(0, 10)])

    assert scheduler.done == ((0, 1),)
    assert scheduler.running == (second,)


def test_what_is_published_has_not_failed() -> None:
    scheduler = Scheduler(1, limit=1)
    (span,) = scheduler.assign_spans()
    scheduler.finish_span(span, done=[(0, 1)], failed=[(0, 1)])

    assert (scheduler.done_count, scheduler.failed_count) == (1, 0)


def test_a_span_is_taken_back_once() -> None:
    scheduler = Scheduler(1, limit=1)
    (span,) = scheduler.assign_spans()
    scheduler.finish_span(span)

    with pytest.raises(ValueError, match="not in list"):
        scheduler.finish_span(span)


def test_failed_chunks_are_taken_up_when_all_others_are_through() -> None:
    scheduler = Scheduler(3, limit=1, passes=2)
    (first,) = scheduler.assign_spans()
    scheduler.finish_span(first, failed=[(0, 1)])
    order = []
    while not scheduler.is_finished:
        (span,) = scheduler.assign_spans()
        order.append(span.start)
        scheduler.finish_span(
            span, done=[(span.start, span.stop)] if span.start else (), failed=[(0, 1)] if not span.start else ()
        )

    assert order == [1, 2, 0]
    assert scheduler.has_failed_for_good
    assert scheduler.failed == ((0, 1),)


def test_a_job_without_chunks_to_render_is_finished() -> None:
    scheduler = Scheduler(5, limit=8, done=[(0, 5)], passes=3)

    assert scheduler.is_finished
    assert scheduler.assign_spans() == []
    assert not scheduler.has_failed_for_good


DRAIN, FREEZE, NOW = PauseMode.DRAIN, PauseMode.FREEZE, PauseMode.NOW


@pytest.mark.parametrize(
    ("modes", "in_force", "control"),
    [
        ([], None, Control.RUN),
        ([DRAIN], DRAIN, Control.DRAIN),
        ([FREEZE], FREEZE, Control.FREEZE),
        ([NOW], NOW, Control.DRAIN),
        ([DRAIN, NOW], NOW, Control.DRAIN),
        ([DRAIN, FREEZE], FREEZE, Control.FREEZE),
        ([FREEZE, NOW], NOW, Control.DRAIN),
        ([FREEZE, DRAIN], FREEZE, Control.FREEZE),
        ([NOW, FREEZE, DRAIN], NOW, Control.DRAIN),
    ],
)
def test_a_pause_is_only_hardened(modes: list[PauseMode], in_force: PauseMode | None, control: Control) -> None:
    pause = PauseState()
    for mode in modes:
        pause.pause(mode)
        pause.pause(mode)

    assert pause.mode is in_force
    assert pause.is_paused is (in_force is not None)
    assert pause.control is control
    assert bool(pause.freeze_number) is (in_force is FREEZE)


def test_each_freeze_has_a_number_of_its_own() -> None:
    pause = PauseState()
    numbers = []
    for _ in range(3):
        pause.pause(FREEZE)
        numbers.append(pause.freeze_number)
        pause.resume()
        assert pause.freeze_number == 0
    assert numbers == [1, 2, 3]


@given(st.lists(st.sampled_from([DRAIN, FREEZE, NOW, None])))
def test_a_resume_takes_back_every_pause(requests: list[PauseMode | None]) -> None:
    pause = PauseState()
    for mode in requests:
        pause.resume() if mode is None else pause.pause(mode)
    pause.resume()

    assert not pause.is_paused
    assert pause.control is Control.RUN


@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_pauses_and_resumes_leave_state_and_work_agreed(seed: int) -> None:
    """The loop of the workflow without Temporal: signals first, then either rest or start."""
    chance = random.Random(seed)
    pause, scheduler = PauseState(), Scheduler(400, limit=4)
    rendered: set[int] = set()
    for _ in range(1000):
        pause.pause(chance.choice([DRAIN, FREEZE, NOW]))
        if chance.random() < 0.5:
            # The workflow may run between the two, or see both at once.
            before = scheduler.running
            if pause.mode is NOW:
                for span in before:
                    scheduler.finish_span(span)
            assert set(scheduler.running) <= set(before), "a paused job starts nothing"
        pause.resume()
        assert not pause.is_paused
        scheduler.assign_spans()
        assert len(scheduler.running) == 4 or not scheduler.pending, "a job that goes on works"
        for span in scheduler.running[: chance.random() < 0.3]:
            chunks = set(range(span.start, span.stop))
            assert not chunks & rendered, "nothing twice"
            rendered |= chunks
            scheduler.finish_span(span, done=[(span.start, span.stop)])
    assert scheduler.done_count == len(rendered) > 0


@pytest.mark.parametrize(
    "decide", [Scheduler.retry, lambda chunks: chunks.leave_out([(0, chunks.chunk_count)])], ids=["retry", "leave out"]
)
def test_a_decision_on_the_most_scattered_job_fits_into_a_workflow_task(decide: Callable[[Scheduler], int]) -> None:
    """A workflow task ends after 2 s; one range after the other, a fifth of the longest job took a minute."""
    chunks = Scheduler(200_000, limit=1)
    (span,) = chunks.assign_spans()
    chunks.finish_span(span, done=[(span.start, span.stop)])
    for low in range(span.stop, 200_000, 2):
        chunks._failed.add(low, low + 1)
        chunks._done.add(low + 1, low + 2)

    began = time.thread_time()
    assert decide(chunks) > 0
    assert time.thread_time() - began < 1


def test_spans_of_sessions_share_all_that_is_left_and_give_it_back_where_slots_idle() -> None:
    scheduler = Scheduler(100, limit=4, has_sessions=True)
    spans = scheduler.assign_spans()
    assert [(span.start, span.stop) for span in spans] == [(0, 25), (25, 50), (50, 75), (75, 100)]

    scheduler.finish_span(spans[0], done=[(0, 25)], rendered=25, seconds=25)
    assert scheduler.needs_split
    scheduler.order_split()
    scheduler.finish_span(spans[1], done=[(25, 30)], rendered=5, seconds=25)

    assert [(span.start, span.stop) for span in scheduler.assign_spans()] == [(30, 40), (40, 50)]


def test_a_job_of_more_than_five_hundred_at_once_is_cut_into_batches() -> None:
    scheduler = Scheduler(10_000, limit=600)
    batches = scheduler.assign_spans()

    assert [(each.is_batch, each.slots) for each in batches] == [(True, 100)] * 6
    assert scheduler.running_count == 600
    assert scheduler.assign_spans() == []


def test_slots_that_spans_leave_one_by_one_are_gathered_for_a_batch() -> None:
    scheduler = Scheduler(5000, limit=500)
    spans = scheduler.assign_spans()
    scheduler.limit = 520
    assert scheduler.assign_spans() == [], "twenty slots are not worth a batch"
    for span in spans[:30]:
        scheduler.finish_span(span, done=[(span.start, span.stop)])
    assert [each.slots for each in scheduler.assign_spans()] == [50]


def test_a_batch_brings_back_what_it_has_not_done() -> None:
    scheduler = Scheduler(2000, limit=600, done=[(5, 10)])
    first, *others = scheduler.assign_spans()
    tries = (ChunkTries(chunk=first.start + 20, failures=2), ChunkTries(chunk=first.start + 30, losses=1))
    scheduler.leave_out([(first.start + 40, first.start + 41)])
    saved = SavedChunks(
        done=((0, first.start + 20),),
        failed=((first.start + 25, first.start + 26),),
        tries=tries,
        measured=15,
        seconds=30,
    )
    scheduler.finish_batch(first, saved)
    for lost in others:
        scheduler.finish_batch(lost, None)

    assert scheduler.done == ((0, 20),)
    assert scheduler.failed == ((first.start + 25, first.start + 26),)
    assert len(numbers(scheduler.pending)) == 2000 - 20 - 1 - 1
    assert scheduler.mean_seconds == 2
    (again, *_) = scheduler.assign_spans()
    assert scheduler.save_batch(again).tries == tries


@pytest.mark.parametrize("seed", range(10))
def test_batches_that_end_in_any_way_lose_no_chunk_and_render_none_twice(seed: int) -> None:
    chance = random.Random(seed)
    scheduler, rendered = Scheduler(3000, limit=700, passes=2), list[int]()
    while not scheduler.is_finished:
        scheduler.assign_spans(chance.randint(2, 40))
        scheduler.limit = chance.choice([700, 1100, 4, 501])
        running = scheduler.running
        assert sum(map(len, map(chunks_of, running))) == len(set().union(*map(chunks_of, running))), "no two overlap"
        if not running:
            continue
        span = chance.choice(running)
        given = scheduler.save_batch(span) if span.is_batch else SavedChunks(done=scheduler.published_within(span))
        own = Scheduler(3000, limit=3000, saved=given)
        chunks = sorted(chunks_of(span) & numbers(own.pending))
        done = chunks[: chance.randint(0, len(chunks))]
        failed = chunks[len(done) : len(done) + chance.randint(0, 2)] if chance.random() < 0.3 else []
        rendered += done
        ranges = [[(chunk, chunk + 1) for chunk in each] for each in (done, failed)]
        if span.is_batch:
            scheduler.finish_batch(span, SavedChunks(done=(*given.done, *ranges[0]), failed=tuple(ranges[1])))
        else:
            scheduler.finish_span(span, done=ranges[0], failed=ranges[1])

    assert len(rendered) == len(set(rendered))
    assert set(rendered) | numbers(scheduler.failed) == set(range(3000))
    assert set(rendered) == numbers(scheduler.done)


def test_a_batch_that_has_just_begun_is_not_asked_to_give_back() -> None:
    """It holds more chunks than slots, but only because others among them are done: nobody would render any."""
    scheduler = Scheduler(3000, limit=1000, done=[(chunk, chunk + 2) for chunk in range(0, 3000, 3)])
    scheduler.leave_out([(100, 3000)])
    batches = scheduler.assign_spans()

    assert [(each.slots, each.chunks) for each in batches] == [(33, 33)]
    assert not scheduler.needs_split


@pytest.mark.parametrize("shape", ["uniform", "heavy_end", "last_few"])
def test_a_job_in_batches_uses_all_slots_and_no_workflow_of_it_is_too_long(shape: str) -> None:
    found = simulate_batches(SHAPES[shape](20_000, random.Random(1)), 1000)

    assert found.most_running == 1000
    assert max(found.job_events, found.batch_events) <= MOST_EVENTS
    assert found.ratio < (1.4 if shape == "uniform" else 2.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("times", [1, 60])
def test_a_million_chunks_on_ten_thousand_slots_make_no_long_workflow(times: int) -> None:
    durations = [times * seconds for seconds in SHAPES["uniform"](1_000_000, random.Random(1))]
    found = simulate_batches(durations, 10_000)

    assert found.most_running == 10_000
    assert max(found.job_events, found.batch_events) <= MOST_EVENTS
    assert found.ratio < 1.2

"""No run of a job has more events than it may have, whatever comes."""

import random

import pytest
from support.simulation import simulate_runs

from workflows.history import MOST_EVENTS, HistoryBudget

# Of a freeze that stands, with its resume; a drain that is taken back has four less. Workflow tasks are half of them.
EVENTS_A_PAUSE = 35


def budget(events: int = 0, running: int = 0, *, has_more: bool = False, is_suggested: bool = False) -> HistoryBudget:
    made = HistoryBudget()
    made.is_bounded = True
    made.count(events, running, has_more=has_more, is_suggested=is_suggested)
    return made


def test_a_new_run_has_room_for_five_hundred_spans_at_once() -> None:
    assert budget(20, has_more=True).spans_left >= 500
    assert not budget(540, 500, has_more=True).is_closing


def test_jobs_that_began_before_are_not_bounded() -> None:
    before = HistoryBudget()
    before.count(50_000, 400, has_more=True)

    assert before.spans_left > 500
    assert not any((before.is_closing, before.may_continue, before.must_stop))
    before.check_room(50_000, 400)


def test_a_run_without_room_for_a_span_closes_for_good() -> None:
    full = budget(3290, 1, has_more=True)
    assert (full.is_closing, full.spans_left, full.may_continue) == (True, 0, True)

    full.count(3290, 0, has_more=True)
    assert full.is_closing, "what came back does not open it again"
    assert not budget(3290, 1).is_closing, "nothing is to be started any more: it may just end"


def test_what_temporal_suggests_is_done() -> None:
    assert budget(12, is_suggested=True).is_closing


def test_a_job_at_rest_goes_on_in_a_new_run_early_and_a_small_one_never() -> None:
    assert budget(1001).may_continue
    assert not budget(999).may_continue


def test_requests_are_refused_before_what_runs_is_stopped() -> None:
    for events in range(3000, 4000):
        running = budget(events, 4)
        if running.must_stop:
            with pytest.raises(ValueError, match="ask again in a moment"):
                running.check_room(events, 4)


@pytest.mark.parametrize("running", [0, 2, 24, 250, 500])
def test_pauses_without_end_leave_room_for_the_end_of_all_that_runs(running: int) -> None:
    """What is ended then is six events for each activity; `tests/chaos/test_many_pauses.py` is the real thing."""
    events = 20 + running
    pauses = 0
    while not budget(events, running).must_stop:
        events += EVENTS_A_PAUSE
        pauses += 1

    assert events + 6 * running <= MOST_EVENTS
    assert pauses >= 11


def simulate_pauses(mode: str, pauses: int, running: int) -> list[int]:
    """Return the events of each run of a job that is paused again and again, and whose renders never end.

    Where a run must stop, and at each pause of the mode `now`, all that runs is ended and begins again in a new run.
    """
    runs, events = [], 20 + running
    for _ in range(pauses):
        events += EVENTS_A_PAUSE
        found = budget(events, running)
        if mode == "now" or found.must_stop:
            events += 6 * running
            found.count(events, 0)
            if found.may_continue:
                runs.append(events)
                events = 20
            events += running
    return [*runs, events]


@pytest.mark.parametrize("mode", ["drain", "freeze", "now"])
@pytest.mark.parametrize("running", [1, 24, 500])
def test_no_run_of_three_hundred_pauses_is_too_long(mode: str, running: int) -> None:
    runs = simulate_pauses(mode, 300, running)

    assert max(runs) <= MOST_EVENTS
    assert len(runs) <= 301


def test_no_run_of_a_hundred_failing_passes_is_too_long() -> None:
    runs = simulate_runs(1000, 8, passes=100, fails=True, noise=random.Random(5))

    assert max(runs) <= MOST_EVENTS


@pytest.mark.parametrize(("count", "limit"), [(5000, 500), (20_000, 16), (3000, 1)])
@pytest.mark.parametrize("fails", [False, True])
def test_no_run_of_a_simulated_job_is_too_long(count: int, limit: int, fails: bool) -> None:
    """Each end of a span is followed by a workflow task of its own, which is the worst that can be."""
    runs = simulate_runs(count, limit, passes=5 if fails else 1, fails=fails, noise=random.Random(3))

    assert max(runs) <= MOST_EVENTS
    assert len(runs) < 2 + (5 if fails else 1) * count / 150, "and no more of them than it takes"

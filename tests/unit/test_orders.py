"""Pauses and their ends, in any order: what is asked last or hardest holds, and the work agrees with it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.models.status import PauseMode
from longtake.names import Control
from workflows.scheduling import PauseState, Scheduler

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

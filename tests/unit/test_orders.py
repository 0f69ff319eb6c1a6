"""Pauses and their ends, in any order: what is asked last or hardest holds, and the work agrees with it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.models.status import PauseMode
from longtake.names import Control
from workflows.scheduling import PauseOrders, Scheduler

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
    orders = PauseOrders()
    for mode in modes:
        orders.pause(mode)
        orders.pause(mode)

    assert orders.pause_mode is in_force
    assert orders.paused is (in_force is not None)
    assert orders.control is control
    assert bool(orders.freeze) is (in_force is FREEZE)


def test_each_freeze_has_a_number_of_its_own() -> None:
    orders = PauseOrders()
    numbers = []
    for _ in range(3):
        orders.pause(FREEZE)
        numbers.append(orders.freeze)
        orders.resume()
        assert orders.freeze == 0
    assert numbers == [1, 2, 3]


@given(st.lists(st.sampled_from([DRAIN, FREEZE, NOW, None])))
def test_a_resume_takes_back_every_pause(requests: list[PauseMode | None]) -> None:
    orders = PauseOrders()
    for mode in requests:
        orders.resume() if mode is None else orders.pause(mode)
    orders.resume()

    assert not orders.paused
    assert orders.control is Control.RUN


@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_pauses_and_resumes_leave_state_and_work_agreed(seed: int) -> None:
    """The loop of the workflow without Temporal: signals first, then either rest or start."""
    chance = random.Random(seed)
    orders, scheduler = PauseOrders(), Scheduler(400, limit=4)
    rendered: set[int] = set()
    for _ in range(1000):
        orders.pause(chance.choice([DRAIN, FREEZE, NOW]))
        if chance.random() < 0.5:
            # The workflow may run between the two, or see both at once.
            before = scheduler.running
            if orders.pause_mode is NOW:
                for span in before:
                    scheduler.report(span)
            assert set(scheduler.running) <= set(before), "a paused job starts nothing"
        orders.resume()
        assert not orders.paused
        scheduler.take()
        assert len(scheduler.running) == 4 or not scheduler.pending, "a job that goes on works"
        for span in scheduler.running[: chance.random() < 0.3]:
            chunks = set(range(span.start, span.stop))
            assert not chunks & rendered, "nothing twice"
            rendered |= chunks
            scheduler.report(span, done=[(span.start, span.stop)])
    assert scheduler.done_count == len(rendered) > 0

"""The watch of a job is never dead while work relies on it."""

import asyncio
from unittest.mock import Mock

import pytest
from support.farm import eventually
from temporalio.testing import ActivityEnvironment

from activities import job_watch
from activities.errors import AttemptLostError, WatchEndedError
from activities.farm_listener import FarmAudience
from activities.job_watch import JobOrders, JobWatch, JobWatches
from longtake.models.messages import FarmOrder
from longtake.names import Control


async def test_a_watch_that_dies_stops_its_work_with_the_reason_and_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[JobOrders | None] = []

    async def read_orders(*_: object) -> JobOrders | None:
        if not answers:
            raise KeyError("a bug")
        return answers[-1]

    monkeypatch.setattr(job_watch, "read_orders", read_orders)
    monkeypatch.setattr(job_watch, "_ASK_SECONDS", 0.01)
    monkeypatch.setattr(job_watch, "_LEAST_INTERVAL_SECONDS", 0.01)
    watches = JobWatches(Mock(), contact_seconds=30)
    first_has_ended, second_may_end = asyncio.Event(), asyncio.Event()

    async def work_first() -> None:
        async with watches.watch():
            try:
                await asyncio.Event().wait()
            finally:
                # It takes a while to stop, and another chunk of the job begins meanwhile.
                first_has_ended.set()
                await asyncio.wait_for(second_may_end.wait(), 10)

    async def work_second() -> JobOrders:
        answers.append(JobOrders(freeze=7))
        async with watches.watch() as watch, asyncio.timeout(10):
            while watch.orders.freeze != 7:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return watch.orders

    first = asyncio.ensure_future(ActivityEnvironment().run(work_first))
    await asyncio.wait_for(first_has_ended.wait(), 10)
    assert (await ActivityEnvironment().run(work_second)).freeze == 7
    second_may_end.set()
    with pytest.raises(WatchEndedError, match="KeyError: 'a bug'"):
        await first


def order(control: str, freeze: int = 0, *, events: int) -> FarmOrder:
    return FarmOrder(job="job-1", run="run-1", control=control, freeze=freeze, events=events)


async def test_an_answer_that_was_under_way_takes_no_order_back() -> None:
    async def ask(_: float) -> JobOrders:
        watch.hear_order(order("freeze", 3, events=21))
        return JobOrders(Control.RUN, events=20, running=5, watchers=2)

    watch = JobWatch(ask, contact_seconds=30)
    orders = await watch.refresh()

    assert (orders.control, orders.freeze) == (Control.FREEZE, 3)
    assert (orders.running, orders.watchers) == (5, 2)


async def test_an_answer_that_is_overtaken_by_another_one_takes_no_order_back() -> None:
    answers = [JobOrders(Control.RUN, events=20), JobOrders(Control.FREEZE, 3, split=1, events=24)]
    may_answer = asyncio.Event()

    async def ask(_: float) -> JobOrders:
        answer = answers.pop(0)
        if answer.control is Control.RUN:
            await may_answer.wait()
        return answer

    watch = JobWatch(ask, contact_seconds=30)
    first = asyncio.ensure_future(watch.refresh())
    await asyncio.sleep(0)
    await watch.refresh()
    may_answer.set()
    assert await first == JobOrders(Control.FREEZE, 3, split=1)


@pytest.mark.parametrize(
    ("events", "is_taken", "looks"),
    [(19, False, False), (20, False, True), (21, True, False), (0, False, True)],
    ids=["before what was read", "two changes at once", "since", "of an older workflow"],
)
async def test_an_order_that_is_told_counts_where_nothing_newer_was_read(
    events: int, is_taken: bool, looks: bool
) -> None:
    """An order to run that comes late would let frozen renders go on."""
    asked = 0

    async def ask(_: float) -> JobOrders:
        nonlocal asked
        asked += 1
        return JobOrders(Control.FREEZE, 3, events=20)

    watch = JobWatch(ask, contact_seconds=3000)
    await watch.refresh()
    watching = asyncio.create_task(watch.poll(lambda _: 1000))
    watch.hear_order(order("run", events=events))

    assert watch.orders.freeze == (0 if is_taken else 3)
    if looks:
        await eventually(lambda: asked == 2, "the memo is read")
    else:
        # It may look after 5 ms at most, which is the jitter of one watcher.
        await asyncio.sleep(0.1)
        assert asked == 1
    watching.cancel()


async def test_an_order_that_this_worker_does_not_know_begins_nothing() -> None:
    watch = JobWatch(Mock(), contact_seconds=30)
    watch.hear_order(order("dance", 3, events=21))
    assert (watch.orders.control, watch.orders.freeze) == (Control.DRAIN, 0)


async def test_what_is_told_once_more_has_the_watch_look_for_a_split() -> None:
    answers = [JobOrders(events=20), JobOrders(split=1, events=40)]

    async def ask(_: float) -> JobOrders:
        return answers.pop(0)

    watch = JobWatch(ask, contact_seconds=3000)
    await watch.refresh()
    watching = asyncio.create_task(watch.poll(lambda _: 1000))
    watch.hear_order(order("run", events=31))
    await eventually(lambda: watch.orders.split == 1, "the order in the memo is read")
    watching.cancel()


class Farm:
    """A farm that tells nothing."""

    def __init__(self, *, is_hearing: bool = True, error: Exception | None = None) -> None:
        self.is_hearing = is_hearing
        self._error = error

    async def listen(self, audience: FarmAudience, contact_seconds: float) -> None:
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("are_told", "farm", "asks_often"),
    [
        (True, Farm(), False),
        (False, Farm(), True),
        (True, Farm(is_hearing=False), True),
        (True, Farm(is_hearing=False, error=KeyError("a bug")), True),
        (True, None, True),
    ],
    ids=["told", "a job of an older worker", "not heard", "a listener that has died", "no farm"],
)
async def test_a_job_is_asked_often_where_its_orders_are_not_told(
    are_told: bool, farm: Farm | None, asks_often: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def read_orders(*_: object) -> JobOrders:
        nonlocal asked
        asked += 1
        return JobOrders(are_told=are_told)

    async def work() -> None:
        async with watches.watch() as watch:
            await watch.refresh()
            watch.hear_gap()
            await asyncio.sleep(0.3)

    monkeypatch.setattr(job_watch, "read_orders", read_orders)
    monkeypatch.setattr(job_watch, "_ASK_SECONDS", 0.01)
    watches = JobWatches(Mock(), 30, farm)  # type: ignore[arg-type]
    await ActivityEnvironment().run(work)

    assert (asked > 5) is asks_often, asked


async def test_silence_is_noticed_in_time_also_where_orders_are_told() -> None:
    async def ask(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.05))

    async def work() -> None:
        watch = JobWatch(ask, contact_seconds=1)
        watching = asyncio.create_task(watch.poll(lambda _: 60))
        try:
            async with watch.stop_when_cut_off():
                await asyncio.Event().wait()
        finally:
            watching.cancel()

    began = asyncio.get_running_loop().time()
    with pytest.raises(AttemptLostError, match="has not answered for 1 s"):
        await ActivityEnvironment().run(work)
    assert asyncio.get_running_loop().time() - began < 5

"""The watch of a job is never dead while work relies on it."""

import asyncio
from unittest.mock import Mock

import pytest
from temporalio.testing import ActivityEnvironment

from activities import job_watch
from activities.errors import WatchEndedError
from activities.job_watch import JobOrders, JobWatches


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

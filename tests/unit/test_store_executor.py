"""Calls of a store in threads of their own: cancels and timeouts that wait for them, or do not."""

import asyncio
import threading

import pytest

from activities.remote.store_executor import StoreExecutor


class Work:
    """Blocking work that lasts until it is told to end."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.has_ended = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(10)
        self.has_ended.set()
        return "done"


async def begun(work: Work) -> None:
    assert await asyncio.to_thread(work.began.wait, 10)


async def test_a_cancel_does_not_wait_for_work_that_is_run() -> None:
    work = Work()
    async with StoreExecutor(1, "test") as executor:
        task = asyncio.ensure_future(executor.run(work))
        await begun(work)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert not work.has_ended.is_set()
        work.may_end.set()


async def test_a_cancel_waits_for_work_that_is_run_shielded() -> None:
    work = Work()
    async with StoreExecutor(1, "test") as executor:
        task = asyncio.ensure_future(executor.run_shielded(work))
        await begun(work)
        task.cancel()
        work.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert work.has_ended.is_set()


async def test_work_goes_on_after_its_timeout() -> None:
    work = Work()
    async with StoreExecutor(1, "test") as executor:
        assert await executor.run_with_timeout(0.01, work) is False
        work.may_end.set()

        assert await asyncio.to_thread(work.has_ended.wait, 10)


async def test_work_that_waits_for_a_thread_begins_after_its_timeout() -> None:
    first, second = Work(), Work()
    second.may_end.set()
    async with StoreExecutor(1, "test") as executor:
        assert await executor.run_with_timeout(0.01, first) is False
        assert await executor.run_with_timeout(0.01, second) is False
        first.may_end.set()

        assert await asyncio.to_thread(second.has_ended.wait, 10)


@pytest.mark.parametrize("error", [None, OSError("the disk is gone")])
async def test_the_outcome_of_work_within_its_timeout_is_returned(error: OSError | None) -> None:
    def work() -> None:
        if error is not None:
            raise error

    async with StoreExecutor(1, "test") as executor:
        assert await executor.run_with_timeout(10, work) is (error is None)


async def test_a_closed_executor_drops_work_that_no_thread_has_begun() -> None:
    first, second = Work(), Work()
    async with StoreExecutor(1, "test") as executor:
        assert await executor.run_with_timeout(0.01, first) is False
        assert await executor.run_with_timeout(0.01, second) is False
    first.may_end.set()

    assert await asyncio.to_thread(first.has_ended.wait, 10)
    assert not second.began.is_set()

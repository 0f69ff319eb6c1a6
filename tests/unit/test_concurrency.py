"""Work side by side: looks that cost no more than their share, steps that are finished once they are begun, hangs."""

import asyncio
import threading
from pathlib import Path

import pytest

from longtake.concurrency import Throttle, finish_once_begun, read_in_thread, run_in_thread, run_with_timeout
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import StoreError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def looks_in(seconds: float, *, cost: float, share: float) -> int:
    """How often something of a certain cost is looked at, asked for a hundred times a second."""
    clock, looks = Clock(), 0

    def look() -> int:
        nonlocal looks
        looks += 1
        clock.now += cost
        return looks

    paced = Throttle(look, share=share, clock=clock)
    end = clock.now + seconds
    while clock.now < end:
        assert paced.call_if_due() in (looks, None)
        clock.now += 0.01
    return looks


def test_a_dear_look_takes_no_more_than_its_share() -> None:
    looks = looks_in(60, cost=0.05, share=0.02)

    assert 20 <= looks <= 24


def test_a_cheap_look_is_always_taken() -> None:
    assert looks_in(1, cost=0.0005, share=0.001) > 90


async def test_what_is_begun_and_must_be_finished_is_finished_although_the_work_is_stopped(tmp_path: Path) -> None:
    """A publication that ended between its steps would leave an output that has its final name and no record."""
    store, stop = DirectoryStore(tmp_path), threading.Event()

    def publish() -> None:
        with finish_once_begun():
            store.create(f"{tmp_path}/claim", b"1")
            stop.set()
            store.create(f"{tmp_path}/record", b"1")
        store.create(f"{tmp_path}/later", b"1")

    with pytest.raises(StoreError, match="was interrupted"):
        await run_in_thread(publish, stop)

    assert store.names(str(tmp_path)) == ["claim", "record"]


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


async def wait_for(event: threading.Event) -> None:
    assert await run_in_thread(lambda: event.wait(10))


async def test_a_cancel_does_not_wait_for_a_look() -> None:
    work = Work()
    task = asyncio.ensure_future(read_in_thread(work))
    await wait_for(work.began)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not work.has_ended.is_set()
    work.may_end.set()


async def test_a_look_that_was_left_behind_makes_no_further_call_of_a_store(tmp_path: Path) -> None:
    work, outcome = Work(), list[str]()
    ended = threading.Event()

    def look() -> None:
        work()
        try:
            DirectoryStore(tmp_path).read(f"{tmp_path}/later")
        except OSError as error:
            outcome.append(str(error))
        ended.set()

    task = asyncio.ensure_future(read_in_thread(look))
    await wait_for(work.began)
    task.cancel()
    await asyncio.wait([task])
    work.may_end.set()
    await wait_for(ended)

    assert outcome == [f"{tmp_path}/later: was interrupted before it was done"]


async def test_work_that_hangs_takes_no_thread_from_other_work() -> None:
    """Of a pool, a share that hangs takes one thread after the other, until jobs of other stores stand still."""
    hanging = [Work() for _ in range(100)]
    looks = [asyncio.ensure_future(read_in_thread(work)) for work in hanging]
    records = [asyncio.ensure_future(run_with_timeout(10, work)) for work in hanging[:50]]
    try:
        assert await asyncio.wait_for(read_in_thread(lambda: "read"), 5) == "read"
        assert await asyncio.wait_for(run_with_timeout(5, lambda: "written"), 5)
    finally:
        for work in hanging:
            work.may_end.set()
        await asyncio.gather(*looks, *records)


async def test_work_goes_on_after_its_timeout() -> None:
    work = Work()
    assert await run_with_timeout(0.01, work) is False
    work.may_end.set()

    await wait_for(work.has_ended)


async def test_work_goes_on_after_a_cancel_of_the_wait_for_it() -> None:
    work = Work()
    task = asyncio.ensure_future(run_with_timeout(10, work))
    await wait_for(work.began)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    work.may_end.set()

    await wait_for(work.has_ended)


@pytest.mark.parametrize("error", [None, OSError("the disk is gone")])
async def test_the_outcome_of_work_within_its_timeout_is_returned(error: OSError | None) -> None:
    def work() -> None:
        if error is not None:
            raise error

    assert await run_with_timeout(10, work) is (error is None)


async def test_threads_are_used_again_also_after_errors() -> None:
    def fail() -> None:
        raise OSError(threading.get_ident())

    threads = set()
    for _ in range(100):
        threads.add(await run_in_thread(threading.get_ident))
        with pytest.raises(OSError, match=r"\d+") as caught:
            await run_in_thread(fail)
        threads.add(caught.value.args[0])
    # The next work may come a moment before a thread is idle again.
    assert len(threads) < 20

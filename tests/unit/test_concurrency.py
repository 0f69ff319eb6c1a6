"""Work side by side: looks that cost no more than their share, and steps that are finished once they are begun."""

import threading
from pathlib import Path

import pytest

from longtake.concurrency import Throttle, finish_once_begun, run_in_thread
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

"""Work side by side: looks that cost no more than their share."""

from longtake.concurrency import Throttle


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

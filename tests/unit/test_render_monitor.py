"""The clock of a render: it counts the seconds in which the render could work."""

from activities.backends.render_monitor import RenderClock


class Wall:
    """A clock that goes as it is told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_clock_stands_still_while_it_is_held() -> None:
    wall = Wall()
    clock = RenderClock(wall)
    wall.seconds += 5
    clock.pause()
    wall.seconds += 100
    clock.pause()
    assert clock.is_paused
    assert clock.now() == 5
    clock.resume()
    clock.resume()
    wall.seconds += 2

    assert not clock.is_paused
    assert clock.now() == 7

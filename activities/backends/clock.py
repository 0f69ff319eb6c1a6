"""The clock that a render is measured by."""

from collections.abc import Callable


class RenderClock:
    """Seconds in which a render could work: it stands still while the render is frozen.

    Every limit on a render is counted by this clock, so that no freeze uses up any of them.

    Args:
        time: A clock that never goes back, such as the event loop's.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._began = time()
        self._held_at: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether the clock stands still."""
        return self._held_at is not None

    def now(self) -> float:
        """Return the seconds since the render began, without those it was frozen."""
        return (self._time() if self._held_at is None else self._held_at) - self._began

    def hold(self) -> None:
        """Stand still."""
        if self._held_at is None:
            self._held_at = self._time()

    def go_on(self) -> None:
        """Go on from where it stood."""
        if self._held_at is not None:
            self._began += self._time() - self._held_at
            self._held_at = None

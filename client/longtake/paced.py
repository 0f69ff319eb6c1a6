"""Looks that cost more the more there is to see, kept cheap."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

# Below this it is not worth waiting: a few looks a second cost nothing.
_CHEAP_SECONDS = 0.001


class Paced(Generic[T]):
    """Looks no more often than a share of one core allows.

    Args:
        look: What is done.
        share: Of one core.
        clock: Seconds that never go back.
    """

    def __init__(self, look: Callable[[], T], *, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._share = share
        self._clock = clock
        self._due = float("-inf")

    def now(self) -> T | None:
        """Return what is seen now; None where it is too early for another look."""
        began = self._clock()
        if began < self._due:
            return None
        seen = self._look()
        took = self._clock() - began
        self._due = began + took / self._share if took > _CHEAP_SECONDS else began
        return seen

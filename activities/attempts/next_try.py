"""Another try of a chunk: why, and after which wait."""

import random

from activities.errors import ThrottledError
from longtake.errors import ErrorType

# A service without room is asked again after 1, 2, 4 ... seconds; one that names a time of its own, after that.
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0


class NextTry(Exception):
    """This try is over, and another one is due."""

    def __init__(self, sentence: str, type: ErrorType, wait_seconds: float) -> None:
        super().__init__(sentence)
        self.type = type
        self.wait_seconds = wait_seconds


def seconds_until_room(error: ThrottledError, throttled: int) -> float:
    """Return how long to wait before a service without room is called again.

    Args:
        error: What it answered.
        throttled: How often it had no room in a row, before this time.
    """
    if error.wait_seconds is not None:
        # Never earlier than it asks, and not all chunks at once.
        return min(error.wait_seconds, _LONGEST_ASKED_SECONDS) * random.uniform(1, 1.2)
    # The exponent is bounded: a service may be full for days.
    return min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0 ** min(throttled, 16)) * random.uniform(0.5, 1)

"""Waiting for a store that is away: what is rendered and proven is not thrown away for it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from activities.errors import AttemptError, AttemptLostError
from longtake.concurrency import in_thread
from longtake.stores.store import StoreError

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

# Below the time that an activity may take beside its render (`workflows/options.py`); a bucket's own calls have
# been patient for a minute each before this begins to count.
_LONGEST_SECONDS = 20 * 60.0
_LONGEST_PAUSE_SECONDS = 30.0


async def when_the_store_is_back(
    work: Callable[[], Result], tell: Callable[[str], None], *, longest_seconds: float = _LONGEST_SECONDS
) -> Result:
    """Return what the work makes; while the store is away it is done again and again.

    Args:
        work: Blocking, and safe to repeat after a failure anywhere in it.
        tell: Called with what stands in the way.
        longest_seconds: How long to go on.

    Raises:
        StoreError: The store stays away, or refuses for good.
    """
    clock = asyncio.get_running_loop().time
    end, pause = clock() + longest_seconds, 1.0
    while True:
        try:
            return await in_thread(work)
        except StoreError as error:
            if not error.passing or clock() + pause > end:
                raise
            _log.warning("%s; trying again in %g s", error, pause)
            tell(f"the store is away, and the finished render waits for it: {error}")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def failure_of_files(error: OSError, place: Path | str = "the store") -> AttemptError | AttemptLostError:
    """Return what a full disk or a store that went away makes of a try: not the renderer's fault."""
    if isinstance(error, StoreError):
        return AttemptLostError(str(error)) if error.passing else AttemptError(str(error))
    return AttemptError(f"{error.filename or place}: {error.strerror or error}")

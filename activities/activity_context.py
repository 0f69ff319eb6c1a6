"""Heartbeats: how an activity says that it lives, and hears that it must stop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from temporalio import activity

from longtake.contract import Contract

# Each answer to a heartbeat tells whether the activity is cancelled; the worker's throttle (worker.py) decides
# how many go out.
_BEAT_SECONDS = 0.2


@asynccontextmanager
async def beating(details: Callable[[], Contract | None] = lambda: None) -> AsyncIterator[None]:
    """Beat until the block is left; a cancel of the activity arrives inside it as `CancelledError`.

    Args:
        details: Called for each beat; what it returns is what the next attempt finds if this one is lost.
    """

    async def beat() -> None:
        while True:
            _send(details())
            await asyncio.sleep(_BEAT_SECONDS)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        # The last word travels with the failure, if there is one.
        _send(details())


def _send(details: Contract | None) -> None:
    if details is None:
        activity.heartbeat()
    else:
        activity.heartbeat(details)

"""Turns at a service: a worker has so many calls under way at once, and no more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from activities.backends.backend import RenderWatcher
from activities.backends.following import LOOK_SECONDS
from activities.backends.freezing import until_it_may_run


@asynccontextmanager
async def turn(turns: asyncio.Semaphore, watcher: RenderWatcher) -> AsyncIterator[None]:
    """Enter the block when it is this attempt's turn and no freeze is ordered; freezes are confirmed until then."""
    while True:
        await until_it_may_run(watcher)
        if await _is_taken(turns, watcher):
            break
    try:
        yield
    finally:
        turns.release()


async def _is_taken(turns: asyncio.Semaphore, watcher: RenderWatcher) -> bool:
    """Return whether a turn was taken; False when a freeze is ordered before."""
    waiting = asyncio.ensure_future(turns.acquire())
    try:
        while not watcher.freeze_order:
            if (await asyncio.wait([waiting], timeout=LOOK_SECONDS))[0]:
                return True
    except asyncio.CancelledError:
        await _give_back(waiting, turns)
        raise
    await _give_back(waiting, turns)
    return False


async def _give_back(waiting: asyncio.Future[Literal[True]], turns: asyncio.Semaphore) -> None:
    waiting.cancel()
    await asyncio.wait([waiting])
    if not waiting.cancelled():
        turns.release()

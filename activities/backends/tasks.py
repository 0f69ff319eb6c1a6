"""Tasks beside the one that waits for them."""

import asyncio
from typing import Any


async def end_of(*tasks: asyncio.Future[Any]) -> None:
    """Return when all of these have ended, however; what they came to is for others to ask."""
    if tasks:
        await asyncio.wait(tasks)


async def drop(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end, whatever that is; a cancel of the caller's own comes through."""
    task.cancel()
    await end_of(task)
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it as lost.
        task.exception()

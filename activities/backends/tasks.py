"""Tasks beside the one that waits for them."""

import asyncio
from typing import Any


async def drop(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end, whatever that is; a cancel of the caller's own comes through."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it as lost.
        task.exception()

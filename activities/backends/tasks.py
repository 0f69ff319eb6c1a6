"""Tasks beside the one that waits for them."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def drop(task: "asyncio.Future[Any]") -> None:
    """Cancel a task and wait for its end, whatever that is; a cancel of the caller's own comes through."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it as lost.
        task.exception()


async def to_its_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Return what the work returns; cancels, however many, are raised only when it has ended."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result

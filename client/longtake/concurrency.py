"""Blocking work beside the event loop, with a cancel that waits for it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Return what the function returns; a cancel sets `stop` and is raised when the function has ended.

    `asyncio.to_thread` alone would leave the thread writing files for an attempt that counts as ended.
    """
    return await to_the_end(asyncio.to_thread(function), stop)


async def to_the_end(work: Coroutine[Any, Any, Result], stop: threading.Event | None = None) -> Result:
    """Return what the work returns; a cancel, and any more of them, sets `stop` and is raised when it has ended."""
    task = asyncio.ensure_future(work)
    cancel: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancel = error
            if stop is not None:
                stop.set()
    if cancel is None:
        return task.result()
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it as lost: the cancel is what counts.
        task.exception()
    raise cancel

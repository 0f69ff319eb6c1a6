"""Blocking work beside the event loop, with a cancel that waits for it."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Return what the function returns; a cancel sets `stop` and is raised when the function has ended.

    `asyncio.to_thread` alone would leave the thread writing files for an attempt that counts as ended.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
        await asyncio.wait([work])
        if not work.cancelled():
            # Retrieved, so that asyncio does not report it as lost: the cancel is what counts.
            work.exception()
        raise

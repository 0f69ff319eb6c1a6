"""Looks that cost more the more there is to see, kept cheap."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Below this it is not worth waiting: a few looks a second cost nothing.
_CHEAP_SECONDS = 0.001


class Throttle(Generic[T]):
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


Result = TypeVar("Result")


async def in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Return what the function returns; a cancel sets `stop` and is raised when the function has ended.

    `asyncio.to_thread` alone would leave the thread writing files for an attempt that counts as ended.
    """
    return await shield_until_done(asyncio.to_thread(function), stop)


async def shield_until_done(work: Coroutine[Any, Any, Result], stop: threading.Event | None = None) -> Result:
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


async def wait_all(*tasks: asyncio.Future[Any]) -> None:
    """Return when all of these have ended, however; what they came to is for others to ask."""
    if tasks:
        await asyncio.wait(tasks)


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end, whatever that is; a cancel of the caller's own comes through."""
    task.cancel()
    await wait_all(task)
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it as lost.
        task.exception()

"""Run blocking functions beside an event loop, wait for tasks without losing errors, and throttle costly calls."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Result = TypeVar("Result")

# Faster calls are not throttled: a few of them a second cost nothing.
_CHEAP_SECONDS = 0.001


class Throttle(Generic[T]):
    """Limit how often a costly function is called, to a share of one core's time.

    Args:
        function: The function.
        share: Largest part of one core that all calls together may take, 0 to 1.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, function: Callable[[], T], *, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._function = function
        self._share = share
        self._clock = clock
        self._due = float("-inf")

    def call_if_due(self) -> T | None:
        """Call the function and return its result, or return None while a call would exceed the share."""
        began = self._clock()
        if began < self._due:
            return None
        result = self._function()
        took = self._clock() - began
        self._due = began + took / self._share if took > _CHEAP_SECONDS else began
        return result


async def run_in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Run a blocking function in a thread; on a cancel, set `stop`, wait for the function to end and raise the cancel.

    With `asyncio.to_thread` alone the thread would go on writing files for an attempt that counts as ended.
    """
    return await shield_until_done(asyncio.to_thread(function), stop)


async def shield_until_done(work: Coroutine[Any, Any, Result], stop: threading.Event | None = None) -> Result:
    """Await work to its end; on a cancel, set `stop`, wait for the work to end and raise the cancel."""
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
        # The error is retrieved, or asyncio would log it as lost; the cancel is raised in its place.
        task.exception()
    raise cancel


async def wait_all(*tasks: asyncio.Future[Any]) -> None:
    """Wait until all tasks have ended; raise none of their errors."""
    if tasks:
        await asyncio.wait(tasks)


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it has ended; raise none of its errors."""
    task.cancel()
    await wait_all(task)
    if not task.cancelled():
        # The error is retrieved, or asyncio would log it as lost.
        task.exception()


@asynccontextmanager
async def run_beside(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run work in the background while the block runs; where it raises, end the block and raise its error.

    A task that nobody watches dies in silence: without heartbeats a job's cancel never arrives, and without a look at
    Temporal a worker that is cut off renders on.
    """
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None

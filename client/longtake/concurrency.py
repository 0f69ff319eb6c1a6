"""Run blocking work beside an event loop, end tasks without losing errors, and throttle costly looks."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Result = TypeVar("Result")

# Below this it is not worth waiting: a few looks a second cost nothing.
_CHEAP_SECONDS = 0.001


class Throttle(Generic[T]):
    """Call `look` at most for a share of one core's time.

    Args:
        look: Costly function without arguments.
        share: Largest part of one core that all calls together may take, 0 to 1.
        clock: Monotonic clock in seconds.
    """

    def __init__(self, look: Callable[[], T], *, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._share = share
        self._clock = clock
        self._due = float("-inf")

    def now(self) -> T | None:
        """Return the result of `look`, or None while another call would pass the share."""
        began = self._clock()
        if began < self._due:
            return None
        seen = self._look()
        took = self._clock() - began
        self._due = began + took / self._share if took > _CHEAP_SECONDS else began
        return seen


async def run_in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Run a blocking function in a thread; a cancel sets `stop` and is raised when the function has ended.

    With `asyncio.to_thread` alone the thread would go on writing files for an attempt that counts as ended.
    """
    return await shield_until_done(asyncio.to_thread(function), stop)


async def shield_until_done(work: Coroutine[Any, Any, Result], stop: threading.Event | None = None) -> Result:
    """Wait for work to its end; cancels of the caller set `stop` and are raised when the work has ended."""
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
    """Wait until all tasks have ended, whatever their results are; raise none of their errors."""
    if tasks:
        await asyncio.wait(tasks)


async def cancel_and_wait(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait for its end; a cancel of the caller is raised."""
    task.cancel()
    await wait_all(task)
    if not task.cancelled():
        # Retrieved, so that asyncio does not report it as lost.
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

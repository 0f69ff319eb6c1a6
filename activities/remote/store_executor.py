"""Run the short blocking calls of a store that remote attempts depend on, in threads of their own.

Workers and agents share this: uploads and downloads of films may occupy all threads of the event loop for minutes, and
records of calls, heartbeats and orders to stop must not wait for them.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self, TypeVar

from longtake.concurrency import shield_until_done

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class StoreExecutor:
    """Threads for calls of a store.

    Args:
        threads: How many calls may be under way at once.
        name: Prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        # Work of `run_with_timeout` that goes on after its timeout.
        self._unfinished: set[asyncio.Future[bool]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop work that no thread has begun; work that a thread has begun goes on, and is not awaited."""
        # Not cancelled, they would call an event loop that may be closed by then.
        for task in tuple(self._unfinished):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return the result of blocking work; a cancel does not wait for the work."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def run_shielded(self, work: Callable[[], Result]) -> Result:
        """Return the result of blocking work; a cancel is raised when the work has ended."""
        return await shield_until_done(self.run(work))

    async def run_with_timeout(self, seconds: float, work: Callable[[], object]) -> bool:
        """Run blocking work and wait for it at most this long; after that, and after a cancel, the work goes on.

        Returns:
            Whether the work has succeeded within the time. An `OSError` of it is logged and not raised.
        """
        task = asyncio.get_running_loop().run_in_executor(self._threads, partial(_try, work))
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        done, _ = await asyncio.wait([task], timeout=seconds)
        if not done:
            _log.warning("the store does not answer within %.1f s", seconds)
            return False
        return task.result()


def _try(work: Callable[[], object]) -> bool:
    try:
        work()
    except OSError as error:
        _log.warning("a record of a remote attempt cannot be written to the store: %s", error)
        return False
    return True

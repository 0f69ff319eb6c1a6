"""Run blocking functions beside an event loop, wait for tasks without losing errors, and throttle costly calls."""

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

# A call to a healthy store takes milliseconds; a share whose server is gone answers after minutes, or never.
_HUNG_SECONDS = 0.3

# Work that goes on although it was told to stop is not waited for any longer, whatever it does.
_LONGEST_WAIT_SECONDS = 10.0

# Pause between two looks at a thread that was told to stop.
_LOOK_SECONDS = 0.02

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
        return None if self._clock() < self._due else self.call()

    def call(self) -> T:
        """Call the function whatever its share, as the last call of all must: nothing later makes up for it."""
        began = self._clock()
        result = self._function()
        took = self._clock() - began
        self._due = began + took / self._share if took > _CHEAP_SECONDS else began
        return result


class BlockingWork:
    """One blocking function in a thread: whether it is to stop, and since when it waits for a store.

    Args:
        stop: Event that tells the function to stop.
        is_cleanup: Whether the function works on after a stop.
    """

    def __init__(self, stop: threading.Event, *, is_cleanup: bool = False) -> None:
        self.stop = stop
        self.is_cleanup = is_cleanup
        # Whether the function has begun what it must finish; not where a hanging call has left it behind.
        self.must_finish = False
        self.is_left_behind = False
        self._calls: dict[int, float] = {}

    @property
    def is_stopped(self) -> bool:
        """Whether no further call of a store may begin."""
        if self.is_cleanup or (self.must_finish and not self.is_left_behind):
            return False
        return self.stop.is_set()

    def hangs(self) -> bool:
        """Tell whether a call of a store has not been answered for some time."""
        return any(time.monotonic() - began > _HUNG_SECONDS for began in tuple(self._calls.values()))

    @contextmanager
    def time_call(self) -> Iterator[None]:
        """Measure one call of a store."""
        thread = threading.get_ident()
        if thread in self._calls:
            # A call within a call.
            yield
            return
        self._calls[thread] = time.monotonic()
        try:
            yield
        finally:
            del self._calls[thread]


# The work that the current thread does; copied to threads that help with it.
_work: ContextVar[BlockingWork | None] = ContextVar("work", default=None)


def current_work() -> BlockingWork | None:
    """Return the work of `run_in_thread` that this thread belongs to."""
    return _work.get()


@contextmanager
def finish_once_begun() -> Iterator[None]:
    """Let the work of this thread make all calls of the block, also where it is stopped meanwhile.

    For steps of which some are worse than none and than all: an output that has its final name and no record.
    """
    work = current_work()
    if work is None or work.must_finish:
        yield
        return
    work.must_finish = True
    try:
        yield
    finally:
        work.must_finish = False


async def run_in_thread(function: Callable[[], Result], stop: threading.Event | None = None) -> Result:
    """Run a blocking function in a thread; on a cancel, stop the function, wait for its end and raise the cancel.

    A stop sets `stop`, and no further call of a store begins: stores raise `StoreError` in its place. A call that
    hangs cannot be ended, so its thread is left behind; all that it may still do is that one call. With
    `asyncio.to_thread` alone the thread would go on writing files for an attempt that counts as ended, and one share
    that hangs would use up the few threads that asyncio has for all jobs.
    """
    return await _run(function, BlockingWork(stop or threading.Event()))


async def clean_up_in_thread(function: Callable[[], Result]) -> Result:
    """Run a blocking function that must be done also after a cancel; where a store hangs, leave it behind then.

    Raises:
        asyncio.CancelledError: A cancel came meanwhile; or the work was left behind after a cancel.
    """
    return await _run(function, BlockingWork(threading.Event(), is_cleanup=True))


async def read_in_thread(function: Callable[[], Result]) -> Result:
    """Run a blocking function that only looks at something; on a cancel, leave it behind at once.

    For looks that come again and again: neither a share that hangs nor a slow look holds up who has the loop.
    """
    work = BlockingWork(threading.Event())
    try:
        return await _start(function, work)
    except asyncio.CancelledError:
        work.stop.set()
        raise


async def run_with_timeout(seconds: float, function: Callable[[], object]) -> bool:
    """Run a blocking function and wait for its end at most this long; after that, and after a cancel, it goes on.

    Returns:
        Whether it has succeeded within the time. An `OSError` of it is logged and not raised.
    """
    done = _start(function, BlockingWork(threading.Event(), is_cleanup=True))
    await asyncio.wait([done], timeout=seconds)
    if not done.done():
        _log.warning("a store does not answer within %.1f s", seconds)
        return False
    try:
        done.result()
    except OSError as error:
        _log.warning("a record cannot be written to the store: %s", error)
        return False
    return True


def _start(function: Callable[[], Result], work: BlockingWork) -> "asyncio.Future[Result]":
    """Start a blocking function in a thread of its own, and return the future of its result."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()
    # Where nobody waits for the work any more, asyncio would log its error as lost.
    done.add_done_callback(drop_error)

    def settle(result: Result | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]  # without an error there is a result
        else:
            done.set_exception(error)

    def run() -> None:
        _work.set(work)
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            # The loop has ended, and nobody waits.
            _log.debug("a thread that was left behind has ended")

    _threads.run(partial(copy_context().run, run))
    return done


# An idle thread ends after this time, so that a worker without work has none.
_IDLE_SECONDS = 10.0


class _Threads:
    """Run work in threads, of which there are as many as there is work at once, so that none waits for another.

    An idle thread takes the next work: a thread of its own for each of the ten steps of a chunk took half of the time
    of the event loop, which waits until a new thread has begun.
    """

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[Callable[[], object]]] = deque()
        # Threads do not come with a fork.
        os.register_at_fork(after_in_child=self._idle.clear)

    def run(self, work: Callable[[], object]) -> None:
        """Run work, whose errors it handles itself, in an idle thread or a new one."""
        try:
            self._idle.pop().put(work)
        except IndexError:
            # A daemon, so that a share that hangs does not keep the process from its end.
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()

    def _serve(self, work: Callable[[], object] | None) -> None:
        inbox: SimpleQueue[Callable[[], object]] = SimpleQueue()
        thread = threading.current_thread()
        while work is not None:
            thread.name = "blocking-work"
            work()
            thread.name = "idle"
            # What it holds is not kept while the thread is idle.
            del work
            self._idle.append(inbox)
            work = self._wait(inbox)

    def _wait(self, inbox: "SimpleQueue[Callable[[], object]]") -> Callable[[], object] | None:
        """Wait for the next work; return None when none has come for some time."""
        try:
            return inbox.get(timeout=_IDLE_SECONDS)
        except Empty:
            try:
                self._idle.remove(inbox)
            except ValueError:
                # It was given work a moment ago.
                return inbox.get()
            return None


_threads = _Threads()


async def _run(function: Callable[[], Result], work: BlockingWork) -> Result:
    loop, done = asyncio.get_running_loop(), _start(function, work)
    task = asyncio.current_task()
    # Cleanup after a cancel, during which no further cancel need come.
    cancelled_before = work.is_cleanup and task is not None and task.cancelling() > 0
    cancel: asyncio.CancelledError | None = None
    since = loop.time()
    while not done.done():
        is_bounded = cancelled_before or cancel is not None
        if is_bounded and (work.hangs() or loop.time() - since > _LONGEST_WAIT_SECONDS):
            _log.warning("a call of a store does not return; it is left behind")
            work.is_left_behind = True
            raise cancel or asyncio.CancelledError
        try:
            await asyncio.wait([done], timeout=_LOOK_SECONDS if is_bounded else None)
        except asyncio.CancelledError as error:
            since = loop.time() if cancel is None else since
            cancel = error
            work.stop.set()
    if cancel is None:
        return done.result()
    # In place of an error of the work.
    raise cancel


def drop_error(done: asyncio.Future[Any]) -> None:
    """Retrieve the error of work, or asyncio would log it as lost where nobody waits for it."""
    if not done.cancelled():
        done.exception()


async def shield_until_done(work: Coroutine[Any, Any, Result]) -> Result:
    """Await work to its end; on a cancel, wait for the work to end and raise the cancel."""
    task = asyncio.ensure_future(work)
    cancel: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancel = error
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

"""Report the progress of a render to the store, and wait for reasons to stop it: orders, deadlines, lost callers."""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial

from activities.backends.backend import Progress
from activities.remote.call_records import CallRecords
from activities.remote.protocol import RemoteProgress
from agent.call import Invocation
from longtake.concurrency import read_in_thread, run_in_thread, shield_until_done, wait_all
from longtake.text import shorten_line

_log = logging.getLogger(__name__)

# Between two looks for an order to stop. A renderer that ignores SIGTERM is then gone two seconds after the order.
_LOOK_SECONDS = 0.5

# After the caller has hung up: one that means to stop the render writes the order at the same moment.
_HURRIED_LOOK_SECONDS = 0.1
_HURRIED_SECONDS = 2.0

# Between two reports of progress.
_BEAT_SECONDS = 1.0

_LONGEST_MESSAGE = 400


class Stop(Enum):
    """Why a render is stopped."""

    ORDERED = "it was told to stop"
    OUT_OF_TIME = "its time is up"
    ORPHANED = "its caller hung up, and nobody came to wait for it"
    SHUTTING_DOWN = "the platform takes this instance down"


# Workers wait 10 s for the result of an agent that they stop, and platforms 10 s from SIGTERM to SIGKILL.
_GRACE_SECONDS = {Stop.ORDERED: 7.0, Stop.ORPHANED: math.inf, Stop.OUT_OF_TIME: math.inf, Stop.SHUTTING_DOWN: 4.0}


class StopMonitor:
    """Waits for the first reason to stop one render.

    A store that is away for a while stops nothing: orders to stop are read when it is back.

    Args:
        calls: The call records of the chunk.
        attempt: Name of the attempt.
        call: The call that brought the order.
        ends_at: When rendering must end, by the loop's clock.
        orphan_seconds: How long rendering goes on when the caller has hung up and no other worker joins.
    """

    def __init__(
        self,
        calls: CallRecords,
        attempt: str,
        call: Invocation,
        *,
        ends_at: float,
        orphan_seconds: float,
    ) -> None:
        self._calls = calls
        self._attempt = attempt
        self._call = call
        self._ends_at = ends_at
        self._orphan_seconds = orphan_seconds

    async def wait_for_stop(self, work: "asyncio.Task[object]") -> Stop | None:
        """Return the first reason to stop; None when the work ends before there is one."""
        reasons = {
            asyncio.create_task(wait): stop
            for wait, stop in (
                (self._ordered(), Stop.ORDERED),
                (self._out_of_time(), Stop.OUT_OF_TIME),
                (self._orphaned(), Stop.ORPHANED),
                (self._shutting_down(), Stop.SHUTTING_DOWN),
            )
        }
        try:
            await asyncio.wait({work, *reasons}, return_when=asyncio.FIRST_COMPLETED)
            reached = [wait for wait in reasons if wait.done()]
            for wait in reached:
                # A watch that has died is no reason to say that a stop was ordered.
                wait.result()
            return reasons[reached[0]] if reached and not work.done() else None
        finally:
            for wait in reasons:
                wait.cancel()
            await shield_until_done(wait_all(*reasons))

    async def _ordered(self) -> None:
        hurried_until: float | None = None
        while not await self._look(self._calls.is_stopped):
            if not self._call.disconnected.is_set():
                await _wait_for(self._call.disconnected, _LOOK_SECONDS)
                continue
            hurried_until = hurried_until or _now() + _HURRIED_SECONDS
            await asyncio.sleep(_HURRIED_LOOK_SECONDS if _now() < hurried_until else _LOOK_SECONDS)

    async def _out_of_time(self) -> None:
        await asyncio.sleep(self._ends_at - _now())

    async def _orphaned(self) -> None:
        await self._call.disconnected.wait()
        _log.info("%s: its caller hung up", self._attempt)
        await asyncio.sleep(self._orphan_seconds)
        while True:
            joined = await self._look(self._calls.is_joined, unknown=None)
            if joined is False:
                return
            if joined:
                _log.info("%s: somebody else waits for it, and it goes on to its end", self._attempt)
                await asyncio.Event().wait()
            # A store that is away cannot say that nobody waits.
            await asyncio.sleep(_LOOK_SECONDS)

    async def _shutting_down(self) -> None:
        await self._call.shutting_down.wait()

    async def _look(self, question: Callable[[str], bool], unknown: bool | None = False) -> bool | None:
        try:
            return await read_in_thread(partial(question, self._attempt))
        except OSError as error:
            _log.warning("%s: the store does not say whether it may go on: %s", self._attempt, error)
            return unknown


class ProgressReporter:
    """Writes the progress of one render to the store; the `RenderWatcher` of that render.

    A store that is away costs reports and nothing else.

    Args:
        calls: The call records of the chunk.
        attempt: Name of the attempt.
        call: The call that brought the order.
        save_seconds: What must be left of the call when the processes have ended.
    """

    # Services bill frozen processes too, so that workers stop a render instead of freezing it.
    freeze_order = 0

    def __init__(self, calls: CallRecords, attempt: str, call: Invocation, *, save_seconds: float) -> None:
        self._calls = calls
        self._attempt = attempt
        self._call = call
        self._save_seconds = save_seconds
        self._beat = 0
        self._newest = Progress()
        self._begun_with: int | None = None
        self.stop: Stop | None = None

    @property
    def most_grace_seconds(self) -> float:
        """Longest time between SIGTERM and SIGKILL for the reason of this stop."""
        most = math.inf if self.stop is None else _GRACE_SECONDS[self.stop]
        return max(0.0, min(most, self._call.left_seconds - self._save_seconds))

    @property
    def frames_done(self) -> int:
        """Frames of the chunk that are done, those of earlier attempts included."""
        return self._newest.frames_done

    @property
    def frames_made(self) -> int:
        """Frames of the chunk that this attempt has made."""
        return self.frames_done - (self._begun_with or 0)

    def on_frozen(self, order: int) -> None:
        """Ignore freezes: `freeze_order` never orders one."""

    def on_progress(self, progress: Progress) -> None:
        """Keep the newest progress for the next report."""
        if self._begun_with is None:
            self._begun_with = progress.frames_done
        self._newest = progress

    async def run(self) -> None:
        """Write a report each second until cancelled."""
        while True:
            self._beat += 1
            try:
                await run_in_thread(partial(self._calls.report, self._attempt, self._report()))
            except OSError as error:
                _log.warning("%s: the store does not hear how far it is: %s", self._attempt, error)
            await asyncio.sleep(_BEAT_SECONDS)

    def _report(self) -> RemoteProgress:
        newest = self._newest
        return RemoteProgress(
            beat=self._beat,
            frames_done=newest.frames_done,
            message=shorten_line(newest.message, _LONGEST_MESSAGE),
            cpu_seconds=round(newest.usage.cpu_seconds, 2),
            memory_bytes=newest.usage.memory_bytes,
            io_bytes=newest.usage.io_bytes,
        )


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most this long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()

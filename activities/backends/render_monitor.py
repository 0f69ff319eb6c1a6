"""Watching one render until it ends or reaches a limit: progress, freezes, time, stalls, finished outputs."""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from activities.backends.backend import Progress, RenderTask, RenderWatcher
from activities.backends.exit_status import ExitStatus, describe_evidence
from activities.backends.stall_detection import LingerDetector, OutputsSnapshot, StallDetector, inspect_outputs
from activities.processes.render_process import Usage
from activities.progress.reader import ProgressReader, Reading
from longtake.concurrency import cancel_and_wait, read_in_thread

# Pause between looks at a render that has just begun.
LOOK_SECONDS = 0.25
# Longest pause between looks at a render that goes on: two renders that were looked at four times a second cost as much
# as proving their chunks (720p, 7 s a chunk).
_LONGEST_LOOK_SECONDS = 1.0
# Share of the time of a render that may pass before the next look.
_LOOK_SHARE = 0.1

# A look at a render costs more than one at its order, and a person waits for a freeze.
_ORDER_SECONDS = 0.1


def choose_look_pause(seconds: float) -> float:
    """Return the pause before the next look at a render that has gone on for so long."""
    return min(_LONGEST_LOOK_SECONDS, max(LOOK_SECONDS, _LOOK_SHARE * seconds))


class ProgressFollower:
    """Reads the progress of one render again and again, in a thread.

    In a thread, because a job's own patterns may take half a second of CPU time and a share may hang, while limits and
    freeze orders must be kept.

    Args:
        task: The command.
        printed_before: Bytes in its log that other commands of the same attempt have printed.
    """

    def __init__(self, task: RenderTask, printed_before: int) -> None:
        self._reader = ProgressReader(
            task.log,
            task.progress,
            frames=task.frames,
            counted_dir=task.counted_dir,
            files_per_frame=task.files_per_frame,
            since=printed_before,
            program=task.name,
        )
        self._reader_lock = threading.Lock()
        self._counts_files = task.counted_dir is not None
        self.reading = Reading()
        self._reads = asyncio.create_task(self._keep_reading())

    @property
    def output_state(self) -> object:
        """A value that changes with each piece of progress or output."""
        return self.reading.frames_done, self._reader.printed_bytes

    def raise_if_failed(self) -> None:
        """Raise the error that has ended the reading: without progress a render would soon count as stalled."""
        if self._reads.done() and not self._reads.cancelled():
            self._reads.result()

    async def finish(self, *, may_have_printed: bool = True) -> Reading:
        """Read all that was printed once more, as the last reading, and return it.

        Args:
            may_have_printed: Whether the command has printed anything.
        """
        await self.stop()
        if may_have_printed or self._counts_files:
            self.reading = await read_in_thread(partial(self._read, ended=True))
        return self.reading

    async def stop(self) -> None:
        """Stop reading."""
        await cancel_and_wait(self._reads)

    async def _keep_reading(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            # First, because a short command is read at its end only.
            await asyncio.sleep(choose_look_pause(clock() - began))
            self.reading = await read_in_thread(self._read)

    def _read(self, *, ended: bool = False) -> Reading:
        # A cancelled read goes on in its thread, so the last one must wait for it.
        with self._reader_lock:
            return self._reader.read(ended=ended)


class RenderClock:
    """Counts the seconds in which a render could work: the clock is paused while the render is frozen.

    All limits of a render are measured by this clock, so that a freeze uses up none of them.

    Args:
        time: A clock that never goes back, such as the event loop's.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._began = time()
        self._paused_at: float | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the clock is paused."""
        return self._paused_at is not None

    def now(self) -> float:
        """Return the seconds since the render began, without those while paused."""
        return (self._time() if self._paused_at is None else self._paused_at) - self._began

    def pause(self) -> None:
        """Pause the clock."""
        if self._paused_at is None:
            self._paused_at = self._time()

    def resume(self) -> None:
        """Resume the clock where it was paused."""
        if self._paused_at is not None:
            self._began += self._time() - self._paused_at
            self._paused_at = None


class MonitoredRender(Protocol):
    """What is watched of a process, or of a session's turn."""

    @property
    def usage(self) -> Usage:
        """CPU time, I/O and memory of all processes."""
        ...

    @property
    def may_have_printed(self) -> bool:
        """Whether something was printed, as far as is known."""
        ...

    async def wait(self) -> int:
        """Wait for the end and return the exit code."""
        ...

    async def freeze(self) -> None:
        """Stop every process with SIGSTOP and wait until none runs."""
        ...

    async def thaw(self) -> None:
        """Continue every process with SIGCONT."""
        ...


class FreezeController:
    """Freezes and thaws a render as the freeze order of its watcher says.

    Args:
        renderer: The render.
        clock: The render's clock, paused from before the first process stops until all processes were continued.
        watcher: Source of orders, called when an order is carried out.
    """

    def __init__(self, renderer: MonitoredRender, clock: RenderClock, watcher: RenderWatcher) -> None:
        self._renderer = renderer
        self._clock = clock
        self._watcher = watcher
        self._freezing: asyncio.Task[None] | None = None
        self._confirmed = 0

    @property
    def pending(self) -> list[asyncio.Task[None]]:
        """Tasks of freezes that are not complete yet, one at most."""
        return [self._freezing] if self._freezing is not None and not self._freezing.done() else []

    async def apply_order(self) -> None:
        """Do the next step towards the present order, without waiting until processes stand still."""
        order = self._watcher.freeze_order
        if order and self._freezing is None:
            self._clock.pause()
            self._freezing = asyncio.create_task(self._renderer.freeze())
        elif not order and self._freezing is not None:
            await self.cancel()
            await self._renderer.thaw()
            self._clock.resume()
            self._confirm(0)
        if order and self._freezing is not None and self._freezing.done():
            self._freezing.result()
            self._confirm(order)

    async def cancel(self) -> None:
        """Cancel the wait for a freeze, complete or not."""
        if self._freezing is not None:
            freezing, self._freezing = self._freezing, None
            await cancel_and_wait(freezing)

    def _confirm(self, order: int) -> None:
        if order != self._confirmed:
            self._confirmed = order
            self._watcher.on_frozen(order)


async def wait_while_frozen(watcher: RenderWatcher) -> None:
    """Wait until no freeze is ordered, and confirm each order meanwhile: nothing runs, because nothing was started."""
    while order := watcher.freeze_order:
        watcher.on_frozen(order)
        await asyncio.sleep(LOOK_SECONDS)
    watcher.on_frozen(0)


_log = logging.getLogger(__name__)


class RenderMonitor:
    """Looks at one render several times a second: limits, freeze orders, progress, outputs.

    Args:
        renderer: The render, which was just started.
        task: The command that was started.
        watcher: Source of freeze orders, called with progress.
        printed_before: Bytes in its log that other commands of the same attempt have printed.
    """

    def __init__(
        self, renderer: MonitoredRender, task: RenderTask, watcher: RenderWatcher, printed_before: int
    ) -> None:
        self._renderer = renderer
        self._task = task
        self._watcher = watcher
        self._timeouts = task.timeouts
        self._clock = RenderClock(asyncio.get_running_loop().time)
        self._freezes = FreezeController(renderer, self._clock, watcher)
        self._progress = ProgressFollower(task, printed_before)
        self._stall = StallDetector(task.timeouts.stall_seconds)
        self._rest = StallDetector(task.timeouts.linger_seconds)
        self._linger = LingerDetector(task.timeouts.linger_seconds)
        self._look_at_outputs: tuple[float, asyncio.Task[OutputsSnapshot]] | None = None

    @property
    def progress(self) -> Progress:
        """Progress of the render now."""
        reading = self._progress.reading
        return Progress(reading.frames_done, reading.message, self._renderer.usage)

    async def wait_for_end(self) -> ExitStatus:
        """Wait until the renderer has ended or must be stopped, and return how."""
        exit_code = asyncio.ensure_future(self._renderer.wait())
        try:
            while not exit_code.done():
                await self._freezes.apply_order()
                self._look()
                if not self._clock.is_paused and (status := self._reached_limit()):
                    return status
                await self._wait_until_next_look(exit_code)
            status = ExitStatus(exit_code.result(), reading=await self._finish_reading())
            self._watcher.on_progress(self.progress)
            return status
        finally:
            await self._freezes.cancel()
            await self._progress.stop()
            await cancel_and_wait(exit_code)
            if self._look_at_outputs is not None:
                # Its thread reads on, of files that are no longer needed.
                await cancel_and_wait(self._look_at_outputs[1])

    async def _finish_reading(self) -> Reading:
        return await self._progress.finish(may_have_printed=self._renderer.may_have_printed)

    async def _wait_until_next_look(self, exit_code: asyncio.Future[int]) -> None:
        """Wait until it is time to look again, or something has happened: an end, a complete freeze, another order."""
        clock, order = asyncio.get_running_loop().time, self._watcher.freeze_order
        end = clock() + self._pause()
        while (left := end - clock()) > 0 and self._watcher.freeze_order == order:
            awaited: list[asyncio.Future[Any]] = [exit_code, *self._freezes.pending]
            ended, _ = await asyncio.wait(
                awaited, timeout=min(left, _ORDER_SECONDS), return_when=asyncio.FIRST_COMPLETED
            )
            if ended:
                return

    def _look(self) -> None:
        self._progress.raise_if_failed()
        self._watcher.on_progress(self.progress)
        for detector in (self._stall, self._rest):
            detector.update(self._clock.now(), self._progress.output_state, self._renderer.usage)

    def _pause(self) -> float:
        if self._clock.is_paused:
            return LOOK_SECONDS
        now = self._clock.now()
        return max(0.0, min(choose_look_pause(now), self._timeouts.chunk_seconds - now))

    def _reached_limit(self) -> ExitStatus | None:
        """Return the exit status of a render that must be stopped now, or None."""
        now = self._clock.now()
        lingers = self._lingers(now)
        limit = self._exceeded_limit(now)
        if not lingers and not limit:
            return None
        reading = self._progress.reading
        frames = len(self._task.frames)
        evidence = describe_evidence(reading, frames, self._stall, self._renderer.usage, now)
        if lingers or (self._linger.whole_at is not None and not self._task.proof_is_weak):
            whole = now - (self._linger.whole_at or now)
            _log.warning(
                "%s has made its outputs %.1f s ago and does not end, so it is stopped, and they count: %s",
                *(self._task.name, whole, evidence),
            )
            return ExitStatus(reading=reading)
        return ExitStatus(stopped_for=f"{limit}: {evidence}", reading=reading)

    def _exceeded_limit(self, now: float) -> str:
        if now >= self._timeouts.chunk_seconds:
            return f"took longer than timeouts.chunk_seconds, {self._timeouts.chunk_seconds:g} s"
        if self._stall.is_stalled(now):
            return f"stood still for timeouts.stall_seconds, {self._timeouts.stall_seconds:g} s"
        return ""

    def _lingers(self, now: float) -> bool:
        task = self._task
        if task.is_whole is None:
            return False
        if self._look_at_outputs is None:
            all_done = 0 < len(task.frames) <= self._progress.reading.frames_done
            if self._linger.is_due(now, all_done=all_done):
                looking = read_in_thread(partial(inspect_outputs, task.outputs, task.is_whole, self._linger.state))
                self._look_at_outputs = now, asyncio.create_task(looking)
            return False
        began, look = self._look_at_outputs
        if not look.done():
            return False
        self._look_at_outputs = None
        lingers = self._linger.record_look(began, now, look.result())
        return lingers and (not task.proof_is_weak or self._rest.is_stalled(now))

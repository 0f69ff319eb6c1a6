"""Staying with one render until it ends, or must be ended."""

import asyncio
import logging

from activities.backends.backend import Progress, RenderTask, RenderWatcher
from activities.backends.clock import RenderClock
from activities.backends.exit_status import Ending, course
from activities.backends.following import LOOK_SECONDS, Following
from activities.backends.freezing import Freezing
from activities.backends.movement import Movement
from activities.backends.renderer import Renderer
from activities.backends.stall_detection import Linger, Sight, look_at_outputs
from activities.backends.tasks import drop

_log = logging.getLogger(__name__)


class RenderGuard:
    """Looks at one render several times a second: its limits, its orders, its outputs.

    Args:
        renderer: The render, which has just begun.
        task: What it was started for.
        watcher: Who waits for it.
        printed_before: Bytes in its log that other commands of the same attempt have printed.
    """

    def __init__(self, renderer: Renderer, task: RenderTask, watcher: RenderWatcher, printed_before: int) -> None:
        self._renderer = renderer
        self._task = task
        self._watcher = watcher
        self._timeouts = task.timeouts
        self._clock = RenderClock(asyncio.get_running_loop().time)
        self._freezing = Freezing(renderer, self._clock, watcher)
        self._following = Following(task, printed_before)
        self._movement = Movement(task.timeouts.stall_seconds)
        self._rest = Movement(task.timeouts.linger_seconds)
        self._linger = Linger(task.timeouts.linger_seconds)
        self._sight: tuple[float, asyncio.Task[Sight]] | None = None

    @property
    def progress(self) -> Progress:
        """How far the render is now."""
        reading = self._following.reading
        return Progress(reading.frames_done, reading.message, self._renderer.usage)

    async def until_its_end(self) -> Ending:
        """Return when the renderer has ended, or must be stopped."""
        exit_code = asyncio.ensure_future(self._renderer.wait())
        try:
            while not exit_code.done():
                await self._freezing.obey()
                self._look()
                if not self._clock.is_held and (ending := self._reached_limit()):
                    return ending
                await asyncio.wait(
                    [exit_code, *self._freezing.under_way],
                    timeout=self._pause(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            ending = Ending(exit_code.result(), reading=await self._following.finish())
            self._watcher.progress(self.progress)
            return ending
        finally:
            await self._freezing.forget()
            await self._following.stop()
            await drop(exit_code)
            if self._sight is not None:
                # Its thread reads on, of files that nobody needs any more.
                await drop(self._sight[1])

    def _look(self) -> None:
        self._watcher.progress(self.progress)
        for movement in (self._movement, self._rest):
            movement.look(self._clock.now(), self._following.signs, self._renderer.usage)

    def _pause(self) -> float:
        if self._clock.is_held:
            return LOOK_SECONDS
        return max(0.0, min(LOOK_SECONDS, self._timeouts.chunk_seconds - self._clock.now()))

    def _reached_limit(self) -> Ending | None:
        """Return how the render ends if it must be stopped now."""
        now = self._clock.now()
        outlived = self._has_outlived_its_outputs(now)
        limit = self._broken_limit(now)
        if not outlived and not limit:
            return None
        reading = self._following.reading
        frames = self._task.stop - self._task.start
        evidence = course(reading, frames, self._movement, self._renderer.usage, now)
        if outlived or (self._linger.whole_at is not None and not self._task.proof_is_weak):
            whole = now - (self._linger.whole_at or now)
            _log.warning(
                "%s has made its outputs %.1f s ago and does not end, so it is stopped, and they count: %s",
                *(self._task.name, whole, evidence),
            )
            return Ending(reading=reading)
        return Ending(stopped_for=f"{limit}: {evidence}", reading=reading)

    def _broken_limit(self, now: float) -> str:
        if now >= self._timeouts.chunk_seconds:
            return f"took longer than timeouts.chunk_seconds, {self._timeouts.chunk_seconds:g} s"
        if self._movement.has_stopped(now):
            return f"stood still for timeouts.stall_seconds, {self._timeouts.stall_seconds:g} s"
        return ""

    def _has_outlived_its_outputs(self, now: float) -> bool:
        task = self._task
        if task.is_whole is None:
            return False
        if self._sight is None:
            all_done = 0 < task.stop - task.start <= self._following.reading.frames_done
            if self._linger.is_due(now, all_done=all_done):
                looking = asyncio.to_thread(look_at_outputs, task.outputs, task.is_whole, self._linger.state)
                self._sight = now, asyncio.create_task(looking)
            return False
        began, look = self._sight
        if not look.done():
            return False
        self._sight = None
        outlived = self._linger.has_outlived(began, now, look.result())
        return outlived and (not task.proof_is_weak or self._rest.has_stopped(now))

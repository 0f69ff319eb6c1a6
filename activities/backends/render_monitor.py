"""Staying with one render until it ends, or must be ended."""

import asyncio
import logging
import threading
from collections.abc import Callable

from activities.backends.backend import Progress, Renderer, RenderTask, RenderWatcher
from activities.backends.exit_status import ExitStatus, describe_progress
from activities.backends.stall_detection import LingerDetector, OutputsSeen, StallDetector, inspect_outputs
from activities.progress.reader import ProgressReader, Reading
from longtake.concurrency import cancel_and_wait

# Progress is looked at as often as heartbeats go out.
LOOK_SECONDS = 0.25


class ProgressFollower:
    """Keeps the newest reading of one render at hand.

    Read in a thread: a job's own patterns may take half a second of CPU time, and a share that hangs holds whoever
    reads from it, while limits and freeze orders must be kept.

    Args:
        task: What is rendered.
        printed_before: Bytes in its log that other commands of the same attempt have printed.
    """

    def __init__(self, task: RenderTask, printed_before: int) -> None:
        self._reader = ProgressReader(
            task.log, task.progress, start=task.start, stop=task.stop, counted_dir=task.counted_dir
        )
        self._reader.printed_bytes = printed_before
        self._reader_lock = threading.Lock()
        self.reading = Reading()
        self._reads = asyncio.create_task(self._keep_reading())

    @property
    def signs(self) -> object:
        """Changes with each piece of progress or output."""
        return self.reading.frames_done, self._reader.printed_bytes

    async def finish(self) -> Reading:
        """Return the last reading, of all that was printed."""
        await self.stop()
        self.reading = await asyncio.to_thread(self._read, ended=True)
        return self.reading

    async def stop(self) -> None:
        """Read no more."""
        await cancel_and_wait(self._reads)

    async def _keep_reading(self) -> None:
        while True:
            self.reading = await asyncio.to_thread(self._read)
            await asyncio.sleep(LOOK_SECONDS)

    def _read(self, *, ended: bool = False) -> Reading:
        # A read that was cancelled goes on in its thread, beside the last one.
        with self._reader_lock:
            return self._reader.read(ended=ended)


class RenderClock:
    """Seconds in which a render could work: it stands still while the render is frozen.

    Every limit on a render is counted by this clock, so that no freeze uses up any of them.

    Args:
        time: A clock that never goes back, such as the event loop's.
    """

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._began = time()
        self._held_at: float | None = None

    @property
    def is_held(self) -> bool:
        """Whether the clock stands still."""
        return self._held_at is not None

    def now(self) -> float:
        """Return the seconds since the render began, without those it was frozen."""
        return (self._time() if self._held_at is None else self._held_at) - self._began

    def hold(self) -> None:
        """Stand still."""
        if self._held_at is None:
            self._held_at = self._time()

    def go_on(self) -> None:
        """Go on from where it stood."""
        if self._held_at is not None:
            self._began += self._time() - self._held_at
            self._held_at = None


class FreezeController:
    """Freezes and thaws a render as its watcher orders; an order counts for as long as it stands.

    Args:
        renderer: The render.
        clock: Its clock, which is held from before the first process stops until after the last one goes on.
        watcher: Who orders, and is told when the order is carried out.
    """

    def __init__(self, renderer: Renderer, clock: RenderClock, watcher: RenderWatcher) -> None:
        self._renderer = renderer
        self._clock = clock
        self._watcher = watcher
        self._freezing: asyncio.Task[None] | None = None
        self._told = 0

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """A freeze that is not complete yet, to be waited for; none otherwise."""
        return [self._freezing] if self._freezing is not None and not self._freezing.done() else []

    async def obey(self) -> None:
        """Do the next step to what is ordered now; never waits for processes to stand still."""
        order = self._watcher.freeze_order
        if order and self._freezing is None:
            self._clock.hold()
            self._freezing = asyncio.create_task(self._renderer.freeze())
        elif not order and self._freezing is not None:
            await self.forget()
            await self._renderer.thaw()
            self._clock.go_on()
            self._tell(0)
        if order and self._freezing is not None and self._freezing.done():
            self._freezing.result()
            self._tell(order)

    async def forget(self) -> None:
        """Wait no longer for a freeze, complete or not."""
        if self._freezing is not None:
            freezing, self._freezing = self._freezing, None
            await cancel_and_wait(freezing)

    def _tell(self, order: int) -> None:
        if order != self._told:
            self._told = order
            self._watcher.frozen(order)


async def wait_while_frozen(watcher: RenderWatcher) -> None:
    """Return when nothing orders a freeze; until then confirm that nothing runs, for nothing was started."""
    while order := watcher.freeze_order:
        watcher.frozen(order)
        await asyncio.sleep(LOOK_SECONDS)
    watcher.frozen(0)


_log = logging.getLogger(__name__)


class RenderMonitor:
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
        self._freezing = FreezeController(renderer, self._clock, watcher)
        self._following = ProgressFollower(task, printed_before)
        self._movement = StallDetector(task.timeouts.stall_seconds)
        self._rest = StallDetector(task.timeouts.linger_seconds)
        self._linger = LingerDetector(task.timeouts.linger_seconds)
        self._sight: tuple[float, asyncio.Task[OutputsSeen]] | None = None

    @property
    def progress(self) -> Progress:
        """How far the render is now."""
        reading = self._following.reading
        return Progress(reading.frames_done, reading.message, self._renderer.usage)

    async def until_its_end(self) -> ExitStatus:
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
            ending = ExitStatus(exit_code.result(), reading=await self._following.finish())
            self._watcher.progress(self.progress)
            return ending
        finally:
            await self._freezing.forget()
            await self._following.stop()
            await cancel_and_wait(exit_code)
            if self._sight is not None:
                # Its thread reads on, of files that nobody needs any more.
                await cancel_and_wait(self._sight[1])

    def _look(self) -> None:
        self._watcher.progress(self.progress)
        for movement in (self._movement, self._rest):
            movement.look(self._clock.now(), self._following.signs, self._renderer.usage)

    def _pause(self) -> float:
        if self._clock.is_held:
            return LOOK_SECONDS
        return max(0.0, min(LOOK_SECONDS, self._timeouts.chunk_seconds - self._clock.now()))

    def _reached_limit(self) -> ExitStatus | None:
        """Return how the render ends if it must be stopped now."""
        now = self._clock.now()
        outlived = self._has_outlived_its_outputs(now)
        limit = self._broken_limit(now)
        if not outlived and not limit:
            return None
        reading = self._following.reading
        frames = self._task.stop - self._task.start
        evidence = describe_progress(reading, frames, self._movement, self._renderer.usage, now)
        if outlived or (self._linger.whole_at is not None and not self._task.proof_is_weak):
            whole = now - (self._linger.whole_at or now)
            _log.warning(
                "%s has made its outputs %.1f s ago and does not end, so it is stopped, and they count: %s",
                *(self._task.name, whole, evidence),
            )
            return ExitStatus(reading=reading)
        return ExitStatus(stopped_for=f"{limit}: {evidence}", reading=reading)

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
                looking = asyncio.to_thread(inspect_outputs, task.outputs, task.is_whole, self._linger.state)
                self._sight = now, asyncio.create_task(looking)
            return False
        began, look = self._sight
        if not look.done():
            return False
        self._sight = None
        outlived = self._linger.has_outlived(began, now, look.result())
        return outlived and (not task.proof_is_weak or self._rest.has_stopped(now))

"""Rendering with processes on the worker's own host."""

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

from activities.backends.backend import RenderTask
from activities.backends.progress import ProgressReader, last_lines, log_tail
from activities.failures import AttemptError
from activities.processes.render_process import RenderProcess

# Progress is looked at as often as heartbeats go out.
_LOOK_SECONDS = 0.25


class LocalBackend:
    """Runs each command as a process tree of its own."""

    async def render(self, task: RenderTask, progress: Callable[[int], None]) -> None:
        """Run the command to a successful end; see `Backend.render`."""
        try:
            process = await RenderProcess.start(task.command, cwd=task.cwd, env=task.env, log=task.log, tag=task.tag)
        except OSError as error:
            raise AttemptError(
                f"{task.program or task.command[0]} cannot be started: {error.strerror}", fatal=True
            ) from error
        grace = task.timeouts.grace_seconds
        try:
            code = await self._watch(process, task, progress)
            # What the renderer left running would write on after its chunk counts.
            grace = 0
        finally:
            await process.stop(grace)
        if code != 0:
            raise _exit_error(code, task)

    async def _watch(self, process: RenderProcess, task: RenderTask, progress: Callable[[int], None]) -> int:
        """Return the exit code; raise when time is up or nothing moves any more."""
        loop = asyncio.get_running_loop()
        ending = asyncio.ensure_future(process.wait())
        reader = ProgressReader(task.log, task.counted_dir)
        movement = _Movement(process, task.timeouts.stall_seconds, loop.time())
        deadline = loop.time() + task.timeouts.chunk_seconds
        try:
            while True:
                await asyncio.wait([ending], timeout=min(_LOOK_SECONDS, max(0.0, deadline - loop.time())))
                progress(reader.read())
                if ending.done():
                    return ending.result()
                if loop.time() >= deadline:
                    limit = task.timeouts.chunk_seconds
                    raise AttemptError(f"took longer than timeouts.chunk_seconds, {limit:g} s{_ending(task.log)}")
                if movement.has_stopped(loop.time(), (reader.frames_done, reader.printed_bytes)):
                    limit = task.timeouts.stall_seconds
                    raise AttemptError(
                        f"stood still for timeouts.stall_seconds, {limit:g} s: no progress, no CPU time, no I/O"
                        f"{_ending(task.log)}"
                    )
        finally:
            ending.cancel()


class _Movement:
    """Tells a renderer that stands still from one that is only silent, as Cycles is for hours."""

    def __init__(self, process: RenderProcess, stall_seconds: float, now: float) -> None:
        self._process = process
        self._stall_seconds = stall_seconds
        self._moved_at = self._asked_at = now
        self._signs = (0, 0)
        self._work = 0.0

    def has_stopped(self, now: float, signs: tuple[int, int]) -> bool:
        if signs != self._signs:
            self._signs, self._moved_at = signs, now
        elif now - self._asked_at >= self._stall_seconds / 4:
            # CPU and I/O are dear to sum up: asked for a few times in each stall_seconds only.
            self._asked_at = now
            if (work := self._process.work()) != self._work:
                self._work, self._moved_at = work, now
        return now - self._moved_at >= self._stall_seconds


def _exit_error(code: int, task: RenderTask) -> AttemptError:
    program = task.program or Path(task.command[0]).name
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
    tail = log_tail(task.log)
    pattern = next((pattern for pattern in task.retry.fatal_patterns if re.search(pattern, tail)), None)
    fatal = code in task.retry.fatal_exit_codes or pattern is not None
    why = " (fatal_exit_codes)" if code in task.retry.fatal_exit_codes else ""
    why = f" (fatal_patterns: {pattern})" if pattern else why
    return AttemptError(f"{program} {how}{why}{_ending(task.log)}", fatal=fatal)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _ending(log: Path) -> str:
    lines = last_lines(log)
    return f": {lines}" if lines else ", and printed nothing"

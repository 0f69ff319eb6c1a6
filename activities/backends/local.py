"""Rendering with processes on the worker's own host."""

import asyncio
import errno
import logging
from dataclasses import replace

from activities.backends.backend import Renderer, Renderers, RenderTask, RenderWatcher
from activities.backends.exit_status import raise_if_failed
from activities.backends.render_monitor import RenderMonitor, wait_while_frozen
from activities.errors import AttemptError, AttemptLostError
from activities.processes.usage import KeeperLostError, ProcessSurvivedError, SupervisorError, Usage
from longtake.attempt_log import AttemptLog
from longtake.concurrency import shield_until_done

_log = logging.getLogger(__name__)

# Why a program cannot be started now, and may be later: the host is short of something.
_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.ENOSPC, errno.EIO})

# The disk or driver that a process sleeps for may take hours to answer.
_LONGEST_PAUSE_SECONDS = 60.0


class LocalBackend:
    """Runs each command as a process tree of its own.

    Args:
        renderers: Starts them; see `Supervisor`.
        first_pause_seconds: How long to wait before processes that outlived SIGKILL are killed again.
    """

    def __init__(self, renderers: Renderers, *, first_pause_seconds: float = 1.0) -> None:
        self._renderers = renderers
        self._first_pause_seconds = first_pause_seconds

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Run the command to a successful end; see `Backend.render`."""
        await wait_while_frozen(watcher)
        printed_before = AttemptLog(task.log).size
        renderer = await self._spawn(task)
        guard = RenderMonitor(renderer, task, watcher, printed_before)
        ending = None
        try:
            ending = await guard.until_its_end()
        except KeeperLostError as error:
            raise AttemptLostError(f"{task.name} did not end by itself: {error}") from error
        finally:
            has_ended = ending is not None and ending.code is not None
            # What a renderer that has ended left running would write on after its chunk counts.
            grace = 0.0 if has_ended else min(task.timeouts.grace_seconds, watcher.most_grace_seconds)
            await shield_until_done(self._leave_nothing(renderer, grace, guard, watcher))
        told = ending.told_of(task.name, renderer.usage)
        await asyncio.to_thread(raise_if_failed, ending, told, task, printed_before)
        return renderer.usage

    async def _spawn(self, task: RenderTask) -> Renderer:
        try:
            return await self._renderers.spawn(task.command, cwd=task.cwd, env=task.env, log=task.log, tag=task.tag)
        except OSError as error:
            fatal = error.errno not in _PASSING
            raise AttemptError(f"{task.name} cannot be started: {error.strerror}", fatal=fatal) from error
        except SupervisorError as error:
            raise AttemptError(f"{task.name} cannot be started: {error}", another_host=True) from error

    async def _leave_nothing(
        self, renderer: Renderer, grace_seconds: float, guard: RenderMonitor, watcher: RenderWatcher
    ) -> None:
        """Return when no process of the render is left, however long that takes: the slot stays taken meanwhile."""
        pause = self._first_pause_seconds
        while True:
            try:
                return await renderer.stop(grace_seconds)
            except KeeperLostError:
                # Which ends its render, too.
                return
            except ProcessSurvivedError as error:
                _log.error("%s; its slot stays taken until they are gone", error)
                watcher.progress(replace(guard.progress, message=f"cannot be stopped: {error}"))
            grace_seconds = 0
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

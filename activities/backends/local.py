"""Rendering with processes on the worker's own host."""

import asyncio
import errno
import logging
from dataclasses import replace

from activities.backends.backend import RenderTask, RenderWatcher
from activities.backends.ending import Ending
from activities.backends.following import LOOK_SECONDS
from activities.backends.guard import RenderGuard
from activities.backends.logsearch import LogSearch
from activities.backends.renderer import Renderer, Renderers
from activities.backends.verdict import Decision, decide
from activities.failures import AttemptError, AttemptLostError
from activities.processes.errors import KeeperLostError, ProcessSurvivedError, SupervisorError
from activities.processes.usage import Usage
from activities.progress.ending import log_tail, telling_lines
from activities.threads import to_the_end
from longtake.attemptlog import AttemptLog
from longtake.policies import Verdict

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
        await _until_it_may_run(watcher)
        printed_before = AttemptLog(task.log).size
        renderer = await self._spawn(task)
        guard = RenderGuard(renderer, task, watcher, printed_before)
        ending = None
        try:
            ending = await guard.until_its_end()
        except KeeperLostError as error:
            raise AttemptLostError(f"{task.name} did not end by itself: {error}") from error
        finally:
            has_ended = ending is not None and ending.code is not None
            # What a renderer that has ended left running would write on after its chunk counts.
            grace = 0.0 if has_ended else min(task.timeouts.grace_seconds, watcher.most_grace_seconds)
            await to_the_end(self._leave_nothing(renderer, grace, guard, watcher))
        await asyncio.to_thread(_raise_if_failed, ending, task, renderer.usage, printed_before)
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
        self, renderer: Renderer, grace_seconds: float, guard: RenderGuard, watcher: RenderWatcher
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


async def _until_it_may_run(watcher: RenderWatcher) -> None:
    """Start nothing while the job stands frozen."""
    while order := watcher.freeze_order:
        watcher.frozen(order)
        await asyncio.sleep(LOOK_SECONDS)
    watcher.frozen(0)


def _raise_if_failed(ending: Ending, task: RenderTask, usage: Usage, printed_before: int) -> None:
    """Judge how a render ended, by what it printed itself; blocking."""
    decision = decide(ending, task.retry, LogSearch(log_tail(task.log, since=printed_before)).has)
    if decision is None or decision.then is Verdict.ACCEPT:
        return
    raise AttemptError(
        _sentence(ending, decision, task, usage, printed_before),
        fatal=decision.then is Verdict.GIVE_UP,
        wait_seconds=decision.wait_seconds,
        another_host=decision.then is Verdict.ANOTHER_HOST,
        suspect=decision.by_words or ending.reading.fatal is not None,
    )


def _sentence(ending: Ending, decision: Decision, task: RenderTask, usage: Usage, printed_before: int) -> str:
    why = f" ({decision.why})" if decision.why else ""
    said = ending.reading.fatal or telling_lines(task.log, since=printed_before)
    link = "; it said last: " if ending.stopped_for else ": "
    return f"{ending.told_of(task.name, usage)}{why}{link + said if said else ', and printed nothing'}"

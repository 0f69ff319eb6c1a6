"""The backend that runs commands as processes on the worker's own host."""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from activities.backends.backend import RenderTask, RenderWatcher
from activities.backends.exit_status import ExitStatus, raise_if_failed
from activities.backends.render_monitor import RenderMonitor, wait_while_frozen
from activities.backends.session import SessionTurn
from activities.errors import AttemptError, AttemptLostError
from activities.processes.render_process import (
    CommandBurst,
    EndedCommand,
    KeeperLostError,
    ProcessSurvivedError,
    RenderProcess,
    Usage,
)
from activities.processes.supervisor import SpanKeeper, Supervisor, SupervisorError
from activities.stores.ownership import grant_folders, reclaim_folders
from longtake.attempt_log import AttemptLog
from longtake.concurrency import clean_up_in_thread, read_in_thread, run_in_thread, shield_until_done

_log = logging.getLogger(__name__)

# Errors of starting a program that may pass: the host is short of something.
_PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.ENOSPC, errno.EIO})

# A process in uninterruptible sleep may wait for its disk or driver for hours.
_LONGEST_PAUSE_SECONDS = 60.0


class LocalBackend:
    """Runs each command as a process tree of its own.

    Args:
        supervisor: Starts the processes.
        first_pause_seconds: How long to wait before processes that outlived SIGKILL are killed again.
        span: Starts the processes through one keeper, where the commands run one after the other.
    """

    def __init__(
        self, supervisor: Supervisor, *, first_pause_seconds: float = 1.0, span: SpanKeeper | None = None
    ) -> None:
        self._supervisor = supervisor
        self._first_pause_seconds = first_pause_seconds
        self._span = span
        self._spawner = span or supervisor
        # Renders of bursts that are yet to be watched to their end, by their tags.
        self._begun: dict[frozenset[tuple[str, str]], RenderProcess] = {}
        self._keeps_session = span is not None
        # With the task for which it was started.
        self._session: tuple[RenderTask, RenderProcess] | None = None

    @asynccontextmanager
    async def open_span(self) -> AsyncIterator["LocalBackend"]:
        """Return the backend that runs the commands of a span through one keeper; see `Backend.open_span`.

        A session stays for the tasks of the block.
        """
        async with self._supervisor.keep_span() as span:
            backend = LocalBackend(self._supervisor, first_pause_seconds=self._first_pause_seconds, span=span)
            try:
                yield backend
            finally:
                await shield_until_done(backend._end_session())

    @property
    def takes_bursts(self) -> bool:
        """Whether `open_burst` works: in a span, for renders of the worker's own account."""
        return self._span is not None and self._span.can_burst and self._supervisor.user is None

    @asynccontextmanager
    async def open_burst(
        self, tasks: Sequence[RenderTask], *, longest_seconds: float, most_grace_seconds: Callable[[], float]
    ) -> AsyncIterator[CommandBurst]:
        """Run commands in turn while the block runs; those that have not begun by its end do not.

        Where the block ends well, `render` goes on with the command that was at hand. Any other way out leaves no
        process behind.

        Args:
            tasks: The commands, which share their working folder, limits and environment but for their tags.
            longest_seconds: How long each may take before it is left to `render`, which watches it.
            most_grace_seconds: Returns the longest grace for the end of a render.

        Raises:
            OSError: The supervisor died a moment ago.
            SupervisorError: The supervisor cannot be started.
        """
        assert self._span is not None
        each = [(task.command, task.log, task.tag) for task in tasks]
        burst = await self._span.start_burst(each, cwd=tasks[0].cwd, env=tasks[0].env, longest_seconds=longest_seconds)
        try:
            yield burst
            await burst.recall()
        except BaseException:
            await shield_until_done(self._stop_burst(burst, tasks[0], most_grace_seconds))
            raise
        if burst.kept is not None:
            self._begun[_tag_key(tasks[burst.count_ended])] = burst.kept

    async def _stop_burst(self, burst: CommandBurst, task: RenderTask, most_grace_seconds: Callable[[], float]) -> None:
        await burst.recall()
        if burst.kept is not None:
            grace = min(task.timeouts.grace_seconds, most_grace_seconds())
            await self._stop(burst.kept, grace, lambda sentence: None)

    def take_up(self, task: RenderTask, ended: EndedCommand) -> None:
        """Have `render` take this end of a burst's command as that of the task."""
        self._begun[_tag_key(task)] = RenderProcess.of_ended(ended)

    def has_begun(self, task: RenderTask) -> bool:
        """Tell whether `render` goes on with a command that was begun in a burst."""
        return _tag_key(task) in self._begun

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Run the command to a successful end; see `Backend.render`."""
        if not self.has_begun(task):
            await wait_while_frozen(watcher)
        user = self._supervisor.user
        if user is not None:
            await run_in_thread(partial(grant_folders, task.folders, user))
        printed_before = 0 if task.is_first else await run_in_thread(partial(_printed_bytes, task))
        try:
            run = self._run_command if task.request is None else self._take_turn
            status, used = await run(task, watcher, printed_before)
        finally:
            if user is not None:
                await clean_up_in_thread(partial(reclaim_folders, task.folders, user))
        if not status.has_failed and not task.retry.rules:
            return used
        description = status.describe(task.name, used)
        await read_in_thread(partial(raise_if_failed, status, description, task, printed_before))
        return used

    async def _run_command(
        self, task: RenderTask, watcher: RenderWatcher, printed_before: int
    ) -> tuple[ExitStatus, Usage]:
        renderer = await self._spawn(task)
        monitor = RenderMonitor(renderer, task, watcher, printed_before)
        status = None
        try:
            status = await _wait_for_end(monitor, task)
            return status, renderer.usage
        finally:
            has_ended = status is not None and status.code is not None
            # No grace after its end: processes that it left running would write on after its chunk counts.
            grace = 0.0 if has_ended else min(task.timeouts.grace_seconds, watcher.most_grace_seconds)
            await shield_until_done(self._stop(renderer, grace, partial(_report_survivors, monitor, watcher)))

    async def _take_turn(
        self, task: RenderTask, watcher: RenderWatcher, printed_before: int
    ) -> tuple[ExitStatus, Usage]:
        """Have the session do the task; it stays for the next one only if it says that it is done."""
        turn = await self._open_turn(task)
        monitor = RenderMonitor(turn, task, watcher, printed_before)
        try:
            status = await _wait_for_end(monitor, task)
        finally:
            if not (turn.is_done and self._keeps_session):
                self._session = None
                grace = min(task.timeouts.grace_seconds, watcher.most_grace_seconds)
                await shield_until_done(self._stop(turn.process, grace, partial(_report_survivors, monitor, watcher)))
        if turn.is_lost and await run_in_thread(partial(_printed_bytes, task)) == printed_before:
            # It had ended before it was asked, and that was not known yet: the task is not to blame.
            return await self._take_turn(task, watcher, printed_before)
        return turn.explain(status), turn.usage

    async def _open_turn(self, task: RenderTask) -> SessionTurn:
        """Return a turn of the session that is there, or of another one where it cannot take the task."""
        if self._session is not None:
            before, process = self._session
            if process.has_ended or (before.command, before.cwd) != (task.command, task.cwd):
                await self._end_session()
        is_new = self._session is None
        if self._session is None:
            self._session = task, await self._spawn(task)
        return SessionTurn(self._session[1], task, is_new=is_new)

    async def _end_session(self) -> None:
        """End the session, if there is one, and wait until nothing of it is left."""
        if self._session is not None:
            (task, process), self._session = self._session, None
            await self._stop(process, task.timeouts.grace_seconds, lambda sentence: None)

    async def _spawn(self, task: RenderTask) -> RenderProcess:
        if (begun := self._begun.pop(_tag_key(task), None)) is not None:
            return begun
        try:
            if task.request is not None:
                # Beside the keeper of the span, which the job's own check needs meanwhile.
                return await self._supervisor.spawn(
                    task.command, cwd=task.cwd, env=task.env, log=task.log, tag=task.tag, session=True
                )
            return await self._spawner.spawn(
                task.command, cwd=task.cwd, env=task.env, log=task.log, tag=task.tag, input=task.input
            )
        except OSError as error:
            fatal = error.errno not in _PASSING
            raise AttemptError(f"{task.name} cannot be started: {error.strerror}", fatal=fatal) from error
        except SupervisorError as error:
            raise AttemptError(f"{task.name} cannot be started: {error}", another_host=True) from error

    async def _stop(self, renderer: RenderProcess, grace_seconds: float, on_survivors: Callable[[str], None]) -> None:
        """Stop the render and wait until no process is left, however long that takes; its slot stays taken."""
        pause_seconds = self._first_pause_seconds
        while True:
            try:
                return await renderer.stop(grace_seconds)
            except KeeperLostError:
                # Its keeper is dead, and the render with it.
                return
            except ProcessSurvivedError as error:
                _log.error("%s; its slot stays taken until they are gone", error)
                on_survivors(f"cannot be stopped: {error}")
            grace_seconds = 0
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _tag_key(task: RenderTask) -> frozenset[tuple[str, str]]:
    return frozenset(task.tag.items())


async def _wait_for_end(monitor: RenderMonitor, task: RenderTask) -> ExitStatus:
    try:
        return await monitor.wait_for_end()
    except KeeperLostError as error:
        raise AttemptLostError(f"{task.name} did not end by itself: {error}", by_render=True) from error


def _report_survivors(monitor: RenderMonitor, watcher: RenderWatcher, sentence: str) -> None:
    watcher.on_progress(replace(monitor.progress, message=sentence))


def _printed_bytes(task: RenderTask) -> int:
    """Return how much earlier commands of the attempt have printed."""
    return AttemptLog(task.log).size

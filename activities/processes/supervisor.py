"""The worker's side of its supervisor: starts renders, and leaves none behind."""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import socket
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from activities.processes.control_group import ControlGroup, group_prefix
from activities.processes.errors import ProcessSurvivedError, SupervisorError
from activities.processes.host import HAS_EXACT_TREES, process_table
from activities.processes.process_tree import ProcessTree
from activities.processes.render_process import RenderProcess
from activities.processes.supervisor_line import SupervisorLine
from activities.processes.wire import Message
from activities.processes.worker_mark import WORKER_VARIABLE, WorkerMark

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# A process in uninterruptible sleep outlives SIGKILL until its disk or driver answers.
KILL_SECONDS = 30.0

# A supervisor or keeper that was killed while a render was starting is no reason not to render.
_START_TRIES = 3

_BURIAL_PAUSE_SECONDS = 0.02


class Supervisor:
    """Starts renders through a process of its own, which is started with the first of them, and again if it dies.

    Args:
        kill_seconds: How long processes may outlive SIGKILL before that is an error.
        control_groups: Whether each render gets a cgroup where the worker may make some.
        exact: Whether the host has what makes trees exact; for tests of what is done without.
    """

    def __init__(
        self, *, kill_seconds: float = KILL_SECONDS, control_groups: bool = True, exact: bool = HAS_EXACT_TREES
    ) -> None:
        self._kill_seconds = kill_seconds
        self.exact = exact
        self._mark = str(WorkerMark.own())
        self.group_prefix = group_prefix(self._mark) if control_groups and exact else None
        self._numbers = itertools.count(1)
        self._line: SupervisorLine | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._renders: set[RenderProcess] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Return when nothing is left of any render, nor of the supervisor."""
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
            await asyncio.gather(*(self._end(render) for render in list(self._renders)))
            if self._line is not None:
                async with asyncio.timeout(KILL_SECONDS):
                    await self._line.end()
        except TimeoutError:
            _log.error("the supervisor of renders does not end: some of them outlive SIGKILL")
        finally:
            # Each sees its socket closed, and ends what it has: whatever goes wrong here, nothing stays.
            for render in self._renders:
                render.close()
            if self._line is not None:
                self._line.close()

    @property
    def pid(self) -> int | None:
        """Process id of the running supervisor process, if there is one."""
        return None if self._line is None or self._line.is_lost else self._line.pid

    async def start(self) -> None:
        """Start the supervisor process, unless it runs.

        Raises:
            SupervisorError: It cannot be started.
        """
        await self._connected()

    async def spawn(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, tag: Mapping[str, str]
    ) -> RenderProcess:
        """Return the started render; a cancel meanwhile leaves nothing behind.

        Args:
            command: Program and arguments.
            cwd: Where it runs.
            env: All that it sees of the environment, beside the worker's mark; the tag should be in it.
            log: Where its output is appended, see `BoundedLog`.
            tag: Variables of `env` that no other render has: what carries them is ended with this one, also where all
                else fails to find it.

        Raises:
            OSError: The program cannot be executed, or the folder cannot be entered.
            SupervisorError: The supervisor cannot be started.
        """
        request = _request(command, cwd, {**env, WORKER_VARIABLE: self._mark}, log, tag)
        spawning = self._task(self._spawn(request))
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await asyncio.shield(self._task(self._discard(spawning)))
            raise

    async def _spawn(self, request: Message) -> RenderProcess:
        for _ in range(_START_TRIES):
            number = next(self._numbers)
            group = ControlGroup(f"{self.group_prefix}{number}") if self.group_prefix else None
            line = await self._connected()
            bury = functools.partial(self._bury, line, number, request["tag"], group)
            render = RenderProcess(bury, self._kill_seconds)
            try:
                await self._connect(render, line, number)
            except OSError:
                # The supervisor died a moment ago; the next look at it starts another.
                line.forget(number)
                continue
            self._renders.add(render)
            render.when_gone(functools.partial(self._forget, render, line, number))
            group_path = group.path if group else None
            render.send({**request, "kill_seconds": self._kill_seconds, "group": group_path})
            match await asyncio.shield(render.beginning):
                case {"started": _}:
                    return render
                case {"failed": [int(code), culprit]}:
                    raise OSError(code, os.strerror(code), culprit)
            await render.stop(0)
        raise SupervisorError("the supervisor of renders dies as soon as it is started; standard error may say why")

    def _forget(self, render: RenderProcess, line: SupervisorLine, number: int) -> None:
        self._renders.discard(render)
        line.forget(number)

    async def _connect(self, render: RenderProcess, line: SupervisorLine, number: int) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await line.keep(number, theirs)
            await asyncio.get_running_loop().create_unix_connection(lambda: render, sock=ours)
        except BaseException:
            ours.close()
            raise

    async def _connected(self) -> SupervisorLine:
        async with self._starting:
            if self._line is None or self._line.is_lost:
                if self._line is not None:
                    _log.warning("the supervisor of renders, process %d, was killed: starting another", self._line.pid)
                elif not self.exact:
                    _log.warning(
                        "this system has no subreaper: renders are found by process group and environment only, so "
                        "one that leaves both is not"
                    )
                self._line = await SupervisorLine.start(exact=self.exact)
            return self._line

    async def _bury(
        self, line: SupervisorLine, number: int, tag: Mapping[str, str], group: ControlGroup | None
    ) -> None:
        """End what is left of a render whose keeper was killed."""
        await line.buried(number)
        # What the supervisor cannot have found: it was killed as well, or someone else started it for the render.
        tree = ProcessTree(process_table(exact=self.exact), None, tag=tag, group=group)
        # No event tells of the death of a process that is nobody's child.
        while await asyncio.to_thread(tree.kill_all_seen):  # noqa: ASYNC110
            await asyncio.sleep(_BURIAL_PAUSE_SECONDS)
        if group is not None:
            group.remove()

    async def _discard(self, spawning: asyncio.Task[RenderProcess]) -> None:
        with contextlib.suppress(OSError, SupervisorError, ProcessSurvivedError):
            await (await spawning).stop(0)

    async def _end(self, render: RenderProcess) -> None:
        try:
            async with asyncio.timeout(self._kill_seconds + 1):
                await render.stop(0)
        except (TimeoutError, ProcessSurvivedError) as error:
            _log.error("left to the supervisor of renders: %s", error)

    def _task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _request(command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, tag: Mapping[str, str]) -> Message:
    # The supervisor is in another folder.
    folder, file = os.path.abspath(cwd), os.path.abspath(log)
    return {"command": list(command), "cwd": folder, "env": dict(env), "log": file, "tag": dict(tag)}

"""Start renders through the supervisor process of this worker, and leave no process behind."""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from activities.processes.ipc import Message
from activities.processes.linux_table import HAS_EXACT_TREES, process_table
from activities.processes.orphans import WORKER_VARIABLE, WorkerMark
from activities.processes.process_tree import ControlGroup, ProcessTree, make_group_prefix
from activities.processes.render_process import CommandBurst, KeeperConnection, ProcessSurvivedError, RenderProcess
from activities.processes.supervisor_main import NUMBER
from longtake.concurrency import run_in_thread, shield_until_done
from longtake.render_user import RenderUser

_ROOT = Path(__file__).resolve().parents[2]

# Some Python installations do not start without these. Nothing else is passed: no secret of the worker's may be seen in
# the environment of a process around a render.
_PASSED_VARIABLES = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class SupervisorError(Exception):
    """The supervisor process cannot be started."""


class SupervisorChannel:
    """The worker's end of the socket to one supervisor process: requests for keepers, and reports of lost renders."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._control.setblocking(False)
        self._gone: dict[int, asyncio.Future[None]] = {}
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(control.fileno(), self._receive)

    @classmethod
    async def start(cls, *, exact: bool) -> Self:
        """Start a supervisor process.

        Args:
            exact: Whether the host has what makes process trees exact.

        Raises:
            SupervisorError: The process cannot be started.
        """
        ours, theirs = socket.socketpair()
        # Without site-packages the process, and each fork of it, is smaller by a third. Only psutil needs them.
        options = ("-S",) if exact else ()
        environment = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *options, "-s", "-P", "-m", "activities.processes.supervisor_main"),
                *(str(theirs.fileno()), "exact" if exact else "portable"),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={**environment, "PYTHONPATH": str(_ROOT)},
            )
        except BaseException as error:
            ours.close()
            if isinstance(error, OSError):
                raise SupervisorError(f"the supervisor of renders cannot be started: {error}") from error
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_lost(self) -> bool:
        """Whether the supervisor is dead."""
        return self._lost.done()

    async def request_keeper(self, number: int, channel: socket.socket) -> None:
        """Request a keeper that talks through this socket; the socket closes when none can be forked.

        Raises:
            OSError: The supervisor is dead.
        """
        self._gone[number] = asyncio.get_running_loop().create_future()
        while True:
            try:
                socket.send_fds(self._control, [NUMBER.pack(number)], [channel.fileno()])
                return
            except BlockingIOError:
                # The buffer is full: the supervisor has not yet read the requests before this one.
                await asyncio.sleep(0.001)
            except OSError:
                # The supervisor has died, and the loop has not yet read the end of the socket.
                self.close()
                raise

    async def wait_until_gone(self, number: int) -> None:
        """Wait until the keeper has ended and nothing of its render is left, or the supervisor is dead."""
        if (gone := self._gone.get(number)) is not None:
            await asyncio.wait([gone, self._lost], return_when=asyncio.FIRST_COMPLETED)
            self._gone.pop(number, None)

    def forget(self, number: int) -> None:
        """Drop the record of a render that needs no `wait_until_gone` any more."""
        self._gone.pop(number, None)

    async def end(self) -> int:
        """Close the socket, which ends the supervisor, and return its exit code."""
        self.close()
        return await self._process.wait()

    def close(self) -> None:
        """Close the socket, which ends the supervisor, without waiting for that."""
        if not self._lost.done():
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._lost.set_result(None)

    def _receive(self) -> None:
        try:
            data = self._control.recv(NUMBER.size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) < NUMBER.size:
            self.close()
        elif (gone := self._gone.get(NUMBER.unpack(data)[0])) and not gone.done():
            gone.set_result(None)


_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# A process in uninterruptible sleep outlives SIGKILL until its disk or driver answers.
KILL_SECONDS = 30.0

# As `nice` itself does. On two cores that three renders wanted, a keeper at their own priority waited for up to 3 s for
# its turn, and the proof of a cancel with it.
RENDER_NICE = 10

# A supervisor or keeper may be killed while a render is starting: then another is tried.
_START_TRIES = 3

_KILL_PAUSE_SECONDS = 0.02


class Supervisor:
    """Starts renders through a supervisor process, which is started with the first render and again if it dies.

    Args:
        kill_seconds: How long processes may outlive SIGKILL before that is an error.
        control_groups: Whether each render gets a cgroup, where the worker may create cgroups.
        user: Account that renders run under; None for that of the worker.
        nice: Steps of priority that renders have below the worker.
        exact: Whether the host has what makes process trees exact (Linux). False on Linux is for tests of other hosts.
    """

    def __init__(
        self,
        *,
        kill_seconds: float = KILL_SECONDS,
        control_groups: bool = True,
        user: RenderUser | None = None,
        nice: int = RENDER_NICE,
        exact: bool = HAS_EXACT_TREES,
    ) -> None:
        self._kill_seconds = kill_seconds
        self.user = user
        self._nice = nice
        self.exact = exact
        self._mark = str(WorkerMark.current())
        self.group_prefix = make_group_prefix(self._mark) if control_groups and exact else None
        self._numbers = itertools.count(1)
        self._channel: SupervisorChannel | None = None
        self._starting = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._renders: set[RenderProcess] = set()
        self._keepers: set[KeeperConnection] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop all renders and the supervisor process, and wait until nothing of them is left."""
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
            await asyncio.gather(*(self._end(render) for render in list(self._renders)))
            await asyncio.gather(*(self._end_keeper(keeper) for keeper in list(self._keepers)))
            if self._channel is not None:
                async with asyncio.timeout(KILL_SECONDS):
                    await self._channel.end()
        except TimeoutError:
            _log.error("the supervisor of renders does not end: some of them outlive SIGKILL")
        finally:
            # A keeper kills its render when its socket closes: nothing stays, whatever went wrong above.
            for keeper in self._keepers:
                keeper.close()
            if self._channel is not None:
                self._channel.close()

    @property
    def pid(self) -> int | None:
        """Process id of the running supervisor process, if there is one."""
        return None if self._channel is None or self._channel.is_lost else self._channel.pid

    async def start(self) -> None:
        """Start the supervisor process, unless it runs.

        Raises:
            SupervisorError: The process cannot be started.
        """
        await self._ensure_channel()

    async def spawn(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        tag: Mapping[str, str],
        session: bool = False,
        input: Path | None = None,
    ) -> RenderProcess:
        """Start a render and return it; a cancel meanwhile leaves no process behind.

        Args:
            command: Program and arguments.
            cwd: Working directory.
            env: The whole environment of the render, beside the worker's mark; the tag should be in it.
            log: File to which output is appended, see `BoundedLog`.
            tag: Variables of `env` that no other render has. Processes that carry them are ended with this render,
                also those that no other way finds.
            session: Whether it reads lines on standard input; see `RenderProcess.ask`.
            input: File that it reads on standard input otherwise; None for nothing.

        Raises:
            OSError: The program cannot be executed, or the folder cannot be entered.
            SupervisorError: The supervisor cannot be started.
        """
        request = _request(command, cwd, env, log, tag, input)
        return await self._spawn_shielded({**request, "session": session}, None)

    @contextlib.asynccontextmanager
    async def keep_span(self) -> AsyncIterator["SpanKeeper"]:
        """Start the commands of the block through one keeper; no process of any of them is left after the block."""
        span = SpanKeeper(self._spawn_shielded, self._start_burst, can_burst=self.exact)
        try:
            yield span
        finally:
            await shield_until_done(span.end())

    async def _spawn_shielded(self, request: Message, span: "SpanKeeper | None") -> RenderProcess:
        spawning = self._create_task(self._spawn(request, span))
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await asyncio.shield(self._create_task(self._discard(spawning)))
            raise

    async def _spawn(self, request: Message, span: "SpanKeeper | None") -> RenderProcess:
        for _ in range(_START_TRIES):
            try:
                keeper = await self._find_keeper(span)
            except OSError:
                # The supervisor died a moment ago: the next try starts another.
                continue
            render = keeper.start(self._complete(request, span))
            self._renders.add(render)
            render.add_gone_callback(functools.partial(self._renders.discard, render))
            match await asyncio.shield(render.started):
                case {"started": _}:
                    return render
                case {"failed": [int(code), culprit]}:
                    raise OSError(code, os.strerror(code), culprit)
            await render.stop(0)
        raise SupervisorError("the supervisor of renders dies as soon as it is started; standard error may say why")

    async def _start_burst(self, request: Message, commands: Sequence[Message], span: "SpanKeeper") -> CommandBurst:
        opening = self._create_task(self._find_keeper(span))
        # A keeper that is open by then belongs to the span, which ends it.
        keeper = await asyncio.shield(opening)
        return keeper.start_burst(self._complete(request, span), commands)

    def _complete(self, request: Message, span: "SpanKeeper | None") -> Message:
        """Add to a request what all commands have in common."""
        account = (self.user.uid, self.user.gid, self.user.groups) if self.user else None
        env = {**request["env"], WORKER_VARIABLE: self._mark}
        limits = {"kill_seconds": self._kill_seconds, "account": account, "nice": self._nice, "last": span is None}
        return {**request, "env": env, **limits}

    async def _find_keeper(self, span: "SpanKeeper | None") -> KeeperConnection:
        """Return the keeper of a span where it takes a command, or another one."""
        keeper = span.idle_keeper if span is not None else None
        if keeper is None:
            keeper = await self._open_keeper()
            if span is not None:
                span.add_keeper(keeper)
        return keeper

    async def _open_keeper(self) -> KeeperConnection:
        number = next(self._numbers)
        group = ControlGroup(f"{self.group_prefix}{number}") if self.group_prefix else None
        channel = await self._ensure_channel()
        finish_lost = functools.partial(self._finish_lost, channel, number, group)
        keeper = KeeperConnection(finish_lost, self._kill_seconds, group.path if group else None)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await channel.request_keeper(number, theirs)
            await asyncio.get_running_loop().create_unix_connection(lambda: keeper, sock=ours)
        except BaseException:
            ours.close()
            channel.forget(number)
            raise
        self._keepers.add(keeper)
        keeper.add_gone_callback(functools.partial(self._forget, keeper, channel, number))
        return keeper

    def _forget(self, keeper: KeeperConnection, channel: SupervisorChannel, number: int) -> None:
        self._keepers.discard(keeper)
        channel.forget(number)

    async def _ensure_channel(self) -> SupervisorChannel:
        async with self._starting:
            if self._channel is None or self._channel.is_lost:
                if self._channel is not None:
                    _log.warning(
                        "the supervisor of renders, process %d, was killed: starting another", self._channel.pid
                    )
                elif not self.exact:
                    _log.warning(
                        "this system has no subreaper: renders are found by process group and environment only, so "
                        "one that leaves both is not"
                    )
                self._channel = await SupervisorChannel.start(exact=self.exact)
            return self._channel

    async def _finish_lost(
        self, channel: SupervisorChannel, number: int, group: ControlGroup | None, tags: Iterable[Mapping[str, str]]
    ) -> None:
        """Kill what is left of the renders whose keeper has gone without a closing message."""
        await channel.wait_until_gone(number)
        # The supervisor misses some: where it was killed too, and where another process started them for the render.
        tree = ProcessTree(process_table(exact=self.exact), None, tag={}, group=group)
        for tag in tags:
            tree.add_tag(tag)
        # The kernel reports the death of a process to its parent only, so this one must look.
        while await run_in_thread(tree.kill_twice):  # noqa: ASYNC110
            await asyncio.sleep(_KILL_PAUSE_SECONDS)
        if group is not None:
            group.remove()

    async def _discard(self, spawning: asyncio.Task[RenderProcess]) -> None:
        with contextlib.suppress(OSError, SupervisorError, ProcessSurvivedError):
            await (await spawning).stop(0)

    async def _end(self, render: RenderProcess) -> None:
        try:
            async with asyncio.timeout(self._kill_seconds + 1):
                await render.stop(0)
        except TimeoutError:
            _log.error("left to the supervisor of renders: a keeper does not answer")
        except ProcessSurvivedError as error:
            _log.error("left to the supervisor of renders: %s", error)

    async def _end_keeper(self, keeper: KeeperConnection) -> None:
        try:
            async with asyncio.timeout(self._kill_seconds + 1):
                await keeper.end()
        except TimeoutError:
            _log.error("left to the supervisor of renders: a keeper does not end")

    def _create_task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class SpanKeeper:
    """Starts commands one after the other through one keeper, and through another one where that was killed.

    Args:
        spawn: Starts a command through the keeper that this object names.
        start_burst: Starts several, given what they have in common and in what each differs.
        can_burst: Whether `start_burst` works on this host.
    """

    def __init__(
        self,
        spawn: Callable[[Message, "SpanKeeper"], Awaitable[RenderProcess]],
        start_burst: Callable[[Message, Sequence[Message], "SpanKeeper"], Awaitable[CommandBurst]],
        *,
        can_burst: bool,
    ) -> None:
        self._spawn = spawn
        self._start_burst = start_burst
        self.can_burst = can_burst
        self._keeper: KeeperConnection | None = None

    async def spawn(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        tag: Mapping[str, str],
        input: Path | None = None,
    ) -> RenderProcess:
        """Start a render when the one before is gone; see `Supervisor.spawn`."""
        return await self._spawn(_request(command, cwd, env, log, tag, input), self)

    async def start_burst(
        self,
        commands: Sequence[tuple[Sequence[str], Path, Mapping[str, str]]],
        *,
        cwd: Path,
        env: Mapping[str, str],
        longest_seconds: float,
    ) -> CommandBurst:
        """Start commands in turn, when the one before is gone.

        Args:
            commands: Program and arguments of each, its log and its tag, which its environment gets.
            cwd: Working directory.
            env: The environment that they have in common.
            longest_seconds: How long each may take before it goes on as a render of its own.

        Raises:
            OSError: The supervisor died a moment ago.
            SupervisorError: The supervisor cannot be started.
        """
        requests = [_request(command, cwd, env, log, tag, None) for command, log, tag in commands]
        each = [{name: request[name] for name in ("command", "log", "tag")} for request in requests]
        common = {name: requests[0][name] for name in ("cwd", "env")}
        return await self._start_burst({**common, "longest_seconds": longest_seconds}, each, self)

    @property
    def idle_keeper(self) -> KeeperConnection | None:
        """The keeper that takes the next command; None where another one must be opened."""
        return self._keeper if self._keeper is not None and self._keeper.is_idle else None

    def add_keeper(self, keeper: KeeperConnection) -> None:
        """Start further commands through this keeper."""
        self._keeper = keeper

    async def end(self) -> None:
        """Wait until nothing is left of the commands."""
        if self._keeper is not None:
            await self._keeper.end()


def _request(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, tag: Mapping[str, str], input: Path | None
) -> Message:
    # Absolute, because the supervisor runs in another folder.
    folder, file = os.path.abspath(cwd), os.path.abspath(log)
    request = {"command": list(command), "cwd": folder, "env": dict(env), "log": file, "tag": dict(tag)}
    return request if input is None else {**request, "input": os.path.abspath(input)}

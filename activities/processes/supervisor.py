"""The worker's side of its supervisor: starts renders, and leaves none behind."""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from activities.processes.ipc import Message, Messages, encode
from activities.processes.linux_table import HAS_EXACT_TREES, process_table
from activities.processes.orphans import WORKER_VARIABLE, WorkerMark
from activities.processes.process_tree import ControlGroup, ProcessTree, group_prefix
from activities.processes.supervisor_main import NUMBER
from activities.processes.usage import KeeperLostError, ProcessSurvivedError, SupervisorError, Usage

_ROOT = Path(__file__).resolve().parents[2]

# Without these some Python installations do not start; nothing else of the worker's is any business of the supervisor.
_PASSED = ("PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class SupervisorChannel:
    """Asks for keepers, and hears of renders that are wholly gone."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._control.setblocking(False)
        self._buried: dict[int, asyncio.Future[None]] = {}
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(control.fileno(), self._receive)

    @classmethod
    async def start(cls, *, exact: bool) -> Self:
        """Start a supervisor.

        Raises:
            SupervisorError: That is not possible.
        """
        ours, theirs = socket.socketpair()
        # Without site-packages the process, and each fork of it, is smaller by a third. Only psutil needs them.
        options = ("-S",) if exact else ()
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
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

    async def keep(self, number: int, channel: socket.socket) -> None:
        """Ask for a keeper that talks through this socket; whether it comes is seen there.

        Raises:
            OSError: The supervisor is dead.
        """
        self._buried[number] = asyncio.get_running_loop().create_future()
        while True:
            try:
                socket.send_fds(self._control, [NUMBER.pack(number)], [channel.fileno()])
                return
            except BlockingIOError:
                # So many are asked for at once that it has not come round to the others.
                await asyncio.sleep(0.001)
            except OSError:
                # Known here before the loop has come round to the end of the socket.
                self.close()
                raise

    async def buried(self, number: int) -> None:
        """Return when the supervisor has nothing of a render any more, or is dead itself."""
        if (burial := self._buried.get(number)) is not None:
            await asyncio.wait([burial, self._lost], return_when=asyncio.FIRST_COMPLETED)
            self._buried.pop(number, None)

    def forget(self, number: int) -> None:
        """Take it that nobody will ask for the burial of a render."""
        self._buried.pop(number, None)

    async def end(self) -> int:
        """Have the supervisor end, and return its exit code."""
        self.close()
        return await self._process.wait()

    def close(self) -> None:
        """Have the supervisor end, without waiting for it."""
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
        elif (burial := self._buried.get(NUMBER.unpack(data)[0])) and not burial.done():
            burial.set_result(None)


class RenderProcess(asyncio.Protocol):
    """A renderer in a session of its own, with stdin closed and its output going to a bounded log.

    Made by `Supervisor.spawn`. It is the worker's end of the line to the render's keeper; closing that ends the
    render.

    Args:
        bury: Ends what is left of a render whose keeper was killed; returns when nothing is.
        kill_seconds: How long processes may outlive SIGKILL before that is an error.
    """

    def __init__(self, bury: Callable[[], Awaitable[None]], kill_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._bury = bury
        self._kill_seconds = kill_seconds
        self._numbers = itertools.count(1)
        self._messages = Messages()
        self._transport: asyncio.Transport | None = None
        self._usage = Usage()
        self._burial: asyncio.Task[None] | None = None
        # The keeper's first word; None when it was killed before it had one.
        self.beginning: asyncio.Future[Message | None] = loop.create_future()
        # None when the keeper was killed before it could tell.
        self._exit: asyncio.Future[int | None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._answers: dict[int, asyncio.Future[Message]] = {}

    @property
    def pid(self) -> int:
        """Process id of the renderer itself."""
        beginning = self.beginning.result()
        assert beginning is not None
        return int(beginning["started"])

    @property
    def usage(self) -> Usage:
        """What the tree uses: at most a second ago while it runs, in all after its end."""
        return self._usage

    @property
    def is_gone(self) -> bool:
        """Whether it is proven that no process of the render is left."""
        return self._gone.done()

    def when_gone(self, do: Callable[[], object]) -> None:
        """Have something done when no process of the render is left."""
        self._gone.add_done_callback(lambda _: do())

    async def wait(self) -> int:
        """Return the exit code when the renderer itself has ended, minus the signal if one ended it.

        What it printed is in the log by then. What it left running runs on until `stop`.

        Raises:
            KeeperLostError: The keeper was killed; nothing of the render is left.
        """
        code = await asyncio.shield(self._exit)
        if code is None:
            raise KeeperLostError("the process that kept the render was killed, and the render with it")
        return code

    async def stop(self, grace_seconds: float) -> None:
        """Return when no process of the tree is left: TERM, then KILL after the grace.

        May be called again at any time, also with less grace; a cancelled call goes on without its caller.

        Raises:
            ProcessSurvivedError: Some outlive the KILL. They are killed as soon as that is possible.
        """
        answer = await self._order("stop", grace_seconds=grace_seconds)
        if survivors := answer.get("survivors"):
            raise ProcessSurvivedError(survivors, self._kill_seconds)

    async def freeze(self) -> None:
        """Return when no process of the tree runs: each is stopped where it stands, or dead."""
        await self._order("freeze")

    async def thaw(self) -> None:
        """Return when all processes of the tree were told to go on."""
        await self._order("thaw")

    def close(self) -> None:
        """Give the render up: its keeper kills it when it sees this end closed."""
        if self._transport is not None:
            self._transport.close()

    async def _order(self, do: str, **words: object) -> Message:
        number = next(self._numbers)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        if self.is_gone:
            return {}
        self._answers[number] = answer
        try:
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(encode({"id": number, "do": do, **words}))
            return await answer
        finally:
            self._answers.pop(number, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, message: Message) -> None:
        """Tell the keeper what to start."""
        assert self._transport is not None
        self._transport.write(encode(message))

    def data_received(self, data: bytes) -> None:
        for message in self._messages.feed(data):
            self._hear(message)

    def connection_lost(self, error: Exception | None) -> None:
        if self.is_gone:
            return
        if not self.beginning.done():
            self.beginning.set_result(None)
        self._burial = asyncio.get_running_loop().create_task(self._be_buried())

    def _hear(self, message: Message) -> None:
        match message:
            case {"usage": [cpu, io, memory, peak, processes]}:
                self._usage = Usage(cpu, io, memory, peak, processes)
            case {"started": _}:
                self.beginning.set_result(message)
            case {"failed": _}:
                self.beginning.set_result(message)
                self._end(None)
            case {"exited": code}:
                if not self._exit.done():
                    self._exit.set_result(code)
            case {"stopped": _}:
                self._end(None)
            case {"id": number}:
                if (answer := self._answers.get(number)) and not answer.done():
                    answer.set_result(message)

    async def _be_buried(self) -> None:
        await self._bury()
        self._end(None)

    def _end(self, code: int | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        if not self._exit.done():
            self._exit.set_result(code)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({})
        if self._transport is not None:
            self._transport.close()


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
        self._line: SupervisorChannel | None = None
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

    def _forget(self, render: RenderProcess, line: SupervisorChannel, number: int) -> None:
        self._renders.discard(render)
        line.forget(number)

    async def _connect(self, render: RenderProcess, line: SupervisorChannel, number: int) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await line.keep(number, theirs)
            await asyncio.get_running_loop().create_unix_connection(lambda: render, sock=ours)
        except BaseException:
            ours.close()
            raise

    async def _connected(self) -> SupervisorChannel:
        async with self._starting:
            if self._line is None or self._line.is_lost:
                if self._line is not None:
                    _log.warning("the supervisor of renders, process %d, was killed: starting another", self._line.pid)
                elif not self.exact:
                    _log.warning(
                        "this system has no subreaper: renders are found by process group and environment only, so "
                        "one that leaves both is not"
                    )
                self._line = await SupervisorChannel.start(exact=self.exact)
            return self._line

    async def _bury(
        self, line: SupervisorChannel, number: int, tag: Mapping[str, str], group: ControlGroup | None
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

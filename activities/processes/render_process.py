"""One render as its worker sees it: the worker's end of the socket to the render's keeper."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Self

from activities.processes.ipc import Message, MessageDecoder, encode_message

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """CPU time and I/O of a process tree since its start, and its memory now.

    Ended processes are included where the host counts them (Linux).
    """

    cpu_seconds: float = 0.0
    io_bytes: int = 0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    processes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Add the usage of a later run: times and bytes summed, memory and processes those of the later one."""
        return Usage(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            io_bytes=self.io_bytes + other.io_bytes,
            memory_bytes=other.memory_bytes,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
            processes=other.processes,
        )


class ProcessSurvivedError(Exception):
    """Processes have survived SIGKILL: they are in uninterruptible sleep until a disk or driver answers."""

    def __init__(self, pids: Sequence[int], seconds: float) -> None:
        self.pids = tuple(pids)
        super().__init__(f"processes {', '.join(map(str, pids))} are still there {seconds:g} s after SIGKILL")


class KeeperLostError(Exception):
    """The keeper of a render was killed; every process of the render is dead by now."""


# Variables that every process of a command carries, and nothing else does.
Tag = Mapping[str, str]


class KeeperConnection(asyncio.Protocol):
    """The worker's end of the socket to one keeper; closing the socket ends the render at hand.

    Args:
        finish_lost: Kills the processes of a keeper that was killed, given their tags; returns when none is left.
        kill_seconds: How long processes may outlive SIGKILL before that is an error.
        group: Path of the cgroup of the keeper's commands, if they have one.
    """

    def __init__(
        self, finish_lost: Callable[[Iterable[Tag]], Awaitable[None]], kill_seconds: float, group: str | None = None
    ) -> None:
        self._finish_lost = finish_lost
        self._kill_seconds = kill_seconds
        self._group = group
        self._tags: list[Tag] = []
        self._numbers = itertools.count(1)
        self._messages = MessageDecoder()
        self._transport: asyncio.Transport | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._render: RenderProcess | None = None
        self._burst: CommandBurst | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the keeper takes a command, as far as is known."""
        has_ended = self._transport is None or self._transport.is_closing() or self._gone.done()
        is_busy = self._burst is not None or (self._render is not None and not self._render.is_gone)
        return not has_ended and not is_busy

    def add_gone_callback(self, on_gone: Callable[[], object]) -> None:
        """Call `on_gone` when the keeper has gone, and every process of its commands."""
        self._gone.add_done_callback(lambda _: on_gone())

    def start(self, request: Message) -> "RenderProcess":
        """Send the request to start a command; the one before must be gone."""
        self._render = render = RenderProcess(self, self._kill_seconds)
        self._tags.append(request["tag"])
        self.send({**request, "group": self._group})
        return render

    def start_burst(self, request: Message, commands: Sequence[Message]) -> "CommandBurst":
        """Send commands to be started in turn; the one before must be gone.

        Args:
            request: What they have in common.
            commands: In what each differs.
        """
        self._burst = burst = CommandBurst(self)
        self._tags += [command["tag"] for command in commands]
        self.send({**request, "group": self._group, "commands": commands})
        return burst

    def order(self, do: str, **fields: object) -> int:
        """Send an order to the command at hand, and return the number that the answer will have."""
        number = next(self._numbers)
        self.send({"id": number, "do": do, **fields})
        return number

    def send(self, message: Message) -> None:
        """Send a message, unless the keeper has gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_message(message))

    def close(self) -> None:
        """Close the socket to the keeper, which then kills the render; do not wait for that."""
        if self._transport is not None:
            self._transport.close()

    async def end(self) -> None:
        """Have the keeper end when no command is at hand, and wait until nothing of any of its commands is left."""
        self.send({"end": True})
        await asyncio.shield(self._gone)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._messages.feed(data):
            if "results" in message and self._burst is not None:
                self._note_results(self._burst, message)
            elif self._render is not None:
                self._render.handle(message)
            if "ended" in message:
                self._end()

    def connection_lost(self, error: Exception | None) -> None:
        if self._gone.done():
            return
        self._finishing = asyncio.get_running_loop().create_task(self._finish_and_end())

    def _note_results(self, burst: "CommandBurst", message: Message) -> None:
        burst.note([EndedCommand(*result) for result in message["results"]])
        if message.get("over"):
            if message["kept"] is not None:
                self._render = burst.kept = RenderProcess(self, self._kill_seconds)
                self._render.handle({"started": message["kept"]})
            self._end_burst()

    def _end_burst(self) -> None:
        if self._burst is not None:
            burst, self._burst = self._burst, None
            burst.end()

    async def _finish_and_end(self) -> None:
        try:
            await self._finish_lost(self._tags)
        except Exception:
            _log.exception("what a lost keeper has left running is left to the supervisor")
        finally:
            # Without this an attempt would wait for ever for a render that nobody keeps.
            self._end()

    def _end(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        if self._burst is not None:
            # The command at hand is lost, and nobody knows which of it has begun.
            self._render = self._burst.kept = RenderProcess(self, self._kill_seconds)
            self._end_burst()
        if self._render is not None:
            self._render.end()
        self.close()


class EndedCommand(NamedTuple):
    """What a command of a burst has used that has ended well and in silence; nothing is left of it."""

    cpu_seconds: float
    peak_memory_bytes: int
    seconds: float


class CommandBurst:
    """Commands that a keeper starts in turn, each when nothing is left of the one before.

    What is unusual ends the burst: a command that prints, fails or takes long, and `recall`. The command at hand then
    goes on as a render of its own, and those after it are not begun.

    Args:
        keeper: The connection to their keeper.

    Attributes:
        count_ended: How many have ended well and in silence.
        is_over: Whether no further one begins.
        kept: The command that goes on alone, after those that have ended; None where none does, or before the end.
    """

    def __init__(self, keeper: KeeperConnection) -> None:
        self._keeper = keeper
        self._ended: list[EndedCommand] = []
        self._news = asyncio.Event()
        self._is_recalled = False
        self.count_ended = 0
        self.is_over = False
        self.kept: RenderProcess | None = None

    async def wait(self, seconds: float) -> list[EndedCommand]:
        """Wait until more commands have ended, or the burst is over, so long at most; return the new ones in order."""
        if not self._news.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        if not self.is_over:
            self._news.clear()
        ended, self._ended = self._ended, []
        return ended

    async def recall(self) -> None:
        """Have no further command begin, and wait until the burst is over."""
        if not self._is_recalled:
            self._is_recalled = True
            self._keeper.order("recall")
        while not self.is_over:
            await self._news.wait()
            self._news.clear()
        self._news.set()

    def note(self, ended: Sequence[EndedCommand]) -> None:
        """Take note of commands that have ended."""
        self._ended += ended
        self.count_ended += len(ended)
        self._news.set()

    def end(self) -> None:
        """Take note that no further command begins."""
        self.is_over = True
        self._news.set()


class RenderProcess:
    """A renderer in a session of its own, with stdin closed and its output going to a bounded log.

    Made by `Supervisor.spawn`.

    Args:
        keeper: The connection to its keeper; None where it has ended.
        kill_seconds: How long processes may outlive SIGKILL before that is an error.
    """

    def __init__(self, keeper: KeeperConnection | None, kill_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._keeper = keeper
        self._kill_seconds = kill_seconds
        self._usage = Usage()
        # The keeper's first message; None when the keeper was killed before it sent one.
        self.started: asyncio.Future[Message | None] = loop.create_future()
        # None when the keeper was killed before it could report the exit code.
        self._exit: asyncio.Future[int | None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._answers: dict[int, asyncio.Future[Message]] = {}
        # False when the renderer has ended and its keeper knows that it has printed nothing.
        self.may_have_printed = True

    @classmethod
    def of_ended(cls, ended: EndedCommand) -> Self:
        """Return the render that a command of a burst was."""
        process = cls(None, 0)
        process.handle({"started": 0, "printed": False, "exited": 0, "stopped": True})
        process._usage = Usage(cpu_seconds=ended.cpu_seconds, peak_memory_bytes=ended.peak_memory_bytes)
        return process

    @property
    def pid(self) -> int:
        """Process id of the renderer itself."""
        message = self.started.result()
        assert message is not None
        return int(message["started"])

    @property
    def usage(self) -> Usage:
        """Usage of the process tree: at most a second old while the render runs, the total after its end."""
        return self._usage

    @property
    def has_ended(self) -> bool:
        """Whether the renderer itself has ended, as far as is known."""
        return self._exit.done()

    @property
    def is_gone(self) -> bool:
        """Whether no process of the render is left, which the keeper has proven."""
        return self._gone.done()

    def add_gone_callback(self, on_gone: Callable[[], object]) -> None:
        """Call `on_gone` when no process of the render is left."""
        self._gone.add_done_callback(lambda _: on_gone())

    async def wait(self) -> int:
        """Wait for the end of the renderer itself and return its exit code, or minus the number of the signal.

        What the renderer printed is in the log by then. Processes it left behind run on until `stop`.

        Raises:
            KeeperLostError: The keeper was killed; nothing of the render is left.
        """
        code = await asyncio.shield(self._exit)
        if code is None:
            raise KeeperLostError("the process that kept the render was killed, and the render with it")
        return code

    async def stop(self, grace_seconds: float) -> None:
        """Stop the process tree, with SIGTERM and after the grace with SIGKILL, and wait until none of it is left.

        May be called again at any time, also with less grace. A cancelled call leaves the stop in progress.

        Raises:
            ProcessSurvivedError: Some processes outlive SIGKILL. They are killed as soon as that is possible.
        """
        answer = await self._order("stop", grace_seconds=grace_seconds)
        if survivors := answer.get("survivors"):
            raise ProcessSurvivedError(survivors, self._kill_seconds)

    async def freeze(self) -> None:
        """Stop every process of the tree with SIGSTOP and wait until none runs."""
        await self._order("freeze")

    async def thaw(self) -> None:
        """Continue every process of the tree with SIGCONT."""
        await self._order("thaw")

    async def ask(self, line: str, log: str) -> str | None:
        """Write a line to the standard input of a session, and wait for its answer.

        Args:
            line: The line, with its end.
            log: Absolute path of the file to which the session's output goes from now on.

        Returns:
            Why the session has failed; empty when it says that it is done; None where it has ended without an answer.
        """
        answer = await self._order("ask", line=line, log=log)
        text = answer.get("answer")
        return None if text is None else str(text)

    async def _order(self, do: str, **fields: object) -> Message:
        if self.is_gone or self._keeper is None:
            return {}
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        number = self._keeper.order(do, **fields)
        self._answers[number] = answer
        try:
            return await answer
        finally:
            self._answers.pop(number, None)

    def handle(self, message: Message) -> None:
        """Take note of a message of the keeper."""
        if usage := message.get("usage"):
            self._usage = Usage(*usage)
        if "started" in message:
            self.started.set_result(message)
        if "failed" in message:
            self.started.set_result(message)
            self.end()
        if "printed" in message:
            self.may_have_printed = message["printed"]
        if "exited" in message and not self._exit.done():
            self._exit.set_result(message["exited"])
        if "stopped" in message:
            self.end()
        if (answer := self._answers.get(message.get("id", 0))) and not answer.done():
            answer.set_result(message)

    def end(self) -> None:
        """Take note that nothing of the render is left."""
        for future in (self.started, self._exit):
            if not future.done():
                future.set_result(None)
        if not self._gone.done():
            self._gone.set_result(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({})

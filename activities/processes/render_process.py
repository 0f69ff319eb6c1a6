"""One render process with all that it starts, as the worker sees it: watched, frozen and ended together."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from activities.processes.errors import KeeperLostError, ProcessSurvivedError
from activities.processes.usage import Usage
from activities.processes.wire import Message, Messages, encode


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

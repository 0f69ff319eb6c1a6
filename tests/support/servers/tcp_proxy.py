"""A TCP proxy between a worker and Temporal that can be cut like a cable."""

import asyncio
from types import TracebackType
from typing import Self


class Proxy:
    """Passes connections of the loopback interface on to a server, as long as it is not cut.

    While it is cut, connections stay open and are even made, and no byte passes: nobody is told, as when a cable is
    pulled. What was sent meanwhile arrives after `heal`, as TCP would send it again. `refuse` is the server gone.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._host, self._port = host, int(port)
        self._whole = asyncio.Event()
        self._whole.set()
        self._serving: set[asyncio.Task[None]] = set()
        self.address = ""

    async def __aenter__(self) -> Self:
        await self._listen(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    def cut(self) -> None:
        """Let no byte pass any more, and tell nobody."""
        self._whole.clear()

    async def refuse(self) -> None:
        """Break all connections and take no new ones."""
        self._listener.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def heal(self) -> None:
        """Let everything pass again."""
        self._whole.set()
        if not self._listener.is_serving():
            await self._listen(int(self.address.rpartition(":")[2]))

    async def _listen(self, port: int) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        try:
            await self._whole.wait()
            answers, back = await asyncio.open_connection(self._host, self._port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back))
                both.create_task(self._pump(answers, writer))
        except* OSError:
            # One side has gone; the other hears of it by the close below.
            pass
        finally:
            for end in (writer, back):
                if end is not None:
                    end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            await self._whole.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError

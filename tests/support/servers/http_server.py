"""HTTP/1.1 of the loopback interface, told as it happens: a caller that hangs up is noticed at once."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import h11

# Runtimes put a whole traceback in one header.
_LARGEST_HEAD_BYTES = 2 << 20


@dataclass(frozen=True)
class Request:
    """One request that has arrived whole."""

    method: str
    # As it was sent: still encoded, with its query.
    target: str
    # Names in lower case.
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """What one caller sends, and what it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_LARGEST_HEAD_BYTES)

    async def next_request(self) -> Request | None:
        """Return the next request; None when the caller has hung up, even in the middle of one."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError:
                return None
            if event is h11.NEED_DATA:
                if self._protocol.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._protocol.receive_data(await self._read())
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Request(head.method.decode(), head.target.decode(), headers, bytes(body))
            else:
                return None

    async def until_closed(self) -> None:
        """Return when the caller has hung up."""
        while data := await self._read():
            self._protocol.receive_data(data)

    async def respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer the request; a caller that has gone gets nothing."""
        all_headers = {"content-type": "application/json", **(headers or {}), "content-length": str(len(body))}
        self._send(h11.Response(status_code=status, headers=list(all_headers.items())))
        self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        try:
            await self._writer.drain()
        except ConnectionError:
            return
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()

    async def respond_json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        await self.respond(status, json.dumps(body).encode(), headers)

    async def break_off(self, status: int, body: bytes, promised_bytes: int) -> None:
        """Begin an answer and break the connection before the end of it."""
        self._send(h11.Response(status_code=status, headers=[("content-length", str(promised_bytes))]))
        self._send(h11.Data(data=body))
        await self._writer.drain()
        self.abort()

    def abort(self) -> None:
        """Break the connection, as a crash of the server would."""
        self._writer.transport.abort()

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(1 << 16)
        except ConnectionError:
            return b""

    def _send(self, event: h11.Event) -> None:
        if (data := self._protocol.send(event)) and not self._writer.is_closing():
            self._writer.write(data)


class HttpServer:
    """Listens on a free port of the loopback interface; each connection is served by one task."""

    def __init__(
        self, answer: Callable[[Connection, Request], Awaitable[None]], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer = answer
        self._tls = tls
        self._serving: set[asyncio.Task[None]] = set()
        self.address = ""

    async def start(self, port: int = 0) -> None:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", port, backlog=1024, ssl=self._tls)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Take no more connections, and break those that are open."""
        self._listener.close()
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        try:
            while not writer.is_closing() and (request := await connection.next_request()) is not None:
                await self._answer(connection, request)
        finally:
            writer.close()

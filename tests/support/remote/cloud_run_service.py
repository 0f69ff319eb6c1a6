"""A Cloud Run service on the loopback interface that does as the test says, and notes what its caller does."""

import asyncio
import enum
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from support.servers.certificates import Certificate
from support.servers.http_server import Connection, HttpServer, Request


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Deed(enum.Enum):
    """What else the service may do with a request."""

    # Nothing, until the caller hangs up.
    HOLD = "hold"
    # Break the connection, before it answers or in the middle.
    BREAK = "break"
    CUT = "cut"


@dataclass
class Call:
    """One request as the service saw it."""

    request: Request
    # HTTP/1.1 or HTTP/2.
    version: str
    # When the caller hung up, by the clock of the event loop; only of a request that was held.
    hung_up: "asyncio.Future[float]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def payload(self) -> Any:
        return json.loads(self.request.body)


class CloudRunFront:
    """Does with each request what `script` says next; with all others what `otherwise` says."""

    def __init__(self) -> None:
        self.url = ""
        self.script: deque[Reply | Deed] = deque()
        self.otherwise: Reply | Deed = Reply(200, b"{}")
        self.calls: list[Call] = []
        self._arrived: asyncio.Queue[Call] = asyncio.Queue()

    def reply(self, status: int, body: object = b"", headers: Mapping[str, str] | None = None) -> None:
        """Have the next request answered so; what is not bytes is sent as JSON."""
        kind = {"content-type": "text/html" if isinstance(body, bytes) else "application/json"}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.script.append(Reply(status, raw, kind | dict(headers or {})))

    async def next_call(self) -> Call:
        """Return the next request, when it has arrived whole."""
        return await asyncio.wait_for(self._arrived.get(), 60)

    def arrived(self, request: Request, version: str) -> tuple[Call, Reply | Deed]:
        """Note a request; return what becomes of it."""
        call = Call(request, version)
        self.calls.append(call)
        self._arrived.put_nowait(call)
        return call, self.script.popleft() if self.script else self.otherwise


@asynccontextmanager
async def cloud_run_front() -> AsyncIterator[CloudRunFront]:
    """Run a service that speaks HTTP/1.1 in the clear."""
    front = CloudRunFront()

    async def answer(connection: Connection, request: Request) -> None:
        call, deed = front.arrived(request, "HTTP/1.1")
        if isinstance(deed, Reply):
            await connection.respond(deed.status, deed.body, deed.headers)
        elif deed is Deed.HOLD:
            await connection.until_closed()
            call.hung_up.set_result(asyncio.get_running_loop().time())
        elif deed is Deed.CUT:
            await connection.break_off(200, b'{"exitCode":0', promised_bytes=100)
        else:
            connection.abort()

    server = HttpServer(answer)
    await server.start()
    front.url = f"http://{server.address}"
    try:
        yield front
    finally:
        await server.close()


_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def cloud_run_front_tls(
    certificate: Certificate, offers: Sequence[str] = ("h2", "http/1.1")
) -> AsyncIterator[CloudRunFront]:
    """Run a service that offers HTTP/2 over TLS, as Google does, or what it is told to."""
    front = CloudRunFront()

    async def app(scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            raise ValueError(scope["type"])
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode()
        call, deed = front.arrived(Request(scope["method"], target, headers, body), f"HTTP/{scope['http_version']}")
        if isinstance(deed, Reply):
            named = [(name.encode(), value.encode()) for name, value in deed.headers.items()]
            await send({"type": "http.response.start", "status": deed.status, "headers": named})
            await send({"type": "http.response.body", "body": deed.body})
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        call.hung_up.set_result(asyncio.get_running_loop().time())

    listener = socket.create_server(("127.0.0.1", 0))
    front.url = "https://{}:{}".format(*listener.getsockname())
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.certfile, config.keyfile = str(certificate.certificate), str(certificate.key)
    config.alpn_protocols = list(offers)
    config.errorlog, config.graceful_timeout = None, 0.5
    stop = asyncio.Event()
    # Hypercorn spells out every kind of event.
    untyped: Any = app
    serving = asyncio.create_task(serve(untyped, config, shutdown_trigger=stop.wait))
    try:
        yield front
    finally:
        stop.set()
        await serving

"""Serve the agent on Cloud Run: `python -m agent.cloud_run` serves `app` on the port that PORT names."""

from activities.processes.privacy import hide_environment

if __name__ == "__main__":
    # Before other imports: it starts this program again.
    hide_environment()

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from activities.attempts.host import build_host
from activities.processes.orphans import kill_orphans
from activities.processes.supervisor import Supervisor
from activities.remote.protocol import LARGEST_ORDER_BYTES, RefusedOrderError, verify
from agent.agent import RenderAgent
from agent.call import BegunBeforeError, ForbiddenOrderError, Invocation
from agent.helios import HeliosWorker, answer_cloud_run
from agent.settings import AgentSettings, load_shared_secret
from longtake.concurrency import run_beside, run_in_thread
from longtake.errors import LongtakeError
from longtake.text import PlainFormatter

_log = logging.getLogger(__name__)

Scope = Mapping[str, Any]

Receive = Callable[[], Awaitable[dict[str, Any]]]

Send = Callable[[dict[str, Any]], Awaitable[None]]

# Google's front end passes requests on as they arrive, and workers send an order at once.
_BODY_SECONDS = 30.0

# Cloud Run's front end keeps paths that end in z to itself; probes within the instance do not pass it.
_HEALTH_PATHS = ("/healthz", "/health")

# Cloud Run kills 10 s after SIGTERM. Renders have 4 s of these to clean up.
_SHUTDOWN_SECONDS = 9


class RequestRefusedError(Exception):
    """A request that gets an HTTP error as its answer.

    Args:
        status: HTTP status of the answer.
        message: What is wrong, for the caller.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ClientDisconnectedError(Exception):
    """The caller hung up before its request had arrived."""


@dataclass(frozen=True)
class _Renderers:
    """Settings and renderers of a started application."""

    settings: AgentSettings
    secret: str
    agent: RenderAgent
    helios: HeliosWorker


class CloudRunApp:
    """ASGI application that carries out orders of workers and requests of Helios clients, several at once."""

    def __init__(self) -> None:
        self._shutting_down = asyncio.Event()
        # Made when the server starts the application, which is before the first request.
        self._renderers: _Renderers | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one scope of ASGI: the application's lifespan, or a request."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve_request(scope, receive, send)

    def begin_shutdown(self) -> None:
        """Stop all renders: the platform takes the instance down."""
        self._shutting_down.set()

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            settings = AgentSettings.from_environ(os.environ)
            secret = await run_in_thread(partial(load_shared_secret, settings))
        except LongtakeError as error:
            return await send({"type": "lifespan.startup.failed", "message": str(error)})
        await run_in_thread(kill_orphans)
        async with Supervisor() as supervisor:
            host = build_host(settings, supervisor, tools=settings.tools)
            agent, helios = RenderAgent(settings, host), HeliosWorker(settings, host, supervisor)
            self._renderers = _Renderers(settings, secret, agent, helios)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = time.monotonic()
        if scope["method"] == "GET" and scope["path"] in _HEALTH_PATHS:
            return await respond(send, 200, {"status": "ok"})
        if scope["method"] != "POST":
            return await respond(send, 405, {"message": "Method Not Allowed"}, {"allow": "POST"})
        assert self._renderers is not None
        deadline = arrived + self._renderers.settings.deadline_seconds
        call = Invocation(arrived, deadline, shutting_down=self._shutting_down)
        try:
            body = await read_body(scope, receive, LARGEST_ORDER_BYTES)
            status, document = await _answer_request(self._renderers, body, receive, call)
        except ClientDisconnectedError:
            return
        except RequestRefusedError as error:
            # The rest of the body would be read as the next request.
            return await respond(send, error.status, {"message": str(error)}, {"connection": "close"})
        await respond(send, status, document)


async def _answer_request(renderers: _Renderers, body: bytes, receive: Receive, call: Invocation) -> tuple[int, object]:
    """Return status and document of the answer; set `call.disconnected` when the caller hangs up meanwhile."""
    document = parse_json(body)
    async with run_beside(wait_for_disconnect(receive, call.disconnected)):
        if isinstance(document, dict) and "order" in document:
            return await _carry_out_order(renderers, body, call)
        reply = await answer_cloud_run(renderers.helios, document, call)
        return reply.status, reply.body


async def _carry_out_order(renderers: _Renderers, body: bytes, call: Invocation) -> tuple[int, object]:
    try:
        result = await renderers.agent.render(verify(body, renderers.secret), call)
    except RefusedOrderError as error:
        _log.warning("refused: %s", error)
        return _choose_status(error), {"message": str(error)}
    return 200, result.model_dump(mode="json")


def _choose_status(error: RefusedOrderError) -> int:
    match error:
        case BegunBeforeError():
            return 409
        case ForbiddenOrderError():
            return 403
    # Not 400: size and form of the request were checked before.
    return 401


async def read_body(scope: Scope, receive: Receive, most_bytes: int) -> bytes:
    """Read the body of a request; one that is too large is not read to its end.

    Raises:
        RequestRefusedError: The body is too large, or does not arrive in time.
        ClientDisconnectedError: The caller hung up.
    """
    too_large = RequestRefusedError(413, f"the request has more than {most_bytes} bytes")
    declared = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"")
    if declared.isdigit() and int(declared[:19]) > most_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                body += message.get("body", b"")
                if len(body) > most_bytes:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise RequestRefusedError(408, f"the request was not there within {_BODY_SECONDS:g} s") from error


def parse_json(body: bytes) -> Any:
    """Parse the JSON of a body.

    Raises:
        RequestRefusedError: The body is no JSON.
    """
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise RequestRefusedError(400, "Invalid JSON payload") from error


async def wait_for_disconnect(receive: Receive, disconnected: asyncio.Event) -> None:
    """Wait until a caller whose request was read hangs up; then set the event."""
    while (await receive())["type"] != "http.disconnect":
        pass
    disconnected.set()


async def respond(send: Send, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
    """Answer with a JSON object; no error where the caller has hung up."""
    content = json.dumps(document).encode()
    named = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})


class _Server(uvicorn.Server):
    """Tells the application of a signal at once; uvicorn itself waits for all requests, and so for all renders."""

    def __init__(self, config: uvicorn.Config, application: CloudRunApp) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Tell the application, and end as uvicorn does."""
        self._loop.call_soon_threadsafe(self._application.begin_shutdown)
        super().handle_exit(sig, frame)

    async def serve(self, *arguments: Any, **named: Any) -> None:
        """Serve until SIGTERM or SIGINT."""
        self._loop = asyncio.get_running_loop()
        await super().serve(*arguments, **named)


app = CloudRunApp()


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        AgentSettings.from_environ(os.environ)
    except LongtakeError as error:
        print(f"agent.cloud_run: {error}", file=sys.stderr)  # noqa: T201
        return 2
    config = uvicorn.Config(
        app,
        host=os.environ.get("LONGTAKE_LISTEN", "0.0.0.0"),
        port=int(os.environ.get("PORT", "8080")),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config, app)
    asyncio.run(server.serve())
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())

"""Run the web server until it is told to end."""

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from longtake.client import RenderClient
from longtake.errors import LongtakeError
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.web.app import create_app
from longtake.web.settings import WebSettings

# Answers that are under way at the end.
_GRACE_SECONDS = 3


async def serve(
    farm: RenderClient,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    settings: WebSettings | None = None,
    task_queue: str = DEFAULT_TASK_QUEUE,
    on_message: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        LongtakeError: The address cannot be used.
    """
    app = create_app(farm, settings, task_queue=task_queue)
    listening = _listen(host, port)
    address, taken = listening.getsockname()[:2]
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        # Who asks is told by the connection alone; headers of proxies are believed where settings say so.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, app.state.gateway.closing.set)
    shown = f"[{address}]" if ":" in address else address
    on_message(f"http://{shown}:{taken}")
    try:
        await server.serve(sockets=[listening])
    finally:
        app.state.gateway.stores.close()


class _Server(uvicorn.Server):
    """Server that ends its streams of events as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise LongtakeError(
            f"--port: {host}:{port} cannot be used ({error.strerror}); name another --port or --listen"
        ) from error
    return listening

"""Run the web server until it is told to end."""

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from longtake.client import RenderClient
from longtake.errors import BadJobError
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.text import escape_text
from longtake.web.app import create_app
from longtake.web.patient_protocol import PatientProtocol
from longtake.web.settings import WebSettings

# Answers that are under way at the end.
_GRACE_SECONDS = 3

# More connections than that are refused: each may hold a job file of 16 MiB.
_MOST_CONNECTIONS = 1000

# Connections that wait to be taken.
_WAITING = 1024


class WebServer:
    """Web server of a farm.

    Args:
        farm: Client of the farm; it need not be connected yet.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        settings: Settings of the server; default: those for this host alone.
        task_queue: Queue of the workers.

    Raises:
        BadJobError: The address cannot be used.
    """

    def __init__(
        self,
        farm: RenderClient,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        settings: WebSettings | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
    ) -> None:
        app = create_app(farm, settings, task_queue=task_queue)
        self._gateway = app.state.gateway
        self._listening = _listen(host, port)
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            # What goes wrong is told by the application itself; of its clients' mistakes nobody need hear.
            log_level="critical",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            # Who asks is told by the connection alone; a header of a proxy is believed where settings say so.
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = _Server(config, self._gateway.closing.set)

    @property
    def address(self) -> str:
        """Address of its page."""
        host, port = self._listening.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def find_outage(self) -> str | None:
        """Return a sentence where Temporal does not answer; None where it does."""
        try:
            await self._gateway.list_jobs()
        except Exception as error:
            return str(self._gateway.describe(error).detail)
        return None

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `end`."""
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            self._gateway.stores.close()

    def end(self) -> None:
        """End the server, its streams of events at once."""
        self._gateway.closing.set()
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Server that ends its streams of events as soon as it is told to end."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_exit()
        super().handle_exit(sig, frame)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio sets TCP_NODELAY on connections of sockets that name the protocol; without it each answer takes 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise BadJobError(f"--listen: {escape_text(host)} is no address of this host ({error.strerror})") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Who reads the address may ask at once.
        listening.listen(_WAITING)
    except OSError as error:
        listening.close()
        raise BadJobError(
            f"--port: {host}:{port} cannot be used ({error.strerror}); name another --port or --listen"
        ) from error
    return listening

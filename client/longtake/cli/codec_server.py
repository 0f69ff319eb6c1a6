"""The command `codec-server`: decode payloads for the Temporal UI and `temporal --codec-endpoint`.

Temporal's protocol (https://docs.temporal.io/codec-server): `POST /decode` and `/encode` take and return `Payloads` as
JSON. A browser asks first whether the page may (CORS).
"""

import asyncio
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson, Parse, ParseError
from temporalio.api.common.v1 import Payloads
from temporalio.converter import PayloadCodec

from longtake.cli.terminal import print_message
from longtake.codec import AES_GCM, CODEC_VARIABLE, drop_reason, load_codec
from longtake.errors import LongtakeError

# The UI of `make dev`.
DEFAULT_ORIGINS = ("http://localhost:8233", "http://127.0.0.1:8233")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

# One call brings the payloads of a page of history, and each has 2 MiB at most.
_MOST_BYTES = 64 * 2**20

# A client that stops in the middle of its request keeps a thread for so long.
_CLIENT_SECONDS = 30

_HEADERS = "authorization, content-type, x-namespace"


def codec_server(
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8234,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            "--origin",
            metavar="URL",
            help=f"Temporal UI that may ask; repeatable. [default: {', '.join(DEFAULT_ORIGINS)}]",
        ),
    ] = None,
) -> None:
    """Decode payloads for the Temporal UI and `temporal --codec-endpoint`, with the codec of LONGTAKE_CODEC.

    Example: longtake codec-server --origin http://localhost:8080
    """
    codec = load_codec()
    if codec is None:
        raise LongtakeError(f"{CODEC_VARIABLE} is not set; set it as the workers have it, such as {AES_GCM}")
    origins = frozenset(url.rstrip("/") for url in origin or DEFAULT_ORIGINS)
    try:
        server = CodecServer(host, port, codec, origins)
    except OSError as error:
        raise LongtakeError(
            f"--port: {host}:{port} cannot be used ({error.strerror}); name another --port or --host"
        ) from error
    with server:
        if host not in _LOOPBACK:
            print_message(f"whoever reaches {host} can read what jobs hold; put TLS and a login before it")
        print_message(f"codec server at http://{host}:{server.server_port} for {', '.join(sorted(origins))}")
        server.serve_forever()


class CodecServer(ThreadingHTTPServer):
    """Serves the codec until `shutdown`.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        codec: The codec.
        origins: Origins of the pages that may ask.

    Raises:
        OSError: The address cannot be used.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, codec: PayloadCodec, origins: frozenset[str]) -> None:
        self.codec = codec
        self.origins = origins
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: CodecServer
    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_SECONDS

    def do_OPTIONS(self) -> None:
        """Tell a browser whether a page may ask."""
        if self._refuse_foreign_page():
            return
        self._answer(HTTPStatus.OK)

    def do_POST(self) -> None:
        """Encode or decode payloads."""
        if self._refuse_foreign_page():
            return
        # Behind a path too: Temporal's own samples put the namespace there.
        work = self.path.partition("?")[0].rpartition("/")[2]
        length = self.headers.get("Content-Length", "")
        if work not in ("encode", "decode"):
            self._refuse(HTTPStatus.NOT_FOUND, "ask for /encode or /decode")
        elif not length.isdecimal() or int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send a Content-Length of {_MOST_BYTES} at most")
        else:
            self._convert(work, self.rfile.read(int(length)))

    def _convert(self, work: str, body: bytes) -> None:
        try:
            given = Parse(body, Payloads(), ignore_unknown_fields=True).payloads
        except (ParseError, UnicodeDecodeError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST, 'send {"payloads": [...]} as JSON')
            return
        if work == "encode":
            done = asyncio.run(self.server.codec.encode(given))
        else:
            # What cannot be decoded is shown as it stands: one payload of an old key must not hide all others.
            done = [drop_reason(payload) for payload in asyncio.run(self.server.codec.decode(given))]
        self._answer(HTTPStatus.OK, MessageToJson(Payloads(payloads=done)).encode())

    def _refuse_foreign_page(self) -> bool:
        """Refuse what a browser sends for another page than the UI; return whether that was so."""
        origin = self.headers.get("Origin")
        if origin is None or origin in self.server.origins:
            return False
        self._refuse(HTTPStatus.FORBIDDEN, "this page may not ask; start `longtake codec-server` with its --origin")
        return True

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        # The body may not have been read.
        self.close_connection = True
        self._answer(status, json.dumps({"message": sentence}).encode())

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        origin = self.headers.get("Origin")
        if origin in self.server.origins:
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Methods", "POST")
            self.send_header("Access-Control-Allow-Headers", _HEADERS)
        self.send_header("Vary", "Origin")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print no line for each request."""

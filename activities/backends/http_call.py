"""One HTTP request on a connection of its own, which is closed the moment that nobody waits for the answer."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx

from activities.backends.calls import Answer

# At DEBUG it writes down each header of HTTP/2, and one of them is the token.
logging.getLogger("hpack").setLevel(logging.INFO)

# A service that is there takes a connection in milliseconds, one in another part of the world in half a second.
_CONNECT_SECONDS = 15.0

# A render says nothing for an hour, and routers forget silent connections after five to ten minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def trusting_the_system() -> ssl.SSLContext:
    """Return what checks the certificates of services, and offers them HTTP/2; blocking for some milliseconds."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def connect(url: httpx.URL, trust: ssl.SSLContext) -> "HttpConnection":
    """Return a connection to where this URL leads; sends no request.

    Clients that share connections close none when one of the requests on it is cancelled, and lose track of one whose
    TLS handshake is.

    Raises:
        OSError: There is no connection to be had, or no trust in the certificate.
    """
    port = url.port or (443 if url.scheme == "https" else 80)
    async with asyncio.timeout(_CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(url.host, port, ssl=trust if url.scheme == "https" else None)
    return HttpConnection(url, _Stream(reader, writer))


class HttpConnection:
    """A connection for one request; as a context manager it closes itself.

    Args:
        url: Where it leads.
        stream: The bytes.
    """

    def __init__(self, url: httpx.URL, stream: "_Stream") -> None:
        # As it stands: nothing is added to its path, and nothing taken away.
        self._url = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        self._host = url.netloc
        self._stream = stream
        kind = httpcore.AsyncHTTP2Connection if stream.speaks_http2 else httpcore.AsyncHTTP11Connection
        self._connection = kind(self._url.origin, stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At once and without a farewell: this is how a service hears of an abort.
        self._stream.abort()

    async def post(self, content: bytes, headers: Mapping[str, str], *, most_bytes: int) -> Answer:
        """Send the request, once, and return the answer; redirects are answers, too.

        Args:
            content: The body.
            headers: All but those that HTTP itself needs.
            most_bytes: How much of the answer's body to read; of a larger one a little more than this is returned.

        Raises:
            httpcore.NetworkError: The connection broke.
            httpcore.ProtocolError: What answers does not speak HTTP, or broke off in the middle of its answer.
        """
        self._stream.keep_alive()
        named = [(b"Host", self._host), (b"Content-Length", str(len(content)).encode())]
        named += [(name.encode(), value.encode()) for name, value in headers.items()]
        response = await self._connection.handle_async_request(
            httpcore.Request("POST", self._url, headers=named, content=content)
        )
        body = bytearray()
        async for piece in response.aiter_stream():
            body += piece
            if len(body) > most_bytes:
                break
        names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status, bytes(body), names)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection of asyncio as httpcore reads and writes it; whoever made it closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def speaks_http2(self) -> bool:
        tls = self._writer.get_extra_info("ssl_object")
        return tls is not None and tls.selected_alpn_protocol() == "h2"

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return await self._reader.read(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(error.strerror or str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            self._writer.write(buffer)
            await self._writer.drain()
        except OSError as error:
            raise httpcore.WriteError(error.strerror or str(error)) from error

    async def aclose(self) -> None:
        self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()

    def keep_alive(self) -> None:
        """Have the system look now and then whether the other side is still there."""
        connected = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            # Not all of them are known everywhere.
            if (option := getattr(socket, name, None)) is not None:
                connected.setsockopt(socket.IPPROTO_TCP, option, value)

    def get_extra_info(self, info: str) -> Any:
        return self._writer.get_extra_info(info)

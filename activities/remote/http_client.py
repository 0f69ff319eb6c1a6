"""Send one HTTP request on a connection of its own, which a cancel closes at once: directly or through a proxy."""

import asyncio
import base64
import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpcore
import httpx

from activities.errors import AttemptError
from activities.remote.service import CallLostError, ServiceAnswer
from longtake.text import shorten_line

# A service that runs accepts a connection in milliseconds, one on another continent in half a second.
_CONNECT_SECONDS = 15.0

# Proxies answer with a status line and a few headers.
_LONGEST_PROXY_ANSWER = 16_384

# A call may be silent for an hour, and routers drop silent connections after five to ten minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

# At DEBUG it logs each header of HTTP/2, the identity token included.
logging.getLogger("hpack").setLevel(logging.INFO)


@dataclass(frozen=True)
class Route:
    """The way to a service: TLS context and proxy.

    Args:
        where: Name of the service for people.
        ssl_context: Checks the service's certificate; None where the service is called by plain HTTP.
        certificate_fix: What to do about a certificate that is not to be trusted.
        proxy: URL of the HTTP proxy that leads to the service; None without one.
        address: Address that is connected to, where the name of the URL was resolved already.
    """

    where: str
    ssl_context: ssl.SSLContext | None
    certificate_fix: str = "check the URL"
    proxy: httpx.URL | None = None
    address: str | None = None


def make_ssl_context() -> ssl.SSLContext:
    """Make the TLS context that checks certificates of services and offers HTTP/2; blocks for some milliseconds."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def post_once(
    route: Route,
    url: httpx.URL,
    content: bytes,
    headers: Mapping[str, str],
    *,
    most_seconds: float,
    most_bytes: int,
    on_send: Callable[[], None],
) -> ServiceAnswer:
    """Send one POST request on a connection of its own, and return the answer; a cancel closes the connection at once.

    Clients with a pool close no connection of HTTP/2 when a request on it is cancelled, and lose track of a connection
    whose TLS handshake is cancelled.

    Args:
        route: The way to the service.
        url: URL to POST to.
        content: The body.
        headers: All headers but `Host` and `Content-Length`.
        most_seconds: How long the answer may take.
        most_bytes: How much of the answer's body to read; of a larger one a little more than this is returned.
        on_send: Called right before the first byte of the request leaves.

    Raises:
        AttemptError: The certificate of the service is not to be trusted.
        CallLostError: No connection could be made, or the connection broke.
    """
    with await _connect(route, url) as connection:
        on_send()
        try:
            async with asyncio.timeout(most_seconds):
                return await connection.post(content, headers, most_bytes=most_bytes)
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            how = shorten_line(str(error), 200) or type(error).__name__
            if isinstance(error, TimeoutError):
                raise CallLostError(f"{route.where} gave no answer within {most_seconds:g} s", begun=True) from error
            raise CallLostError(f"the connection to {route.where} broke: {how}", begun=True) from error


async def _connect(route: Route, url: httpx.URL) -> "HttpConnection":
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return HttpConnection(url, await _open_stream(route, url))
    except ssl.SSLCertVerificationError as error:
        said = f"its certificate is not to be trusted: {error.verify_message}; {route.certificate_fix}"
        raise AttemptError(f"{route.where}: {said}", fatal=True) from error
    except OSError as error:
        # The message of asyncio names an address and no cause.
        known = error.errno if isinstance(error, ConnectionError) else None
        reason = os.strerror(known) if known else shorten_line(error.strerror or str(error), 200)
        through = f" through the proxy {route.proxy.host}" if route.proxy else ""
        said = f"{route.where} cannot be reached at {url.scheme}://{url.netloc.decode()}{through}"
        raise CallLostError(f"{said}: {reason or 'no answer'}", begun=False) from error


async def _open_stream(route: Route, url: httpx.URL) -> "_Stream":
    port = url.port or (443 if url.scheme == "https" else 80)
    ssl_context = route.ssl_context if url.scheme == "https" else None
    assert ssl_context is not None or url.scheme == "http", f"no TLS context for {url.scheme}"
    if route.proxy is None:
        name = url.host if ssl_context is not None else None
        place = route.address or url.host
        return _Stream(*await asyncio.open_connection(place, port, ssl=ssl_context, server_hostname=name))
    reader, writer = await open_tunnel(route.proxy, url.host, port)
    if ssl_context is not None:
        try:
            await writer.start_tls(ssl_context, server_hostname=url.host)
        except BaseException:
            writer.transport.abort()
            raise
    return _Stream(reader, writer)


async def open_tunnel(proxy: httpx.URL, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to a host through an HTTP proxy, by CONNECT.

    Raises:
        OSError: The proxy does not answer, or refuses; the message holds its status line.
    """
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port or 80, limit=_LONGEST_PROXY_ANSWER)
    try:
        writer.write(_make_connect_request(proxy, f"{host}:{port}"))
        try:
            answer = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise OSError("the proxy does not answer as proxies do") from error
        status = answer.partition(b"\r\n")[0].decode("latin-1")
        if status.split(" ")[1:2] != ["200"]:
            raise OSError(f"the proxy answers {shorten_line(status, 200)!r}")
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _make_connect_request(proxy: httpx.URL, target: str) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.userinfo:
        named = f"{proxy.username}:{proxy.password}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(named).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class HttpConnection:
    """A connection for one HTTP request, closed at the end of its `with` block.

    Args:
        url: URL of the request.
        stream: The connection's bytes.
    """

    def __init__(self, url: httpx.URL, stream: "_Stream") -> None:
        # To the letter: the path is sent as the URL has it.
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
        # At once, without closing messages of TLS or HTTP/2: a service takes that for an abort.
        self._stream.abort()

    async def post(self, content: bytes, headers: Mapping[str, str], *, most_bytes: int) -> ServiceAnswer:
        """Send the request once and return the answer; a redirect is an answer, too.

        Args:
            content: The body.
            headers: All headers but `Host` and `Content-Length`.
            most_bytes: How much of the answer's body to read; of a larger one a little more than this is returned.

        Raises:
            httpcore.NetworkError: The connection broke.
            httpcore.ProtocolError: The answer is no HTTP, or is cut in its middle.
        """
        self._stream.enable_keepalive()
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
        return ServiceAnswer(response.status, bytes(body), names)


class _Stream(httpcore.AsyncNetworkStream):
    """Offers a connection of asyncio to httpcore; the maker of the stream closes the connection."""

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

    def enable_keepalive(self) -> None:
        """Turn TCP keepalive on: the system probes the other side while the connection is silent."""
        connected = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            # Options differ between systems.
            if (option := getattr(socket, name, None)) is not None:
                connected.setsockopt(socket.IPPROTO_TCP, option, value)

    def get_extra_info(self, info: str) -> Any:
        return self._writer.get_extra_info(info)

"""Send one HTTP request on a connection of its own, which a cancel closes at once; directly or through a proxy."""

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

# A status line and a few headers; more comes from no proxy.
_LONGEST_ANSWER = 16_384


async def open_tunnel(proxy: httpx.URL, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection on which the proxy passes all bytes on to that host.

    Raises:
        OSError: The proxy is not there, or does not let it through; its own words are in the message.
    """
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port or 80, limit=_LONGEST_ANSWER)
    try:
        writer.write(_request(proxy, f"{host}:{port}"))
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


def _request(proxy: httpx.URL, target: str) -> bytes:
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.userinfo:
        named = f"{proxy.username}:{proxy.password}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(named).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


# At DEBUG it writes down each header of HTTP/2, and one of them is the token.
logging.getLogger("hpack").setLevel(logging.INFO)

# A service that is there takes a connection in milliseconds, one in another part of the world in half a second.
_CONNECT_SECONDS = 15.0

# A render says nothing for an hour, and routers forget silent connections after five to ten minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def make_ssl_context() -> ssl.SSLContext:
    """Return what checks the certificates of services, and offers them HTTP/2; blocking for some milliseconds."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@dataclass(frozen=True)
class Route:
    """How to reach a service.

    Args:
        where: What people call it.
        trust: What checks its certificate.
        trust_fix: What to do about one that is not to be trusted.
        proxy: URL of the HTTP proxy that leads to it; None where nothing is between.
    """

    where: str
    trust: ssl.SSLContext
    trust_fix: str = "check the URL"
    proxy: httpx.URL | None = None


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
    """Send one request on a connection of its own, and return the answer; a cancel closes the connection at once.

    Clients that share connections close none when one of the requests on it is cancelled, and lose track of one whose
    TLS handshake is.

    Args:
        route: How to reach the service.
        url: Where to POST.
        content: The body.
        headers: All but those that HTTP itself needs.
        most_seconds: How long the answer may take.
        most_bytes: How much of its body to read; of a larger one a little more than this is returned.
        on_send: Called right before the first byte of the request leaves.

    Raises:
        AttemptError: The certificate of the service is not to be trusted.
        CallLostError: There is no connection to be had, or it broke.
    """
    with await _connected(route, url) as connection:
        on_send()
        try:
            async with asyncio.timeout(most_seconds):
                return await connection.post(content, headers, most_bytes=most_bytes)
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            how = shorten_line(str(error), 200) or type(error).__name__
            if isinstance(error, TimeoutError):
                raise CallLostError(f"{route.where} gave no answer within {most_seconds:g} s", begun=True) from error
            raise CallLostError(f"the connection to {route.where} broke: {how}", begun=True) from error


async def _connected(route: Route, url: httpx.URL) -> "HttpConnection":
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return HttpConnection(url, await _open(route, url))
    except ssl.SSLCertVerificationError as error:
        said = f"its certificate is not to be trusted: {error.verify_message}; {route.trust_fix}"
        raise AttemptError(f"{route.where}: {said}", fatal=True) from error
    except OSError as error:
        # asyncio's own words name an address and no cause.
        known = error.errno if isinstance(error, ConnectionError) else None
        reason = os.strerror(known) if known else shorten_line(error.strerror or str(error), 200)
        through = f" through the proxy {route.proxy.host}" if route.proxy else ""
        said = f"{route.where} cannot be reached at {url.scheme}://{url.netloc.decode()}{through}"
        raise CallLostError(f"{said}: {reason or 'no answer'}", begun=False) from error


async def _open(route: Route, url: httpx.URL) -> "_Stream":
    port = url.port or (443 if url.scheme == "https" else 80)
    trust = route.trust if url.scheme == "https" else None
    if route.proxy is None:
        return _Stream(*await asyncio.open_connection(url.host, port, ssl=trust))
    reader, writer = await open_tunnel(route.proxy, url.host, port)
    if trust is not None:
        try:
            await writer.start_tls(trust, server_hostname=url.host)
        except BaseException:
            writer.transport.abort()
            raise
    return _Stream(reader, writer)


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

    async def post(self, content: bytes, headers: Mapping[str, str], *, most_bytes: int) -> ServiceAnswer:
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
        return ServiceAnswer(response.status, bytes(body), names)


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

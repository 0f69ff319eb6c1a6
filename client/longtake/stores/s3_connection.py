"""Send requests by HTTP/1.1 over connections that are kept, with less work for each than a general client does.

For a small file urllib3 takes 0.5 ms of CPU time and `http.client` 0.3 ms, most of it for headers and one thread at a
time; this takes 0.15 ms (docs/adr/0034-single-objects-without-boto3.md).
"""

import select
import socket
import ssl
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
    SSLError,
)

# A small content is sent with its head; a larger one piece by piece.
_SMALL_BYTES = 1 << 18
# The answer to a request for a small file is one read.
_BUFFER_BYTES = 1 << 16
# Limits of what a server may say before the content.
_LINE_BYTES = 1 << 16
_MOST_HEADERS = 200


@dataclass(frozen=True)
class Endpoint:
    """Address of a service, and how to talk to it.

    Args:
        host: Name or address of the host.
        port: Its port.
        tls: Settings of TLS; None without TLS.
        connect_seconds: Longest time until a connection stands.
        read_seconds: Longest silence of the service.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None
    connect_seconds: float
    read_seconds: float

    @property
    def url(self) -> str:
        """URL of the service."""
        return f"{'http' if self.tls is None else 'https'}://{self.host}:{self.port}"


class Connections:
    """The connections to one service: each carries one request at a time, and then the next; safe to use from threads.

    Args:
        endpoint: The service.
        most_kept: Number of connections that are kept while they are not used.
    """

    def __init__(self, endpoint: Endpoint, most_kept: int) -> None:
        self._endpoint = endpoint
        self._most_kept = most_kept
        self._kept: deque[_Connection] = deque()
        weakref.finalize(self, _close_all, self._kept)

    def send(self, method: str, target: str, headers: Mapping[str, str], content: bytes | IO[bytes] = b"") -> "Answer":
        """Send a request and return the beginning of the answer, which must be closed.

        Args:
            method: Method of HTTP.
            target: Path and query, encoded.
            headers: All headers; `content-length` among them where there is a content.
            content: Content of the request.

        Raises:
            BotoCoreError: The service did not answer; it may have carried out the request all the same.
        """
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        connection = self._take()
        with connection.errors():
            connection.send("\r\n".join(lines).encode(), content)
            return connection.read_head(method)

    def _take(self) -> "_Connection":
        while self._kept:
            try:
                # The one that was used last: the service has not closed it yet.
                connection = self._kept.pop()
            except IndexError:
                break
            if connection.is_idle():
                connection.owner = self
                return connection
            connection.close()
        return _Connection(self._endpoint, self)

    def keep(self, connection: "_Connection") -> None:
        """Keep a connection for the next request."""
        if len(self._kept) < self._most_kept:
            self._kept.append(connection)
        else:
            connection.close()


def _close_all(kept: "deque[_Connection]") -> None:
    for connection in kept:
        connection.close()


class _Connection:
    """One connection, with one request on its way at most."""

    def __init__(self, endpoint: Endpoint, owner: Connections) -> None:
        self.url = endpoint.url
        # Who keeps it after its request; nobody while it is kept, so that connections end with their owner.
        self.owner: Connections | None = owner
        self._socket = _connect(endpoint)
        self.file = self._socket.makefile("rb", buffering=_BUFFER_BYTES)
        self._is_sent = True

    def is_idle(self) -> bool:
        """Tell whether the service has neither closed the connection nor said anything that nobody has asked for."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return not waiting.poll(0)

    def send(self, head: bytes, content: bytes | IO[bytes]) -> None:
        """Send a request."""
        self._is_sent = False
        try:
            if isinstance(content, bytes) and len(content) <= _SMALL_BYTES:
                self._socket.sendall(head + content)
            else:
                self._socket.sendall(head)
                for piece in [content] if isinstance(content, bytes) else iter(lambda: content.read(_SMALL_BYTES), b""):
                    self._socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # A service that refuses a request may close before it has read all, and its answer says why.
            return
        self._is_sent = True

    def read_head(self, method: str) -> "Answer":
        """Read the status and the headers of an answer; those that only say that it takes longer are left out."""
        while True:
            version, _, rest = self._line().partition(" ")
            status = rest[:3]
            if not version.startswith("HTTP/1.") or not status.isdecimal():
                raise ConnectionError("no answer of HTTP/1.1")
            headers = {}
            while line := self._line():
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
                if len(headers) > _MOST_HEADERS:
                    raise ConnectionError("too many headers")
            if not status.startswith("1"):
                return Answer(self, int(status), headers, has_content=method != "HEAD" and status not in ("204", "304"))

    def _line(self) -> str:
        line = self.file.readline(_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise ConnectionError("closed in the middle of an answer")
        return line.decode("latin-1").rstrip("\r\n")

    def release(self, *, is_whole: bool) -> None:
        """Keep the connection for the next request, if this one was sent and its answer was read to the end."""
        owner, self.owner = self.owner, None
        if is_whole and self._is_sent and owner is not None:
            owner.keep(self)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self.file.close()
        self._socket.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Close the connection after an error of the block, and raise the error as botocore does."""
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise ReadTimeoutError(endpoint_url=self.url, error=error) from error
            if isinstance(error, ssl.SSLError):
                raise SSLError(endpoint_url=self.url, error=error) from error
            if isinstance(error, OSError):
                raise ConnectionClosedError(endpoint_url=self.url, error=error) from error
            raise


class Answer:
    """An answer, the content of which is read piece by piece.

    Attributes:
        status: Status of HTTP.
        headers: Headers by their names in small letters.
    """

    def __init__(self, connection: _Connection, status: int, headers: dict[str, str], *, has_content: bool) -> None:
        self.status = status
        self.headers = headers
        self._connection: _Connection | None = connection
        self._is_chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "")
        # Bytes until the end of the content, or of the current chunk of it; None up to the end of the connection.
        self._left: int | None = int(length) if length.isdecimal() else None
        if self._is_chunked:
            self._left = 0
        self._is_last = not self._is_chunked
        self._read = 0
        if not has_content:
            self._left, self._is_last = 0, True
        self._release_at_end()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of the content, or all of them without a size; no bytes at the end.

        Raises:
            BotoCoreError: The content breaks off.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_BUFFER_BYTES), b""))
        connection = self._connection
        if connection is None or size == 0:
            return b""
        with connection.errors():
            piece = self._read_piece(connection, size)
        self._read += len(piece)
        self._release_at_end()
        return piece

    def close(self) -> None:
        """End the answer; its connection is closed unless all was read."""
        if self._connection is not None:
            self._connection.release(is_whole=False)
            self._connection = None

    def _read_piece(self, connection: _Connection, size: int) -> bytes:
        if self._left == 0:
            self._begin_chunk(connection)
            if self._left == 0:
                return b""
        piece: bytes = connection.file.read(size if self._left is None else min(size, self._left))
        if self._left is not None:
            if not piece:
                raise IncompleteReadError(actual_bytes=self._read, expected_bytes=self._read + self._left)
            self._left -= len(piece)
        elif not piece:
            self.close()
        return piece

    def _begin_chunk(self, connection: _Connection) -> None:
        """Read the head of the next chunk; after the last one the trailers."""
        line = connection.file.readline(_LINE_BYTES)
        if line == b"\r\n":
            # The end of the chunk before.
            line = connection.file.readline(_LINE_BYTES)
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise ConnectionError("a chunk without a size") from None
        if self._left == 0:
            self._is_last = True
            while connection.file.readline(_LINE_BYTES) not in (b"\r\n", b""):
                pass

    def _release_at_end(self) -> None:
        if self._connection is not None and self._is_last and self._left == 0:
            self._connection.release(is_whole=self.headers.get("connection", "").lower() != "close")
            self._connection = None


def _connect(endpoint: Endpoint) -> socket.socket:
    try:
        found = socket.create_connection((endpoint.host, endpoint.port), timeout=endpoint.connect_seconds)
    except TimeoutError as error:
        raise ConnectTimeoutError(endpoint_url=endpoint.url, error=error) from error
    except OSError as error:
        raise EndpointConnectionError(endpoint_url=endpoint.url, error=error) from error
    try:
        # A request is sent at once, and a host that is gone is noticed.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if endpoint.tls is not None:
            found = endpoint.tls.wrap_socket(found, server_hostname=endpoint.host)
        found.settimeout(endpoint.read_seconds)
        return found
    except TimeoutError as error:
        found.close()
        raise ConnectTimeoutError(endpoint_url=endpoint.url, error=error) from error
    except ssl.SSLError as error:
        found.close()
        raise SSLError(endpoint_url=endpoint.url, error=error) from error
    except OSError as error:
        found.close()
        raise EndpointConnectionError(endpoint_url=endpoint.url, error=error) from error

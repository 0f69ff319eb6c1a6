"""A faulty way to a store: passes calls on to a real S3 server, and spoils those that a test names."""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO
from urllib.parse import urlsplit

_PIECE_BYTES = 1 << 16


class Spoil(StrEnum):
    """What becomes of a call."""

    # The connection is reset in the middle of what is sent; the server sees it break off.
    RESET_IN_BODY = "reset in body"
    # The server has carried it out, and its answer is lost.
    RESET_AFTER = "reset after"
    # The answer breaks off in the middle of its body.
    RESET_IN_ANSWER = "reset in answer"
    # One bit is another one at the other end.
    FLIP_UP = "flip up"
    FLIP_DOWN = "flip down"
    # The server never hears of it, and an error is answered.
    ERROR = "error"
    # The server carries it out, and an error is answered all the same.
    ERROR_AFTER = "error after"


@dataclass
class Fault:
    """A rule: which calls are spoiled, and how.

    Args:
        spoil: How.
        call: Regular expression of the calls, as `PUT /bucket/key?query`.
        times: How many of them; later ones pass.
        status: HTTP status, for errors.
        code: S3's name of the error.
        key: Only calls that are signed with this access key.
    """

    spoil: Spoil
    call: str
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    key: str = ""
    met: int = 0

    def error(self) -> bytes:
        body = f"<?xml version='1.0'?><Error><Code>{self.code}</Code><Message>Told to.</Message></Error>".encode()
        head = f"HTTP/1.1 {self.status} Told\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


@dataclass
class Request:
    """A call as it came."""

    head: bytes
    line: str
    length: int

    @property
    def name(self) -> str:
        method, path, _ = self.line.split(" ", 2)
        return f"{method} {path}"


@dataclass
class FaultyStore:
    """The way itself; its `url` is the endpoint to use."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    # All calls in the order in which they came, as `PUT /bucket/key?query`.
    calls: list[str] = field(default_factory=list)
    # Called with the name of each call before it is passed on.
    before: Callable[[str], None] = lambda name: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, spoil: Spoil, call: str, times: int = 1, **more: int | str) -> Fault:
        """Spoil calls from now on; return the rule, which counts them."""
        fault = Fault(spoil, call, times, **more)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def take(self, request: Request) -> Fault | None:
        with self._lock:
            self.calls.append(request.name)
            for fault in self.faults:
                wanted = re.search(fault.call, request.name) and fault.key.encode() in request.head
                if wanted and fault.met < fault.times:
                    fault.met += 1
                    return fault
        return None


class _Broken(Exception):
    """The connection to the client is to be reset."""


@contextmanager
def faulty(upstream: str) -> Iterator[FaultyStore]:
    """Run the way to an endpoint until the block ends."""
    address = urlsplit(upstream)
    with closing(socket.create_server(("127.0.0.1", 0), backlog=128)) as listening:
        store = FaultyStore(f"http://127.0.0.1:{listening.getsockname()[1]}")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=_serve, args=(store, client, address.netloc), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield store
        # A close alone does not wake it.
        listening.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _serve(store: FaultyStore, client: socket.socket, upstream: str) -> None:
    host, _, port = upstream.partition(":")
    with client, suppress(OSError, http.client.HTTPException):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = client.makefile("rb")
        while request := _request(reader):
            try:
                with closing(socket.create_connection((host, int(port)))) as server:
                    _pass(store, request, reader, client, server)
            except _Broken:
                # Zero seconds of linger make it a reset.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                reader.close()
                return


def _request(reader: BinaryIO) -> Request | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        head += line
    found = re.search(rb"(?im)^content-length: *(\d+)", head)
    return Request(head, head.split(b"\r\n", 1)[0].decode(), int(found[1]) if found else 0)


def _pass(store: FaultyStore, request: Request, reader: BinaryIO, client: socket.socket, server: socket.socket) -> None:
    fault = store.take(request)
    spoil = fault.spoil if fault else None
    store.before(request.name)
    if fault and spoil is Spoil.ERROR:
        reader.read(request.length)
        client.sendall(fault.error())
        return
    server.sendall(request.head)
    left = request.length
    while left:
        piece = bytearray(reader.read(min(left, _PIECE_BYTES)))
        if spoil is Spoil.RESET_IN_BODY and left - len(piece) <= request.length // 2:
            server.sendall(piece[: len(piece) // 2])
            raise _Broken
        if spoil is Spoil.FLIP_UP and left == request.length:
            piece[0] ^= 1
        server.sendall(piece)
        left -= len(piece)
    answer = http.client.HTTPResponse(server, method=request.line.split()[0])
    answer.begin()
    body = bytearray(answer.read())
    if spoil is Spoil.RESET_AFTER:
        raise _Broken
    if fault and spoil is Spoil.ERROR_AFTER:
        client.sendall(fault.error())
        return
    if spoil is Spoil.FLIP_DOWN:
        body[-1] ^= 1
    client.sendall(_head(answer, request, len(body)))
    if spoil is Spoil.RESET_IN_ANSWER:
        client.sendall(body[: len(body) // 2])
        raise _Broken
    client.sendall(body)


def _head(answer: http.client.HTTPResponse, request: Request, length: int) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    for name, value in answer.getheaders():
        if name.lower() not in ("transfer-encoding", "connection", "content-length"):
            lines.append(f"{name}: {value}")
    told = answer.getheader("Content-Length", "0") if request.line.startswith("HEAD") else str(length)
    if answer.status not in (204, 304):
        lines.append(f"Content-Length: {told}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")

"""Requests over kept connections: whole answers, those that break off, and connections that are gone."""

import gc
import io
import socket

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
)
from support.s3.scripted_service import HANG_UP, ScriptedService, serve_script

from longtake.stores.s3_connection import Connections, Endpoint
from ports import find_free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: x\r\n\r\nhello"


def connect(service: ScriptedService, read_seconds: float = 10.0) -> Connections:
    return Connections(Endpoint("127.0.0.1", service.port, None, 10.0, read_seconds), 4)


def test_requests_share_a_connection() -> None:
    with serve_script([OK, OK]) as service:
        connections = connect(service)
        for _ in range(2):
            answer = connections.send("GET", "/a%20b", {"host": "bucket"})
            assert (answer.status, answer.headers["etag"], answer.read()) == (200, "x", b"hello")
    assert [number for number, _, _ in service.asked] == [0, 0]
    assert service.asked[0][1] == "GET /a%20b HTTP/1.1\r\nhost: bucket\r\n\r\n"


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_contents_of_all_sizes_arrive(size: int) -> None:
    content = b"abcde" * (size // 5)
    with serve_script([OK, OK]) as service:
        connections = connect(service)
        headers = {"host": "x", "content-length": str(size)}
        for body in (content, io.BytesIO(content)):
            connections.send("PUT", "/", headers, body).read()
    assert [sent for _, _, sent in service.asked] == [content, content]


def test_an_answer_that_is_not_read_to_its_end_ends_its_connection() -> None:
    with serve_script([OK], [OK]) as service:
        connections = connect(service)
        answer = connections.send("GET", "/", {})
        assert answer.read(2) == b"he"
        answer.close()
        assert connections.send("GET", "/", {}).read() == b"hello"
    assert [number for number, _, _ in service.asked] == [0, 1]


def test_a_connection_that_was_closed_meanwhile_is_not_used_again() -> None:
    with serve_script([OK], [OK]) as service:
        connections = connect(service)
        connections.send("GET", "/", {}).read()
        assert service.has_closed.wait(10)
        assert connections.send("GET", "/", {}).read() == b"hello"
    assert [number for number, _, _ in service.asked] == [0, 1]


@pytest.mark.parametrize("ending", ["", "Connection: close\r\n"])
def test_contents_come_in_all_ways(ending: str) -> None:
    chunked = (
        "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n"
        + ending
        + "\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: v\r\n\r\n"
    )
    waiting = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Gone\r\nContent-Length: 7\r\n\r\n"
    head = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    endless = "HTTP/1.1 500 No\r\n\r\nhello"
    with serve_script(*([[text.encode()] for text in (chunked, waiting, head, endless)])) as service:
        assert connect(service).send("GET", "/", {}).read() == b"hello"
        assert connect(service).send("DELETE", "/", {}).read() == b""
        answer = connect(service).send("HEAD", "/", {})
        assert (answer.headers["content-length"], answer.read()) == ("7", b"")
        assert connect(service).send("GET", "/", {}).read() == b"hello"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HANG_UP, ConnectionClosedError),
        (b"SSH-2.0\r\n", ConnectionClosedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", ConnectionClosedError),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10 + b"c" * 70_000, ConnectionClosedError),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"a%d: b\r\n" % number for number in range(300)), ConnectionClosedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", IncompleteReadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", IncompleteReadError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhel", ConnectionClosedError),
    ],
)
def test_an_answer_that_breaks_off_is_an_error(answer: bytes, error: type[Exception]) -> None:
    with serve_script([answer]) as service, pytest.raises(error):
        connect(service).send("GET", "/", {}).read()


def test_a_service_that_is_silent_or_away_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_service = ScriptedService(silent.getsockname()[1])
        with pytest.raises(ReadTimeoutError):
            connect(silent_service, read_seconds=0.05).send("GET", "/", {})
    with pytest.raises(EndpointConnectionError):
        connect(ScriptedService(find_free_port())).send("GET", "/", {})


def test_an_answer_before_the_content_was_read_is_heard() -> None:
    refusal = b"HTTP/1.1 403 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connections = connect(ScriptedService(listening.getsockname()[1]))

        class Content(io.BytesIO):
            """Its reader answers and hangs up after the first piece."""

            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() and not client_of:
                    client, _ = listening.accept()
                    client.sendall(refusal)
                    client.shutdown(socket.SHUT_WR)
                    client_of.append(client)
                return super().read(size)

        client_of: list[socket.socket] = []
        answer = connections.send("PUT", "/", {"content-length": "600000"}, Content(b"x" * 600_000))
        assert (answer.status, answer.read()) == (403, b"hello")
        client_of[0].close()


def test_connections_end_with_their_owner() -> None:
    with serve_script([OK]) as service:
        connections = connect(service)
        connections.send("GET", "/", {}).read()
        del connections
        # An open socket would be warned of here, and warnings are errors.
        gc.collect()

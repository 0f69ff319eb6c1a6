"""Until a call says that it sends, nothing of it has left the worker: a cancel needs no word of an agent then."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
from support.remote.lambda_service import aws_environment

from activities.remote.aws_lambda import LambdaFunction
from activities.remote.cloud_run import CloudRunService
from activities.remote.service import CallLostError, Service

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0


class Listener:
    """Takes a connection, and says nothing; keeps what it reads."""

    def __init__(self) -> None:
        self.read = b""
        self.connected = asyncio.Event()
        self.got_bytes = asyncio.Event()
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.set()
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.read += data
                self.got_bytes.set()
        writer.transport.abort()
        self.closed.set()


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[Listener, int]]:
    listening = Listener()
    server = await asyncio.start_server(listening.serve, "127.0.0.1", 0)
    async with server:
        yield listening, server.sockets[0].getsockname()[1]
        if listening.connected.is_set():
            await listening.closed.wait()


@contextmanager
def calling(kind: str, url: str) -> Iterator[Service]:
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    with aws_environment(AWS_ENDPOINT_URL_LAMBDA=url, **keys):
        yield LambdaFunction("render", concurrency=1) if kind == "lambda" else CloudRunService(url, concurrency=1)


@pytest.mark.parametrize("kind", ["lambda", "cloud run"])
async def test_a_cancel_in_the_middle_of_a_handshake_comes_before_anything_was_sent(kind: str) -> None:
    async with listener() as (listening, port), asyncio.timeout(PATIENCE_SECONDS):
        with calling(kind, f"https://127.0.0.1:{port}") as service:
            sent = asyncio.Event()
            call = asyncio.ensure_future(service.call({"chunk": 1}, on_send=sent.set))
            # The hello of TLS, to which nobody answers.
            await listening.got_bytes.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not sent.is_set()

    assert b"chunk" not in listening.read


@pytest.mark.parametrize("kind", ["lambda", "cloud run"])
async def test_a_call_says_that_it_sends_before_its_first_byte(kind: str) -> None:
    async with listener() as (listening, port), asyncio.timeout(PATIENCE_SECONDS):
        with calling(kind, f"http://127.0.0.1:{port}") as service:
            sent_before: list[bytes] = []
            call = asyncio.ensure_future(service.call({"chunk": 1}, on_send=lambda: sent_before.append(listening.read)))
            await listening.got_bytes.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    assert sent_before == [b""]


@pytest.mark.parametrize("kind", ["lambda", "cloud run"])
async def test_a_service_that_is_not_there_was_sent_nothing(kind: str) -> None:
    async with listener() as (_, port):
        pass
    with calling(kind, f"http://127.0.0.1:{port}") as service:
        sent = asyncio.Event()
        with pytest.raises(CallLostError) as lost:
            await service.call({"chunk": 1}, on_send=sent.set)

        assert not lost.value.begun
        assert not sent.is_set()

"""Calls of workers that reach the world through an HTTP proxy only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.remote.lambda_service import called_service
from support.servers.certificates import known_certificate

from activities.remote.aws_lambda import LambdaFunction
from activities.remote.service import CallLostError

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 30.0


@dataclass
class ConnectProxy:
    """A proxy that opens tunnels to the loopback interface, and keeps the requests for them."""

    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    port: int = 0
    requests: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            writer.write(self.answer)
            if b" 200 " in self.answer:
                host, _, port = request.split()[1].rpartition(":")
                there, beyond = await asyncio.open_connection(host, int(port))
                await asyncio.gather(passing(reader, beyond), passing(there, writer))
        finally:
            writer.transport.abort()


async def passing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.transport.abort()


@asynccontextmanager
async def connect_proxy(**fields: bytes) -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy(**fields)  # type: ignore[arg-type]
    served: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.ensure_future(proxy.serve(reader, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*served)


async def test_a_call_goes_through_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect_proxy() as proxy, called_service(tmp_path, certificate=known_certificate(tmp_path)) as service:
        monkeypatch.setenv("HTTPS_PROXY", f"http://someone:word@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        answer = await LambdaFunction("answer", concurrency=1).call({"answer": "through"})

        assert answer.body == b'"through"'
        assert len(service.arrivals) == 1
    (request,) = proxy.requests
    assert request.startswith("CONNECT 127.0.0.1:")
    assert "Proxy-Authorization: Basic c29tZW9uZTp3b3Jk\r\n" in request


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"nonsense\r\n\r\n", b""])
async def test_a_proxy_that_refuses_is_named_and_nothing_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async with (
        connect_proxy(answer=answer) as proxy,
        called_service(tmp_path, certificate=known_certificate(tmp_path)) as service,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://someone:word@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(CallLostError, match=r"through the proxy 127\.0\.0\.1: the proxy") as lost:
            await LambdaFunction("answer", concurrency=1).call({"answer": 1})

        assert not lost.value.begun
        assert "word" not in str(lost.value)
        assert service.arrivals == []

"""Connections for one call, by HTTP/1.1, HTTP/2 and proxies: a cancel closes its own at once, whenever it comes."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from support.farm import eventually
from support.measurements import Distribution
from support.remote.cloud_run_service import CloudRunFront, Deed, cloud_run_front, cloud_run_front_tls
from support.remote.google_tokens import metadata_server
from support.remote.lambda_service import aws_environment, called_service
from support.servers.certificates import Certificate, known_certificate, make_certificate

from activities.errors import AttemptError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.cloud_run import CloudRunService
from activities.remote.google_auth import IdTokens
from activities.remote.service import CallLostError, Service, ServiceAnswer

RACES = 25

PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest_asyncio.fixture(params=["HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2"])
async def front(
    request: pytest.FixtureRequest, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CloudRunFront]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    offered = {
        "HTTP/1.1": cloud_run_front(),
        "HTTP/1.1 over TLS": cloud_run_front_tls(certificate, offers=["http/1.1"]),
        "HTTP/2": cloud_run_front_tls(certificate),
    }[request.param]
    async with offered as service:
        yield service
        assert {call.version for call in service.calls} <= {request.param.removesuffix(" over TLS")}


def connections_to(front: CloudRunFront) -> int:
    """Sockets of this process that are connected to the service."""
    port = int(front.url.rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return sum(1 for one in found if one.raddr and one.raddr[1] == port and one.status == psutil.CONN_ESTABLISHED)


@pytest.mark.timed
async def test_an_abort_closes_the_connection_at_once(
    front: CloudRunFront, runs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    front.otherwise = Deed.HOLD
    service = CloudRunService(front.url, concurrency=1)
    took = []
    loop = asyncio.get_running_loop()
    for _ in range(runs):
        task = asyncio.create_task(service.call({"chunkIndex": 0}))
        call = await front.next_call()
        began = loop.time()
        task.cancel()
        took.append(await asyncio.wait_for(call.hung_up, 60) - began)
        with pytest.raises(asyncio.CancelledError):
            await task

    with capsys.disabled():
        how = f"{front.url.partition(':')[0]} {front.calls[0].version}"
        print(f"\n{how}, from the abort to the close that the service sees: {Distribution.of(took)}")
    assert max(took) < 1
    assert connections_to(front) == 0


async def test_the_http2_connection_is_not_shared(front: CloudRunFront) -> None:
    front.otherwise = Deed.HOLD
    service = CloudRunService(front.url, concurrency=3)
    tasks = [asyncio.create_task(service.call({"chunkIndex": index})) for index in range(3)]
    calls = [await front.next_call() for _ in tasks]
    assert connections_to(front) == 3

    tasks[calls[0].payload["chunkIndex"]].cancel()
    await asyncio.wait_for(calls[0].hung_up, 60)

    assert connections_to(front) == 2
    assert not any(call.hung_up.done() for call in calls[1:])
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_call_that_is_aborted_before_it_was_sent_never_arrives(front: CloudRunFront, tmp_path: Path) -> None:
    async with metadata_server(tmp_path) as google:
        google.may_answer.clear()
        service = CloudRunService(front.url, concurrency=1, tokens=IdTokens(google.environ))
        waits_for_token = asyncio.create_task(service.call({"chunkIndex": 0}))
        await asyncio.wait_for(google.asked.wait(), 60)
        waits_for_turn = asyncio.create_task(service.call({"chunkIndex": 1}))
        not_begun = asyncio.create_task(service.call({"chunkIndex": 2}))
        aborted = [waits_for_token, waits_for_turn, not_begun]
        for task in aborted:
            task.cancel()
        await asyncio.wait(aborted)
        google.may_answer.set()

        assert all(task.cancelled() for task in aborted)
        assert (await service.call({"chunkIndex": 3})).status == 200
    assert [call.payload["chunkIndex"] for call in front.calls] == [3]


async def turns_of_the_loop(task: "asyncio.Task[ServiceAnswer]", most: float = float("inf")) -> int:
    """Let the task go on for so many turns of the event loop, or to its end; return how many it took."""
    turns = 0
    while not task.done() and turns < most:
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_an_abort_at_any_moment_has_one_outcome_and_sends_nothing_twice(front: CloudRunFront) -> None:
    """The abort comes at each step of a call in turn: before it is sent, as the answer arrives, and after."""
    service = CloudRunService(front.url, concurrency=1)
    whole = await turns_of_the_loop(asyncio.create_task(service.call({"chunkIndex": -1})))
    outcomes = []
    for run in range(RACES):
        task = asyncio.create_task(service.call({"chunkIndex": run}))
        await turns_of_the_loop(task, most=whole * 1.3 * run / RACES)
        task.cancel()
        await asyncio.wait([task])
        # Either it was aborted, or there is a whole answer: never an error of a half-closed connection.
        outcomes.append("aborted" if task.cancelled() else task.result().body.decode())

    assert set(outcomes) <= {"aborted", "{}"}
    assert outcomes[0] == "aborted"
    sent = [call.payload["chunkIndex"] for call in front.calls]
    assert len(sent) == len(set(sent))
    assert {run for run, outcome in enumerate(outcomes) if outcome == "{}"} <= set(sent)
    await eventually(lambda: connections_to(front) == 0, "all connections are closed")
    assert (await service.call({"chunkIndex": RACES})).status == 200, "no turn was lost"


@pytest.mark.parametrize("calls", [30, pytest.param(900, marks=pytest.mark.chaos)])
async def test_many_calls_leave_nothing_behind(front: CloudRunFront, calls: int) -> None:
    service = CloudRunService(front.url, concurrency=8)

    async def some(count: int) -> int:
        await asyncio.gather(*(service.call({"chunkIndex": 0}) for _ in range(count)))
        gc.collect()
        await eventually(lambda: connections_to(front) == 0, "all connections are closed")
        return len(os.listdir("/proc/self/fd"))

    before = await some(8)
    assert await some(calls) <= before + 2


async def test_no_log_and_no_error_has_a_token(
    front: CloudRunFront, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the level of debugging, HTTP clients and their codecs write down all that they send."""
    caplog.set_level(logging.DEBUG)
    front.reply(403, b"no")
    async with metadata_server(tmp_path) as google:
        tokens = IdTokens(google.environ)
        with pytest.raises(AttemptError) as no:
            await CloudRunService(front.url, concurrency=1, tokens=tokens).call({})
        token = await tokens.get_token(front.url)

    assert token in front.calls[0].request.headers["authorization"]
    assert token not in caplog.text
    assert token not in str(no.value)


async def test_a_certificate_that_nobody_trusts_is_an_error_of_the_settings(
    certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(make_certificate(tmp_path).certificate))
    async with cloud_run_front_tls(certificate) as front:
        with pytest.raises(AttemptError, match=r"its certificate is not to be trusted: .*; check the URL") as no:
            await CloudRunService(front.url, concurrency=1).call({})

    assert no.value.fatal
    assert not front.calls


async def test_a_service_without_tls_has_begun_nothing(certificate: Certificate) -> None:
    async with cloud_run_front() as plain:
        with pytest.raises(CallLostError) as lost:
            await CloudRunService(plain.url.replace("http:", "https:"), concurrency=1).call({})

    assert not lost.value.begun


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

"""Connections to a Cloud Run service, by HTTP/1.1 and HTTP/2: an abort closes its own at once, whenever it comes."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from support.farm import eventually
from support.measurements import Distribution
from support.remote.cloud_run_service import CloudRunFront, Deed, cloud_run_front, cloud_run_front_tls
from support.remote.google_tokens import metadata_server
from support.servers.certificates import Certificate, make_certificate

from activities.errors import AttemptError
from activities.remote.cloud_run import CloudRunService
from activities.remote.google_auth import IdTokens
from activities.remote.service import CallLostError, ServiceAnswer

RACES = 50


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


@pytest.mark.parametrize("calls", [100, pytest.param(900, marks=pytest.mark.chaos)])
async def test_many_calls_leave_nothing_behind(front: CloudRunFront, calls: int) -> None:
    service = CloudRunService(front.url, concurrency=8)

    async def some(count: int) -> int:
        await asyncio.gather(*(service.call({"chunkIndex": 0}) for _ in range(count)))
        gc.collect()
        await eventually(lambda: connections_to(front) == 0, "all connections are closed")
        return len(os.listdir("/proc/self/fd"))

    before = await some(20)
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

"""Calls of a Cloud Run service over a real wire: what is sent, how often, and what becomes of a broken one."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.remote.cloud_run_service import CloudRunFront, Deed, cloud_run_front
from support.remote.google_tokens import MetadataServer, metadata_server
from support.servers.tcp_proxy import Proxy

from activities.errors import AttemptError
from activities.remote.cloud_run import CloudRunService
from activities.remote.google_auth import IdTokens
from activities.remote.service import CallLostError
from ports import find_free_port

PAYLOAD = {"jobPath": "http://files/job.json", "chunkIndex": 7}


@pytest_asyncio.fixture
async def front() -> AsyncIterator[CloudRunFront]:
    async with cloud_run_front() as service:
        yield service


@pytest_asyncio.fixture
async def google(tmp_path: Path) -> AsyncIterator[MetadataServer]:
    async with metadata_server(tmp_path) as server:
        yield server


@pytest.fixture
def service(front: CloudRunFront) -> CloudRunService:
    return CloudRunService(front.url, concurrency=4)


async def test_the_request_is_what_helios_workers_expect(front: CloudRunFront, google: MetadataServer) -> None:
    url = f"{front.url}/render/?zone=a"
    front.reply(200, {"exitCode": 0, "stdout": "", "stderr": ""})

    answer = await CloudRunService(url, concurrency=1, tokens=IdTokens(google.environ)).call(PAYLOAD)

    (call,) = front.calls
    assert (call.request.method, call.request.target) == ("POST", "/render/?zone=a")
    assert call.request.body == b'{"jobPath":"http://files/job.json","chunkIndex":7}'
    assert call.request.headers["content-type"] == "application/json"
    assert call.request.headers["accept"] == "*/*"
    assert call.request.headers["authorization"].startswith("Bearer ey")
    assert google.audiences == [url]
    assert (answer.status, json.loads(answer.body)["exitCode"]) == (200, 0)
    assert answer.headers["content-type"] == "application/json"


async def test_a_service_for_anybody_gets_no_token(front: CloudRunFront, service: CloudRunService) -> None:
    await service.call(PAYLOAD)

    assert "authorization" not in front.calls[0].request.headers
    assert service.where == f"cloud run {front.url.removeprefix('http://')}"


async def test_a_refused_token_is_renewed_and_the_request_sent_again_once(
    front: CloudRunFront, google: MetadataServer
) -> None:
    service = CloudRunService(front.url, concurrency=1, tokens=IdTokens(google.environ))
    front.reply(401, b"<html>401 Unauthorized</html>", {"www-authenticate": 'Bearer error="invalid_token"'})

    assert (await service.call(PAYLOAD)).status == 200

    first, second = (call.request.headers["authorization"] for call in front.calls)
    assert first != second
    for _ in range(2):
        front.reply(401, b"<html>401 Unauthorized</html>")
    with pytest.raises(
        AttemptError, match="HTTP 401 Unauthorized; it refuses the identity token; the URL must be"
    ) as no:
        await service.call(PAYLOAD)
    assert no.value.fatal
    assert len(front.calls) == 4


async def test_an_order_that_the_agent_refuses_is_not_sent_again(front: CloudRunFront, google: MetadataServer) -> None:
    service = CloudRunService(front.url, concurrency=1, tokens=IdTokens(google.environ))
    front.reply(401, {"error": "the order is not signed with the secret of this agent"})

    answer = await service.call(PAYLOAD)

    assert len(front.calls) == 1
    with pytest.raises(AttemptError, match="refused the order: the order is not signed with the secret") as no:
        service.parse_result(answer)
    assert no.value.fatal


async def test_a_service_that_cannot_be_reached_has_begun_nothing() -> None:
    service = CloudRunService(f"http://127.0.0.1:{find_free_port()}", concurrency=1)

    with pytest.raises(CallLostError, match=r"cannot be reached at http:.*: Connection refused") as lost:
        await service.call(PAYLOAD)

    assert not lost.value.begun


@pytest.mark.parametrize("deed", [Deed.BREAK, Deed.CUT])
async def test_a_broken_connection_leaves_open_whether_the_worker_works(
    front: CloudRunFront, service: CloudRunService, deed: Deed
) -> None:
    front.script.append(deed)

    with pytest.raises(CallLostError, match=r"the connection to cloud run .* broke: ") as lost:
        await service.call(PAYLOAD)

    assert lost.value.begun
    assert len(front.calls) == 1


async def test_a_service_that_never_answers_is_left_at_its_limit(
    front: CloudRunFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.remote.cloud_run._MARGIN_SECONDS", 0.2)
    front.otherwise = Deed.HOLD

    with pytest.raises(CallLostError, match=r"gave no answer within 0\.3 s") as lost:
        await CloudRunService(front.url, concurrency=1, most_seconds=0.1).call(PAYLOAD)

    assert lost.value.begun
    await asyncio.wait_for(front.calls[0].hung_up, 60)


async def test_a_cut_cable_is_noticed_at_the_limit(front: CloudRunFront, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activities.remote.cloud_run._MARGIN_SECONDS", 0.2)
    async with Proxy(front.url.removeprefix("http://")) as way:
        way.cut()
        with pytest.raises(CallLostError) as lost:
            await CloudRunService(f"http://{way.address}", concurrency=1, most_seconds=0.1).call(PAYLOAD)

    assert lost.value.begun
    assert not front.calls


async def test_calls_beyond_the_limit_wait_for_their_turn(front: CloudRunFront) -> None:
    service = CloudRunService(front.url, concurrency=2)
    front.otherwise = Deed.HOLD
    calls = [asyncio.create_task(service.call(PAYLOAD | {"chunkIndex": index})) for index in range(5)]
    begun = [await front.next_call(), await front.next_call()]

    calls[begun[0].payload["chunkIndex"]].cancel()
    third = await front.next_call()

    await asyncio.wait_for(begun[0].hung_up, 60)
    assert len(front.calls) == 3
    assert third.payload["chunkIndex"] == 2
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert len(front.calls) == 3, "what was cancelled in the queue was never sent"

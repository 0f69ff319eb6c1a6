"""Calls of Cloud Run services over a real wire: URLs, requests, and what each answer means."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import pytest_asyncio
from support.remote.cloud_run_service import CloudRunFront, Deed, cloud_run_front
from support.remote.google_tokens import MetadataServer, metadata_server
from support.servers.tcp_proxy import Proxy

from activities.errors import AttemptError, ThrottledError
from activities.remote import cloud_run
from activities.remote.cloud_run import CloudRunService
from activities.remote.google_auth import IdTokens
from activities.remote.protocol import RemoteOutcome, RemoteResult
from activities.remote.service import CallLostError, HeliosResult, ServiceAnswer
from ports import find_free_port

PAYLOAD = {"jobPath": "http://files/job.json", "chunkIndex": 7}

ORDER = {"order": "{}", "signature": ""}

HELIOS_PAYLOAD = {"jobPath": "http://files/job.json", "chunkIndex": 0}

TEMPLATE = {"message": "Render complete", "chunkIndex": 0, "output": "frame=10\n"}


@pytest.mark.parametrize("url", ["render.example", "ftp://host/x", "https://me:secret@host", "https://", "http://h:x"])
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no URL of a Cloud Run service; write https://HOST") as no:
        CloudRunService(url, concurrency=1)
    assert "secret" not in str(no.value)


def test_tokens_travel_only_by_https() -> None:
    with pytest.raises(ValueError, match="identity tokens travel only by https; write https://render"):
        CloudRunService("http://render.example", concurrency=1, tokens=IdTokens({}))


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


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (400, {}, "HTTP 400 Bad Request; it does not take such requests; check the URL"),
        (403, {}, "HTTP 403 Forbidden; give the worker's service account the role roles/run.invoker on this service"),
        (404, {}, "HTTP 404 Not Found; there is no such service; check the URL"),
        (405, {}, "HTTP 405 Method Not Allowed; it does not take POST; check the URL"),
        (413, {}, "it does not take a request of this size; check the URL"),
        (418, {}, "check the URL"),
        (
            302,
            {"location": "https://accounts.google.com/o/auth?as=x"},
            "it leads to https://accounts.google.com/o/auth:",
        ),
        (307, {}, "HTTP 307 Temporary Redirect; it leads to nowhere: configure the final URL"),
    ],
)
async def test_what_will_never_be_taken_is_told_with_its_fix(
    front: CloudRunFront, service: CloudRunService, status: int, headers: Mapping[str, str], sentence: str
) -> None:
    front.reply(status, b"<html>no</html>", headers)

    with pytest.raises(AttemptError) as no:
        await service.call(ORDER)

    assert no.value.fatal
    assert sentence in str(no.value)
    assert len(front.calls) == 1


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("status", "headers", "body", "wait_seconds"),
    [
        (429, {}, b"Rate exceeded.", None),
        (429, {"retry-after": "17"}, b"", 17),
        (429, {"retry-after": "0"}, b"", 0),
        (429, {"retry-after": "99999999"}, b"", 600),
        (429, {"retry-after": "soon"}, b"", None),
        (429, {"retry-after": "-3"}, b"", None),
        (429, {"retry-after": http_date(40), "date": http_date(10)}, b"", 30),
        (429, {"retry-after": http_date(-40)}, b"", 0),
        (429, {"retry-after": http_date(86_400)}, b"", 600),
        (503, {"retry-after": "5"}, b"<html>Service Unavailable</html>", 5),
        (503, {}, b'{"error": "no slot is free"}', None),
        (500, {}, b"The request was aborted because there was no available instance.", None),
    ],
)
async def test_no_room_costs_no_try_and_retry_after_is_honoured(
    front: CloudRunFront,
    service: CloudRunService,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    wait_seconds: float | None,
) -> None:
    front.reply(status, body, headers)

    with pytest.raises(ThrottledError, match=f"HTTP {status} ") as full:
        await service.call(ORDER)

    assert full.value.wait_seconds == (None if wait_seconds is None else pytest.approx(wait_seconds, abs=1.5))
    assert len(front.calls) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_an_error_of_the_platform_leaves_open_whether_the_worker_works(
    front: CloudRunFront, service: CloudRunService, status: int
) -> None:
    """An instance that runs out of memory, or out of time, is told like this: these are no words of a full house."""
    front.reply(status, b"<html>upstream connect error</html>")

    with pytest.raises(CallLostError, match=f"HTTP {status} .*, from the platform and not from the worker") as lost:
        await service.call(ORDER)

    assert lost.value.begun
    assert len(front.calls) == 1


async def test_an_order_that_was_begun_before_is_looked_for_in_the_store(
    front: CloudRunFront, service: CloudRunService
) -> None:
    front.reply(409, {"error": "this attempt has begun already"})

    with pytest.raises(CallLostError, match="this attempt has begun already") as lost:
        await service.call(ORDER)

    assert lost.value.begun


async def test_a_result_of_our_agent_comes_through(front: CloudRunFront, service: CloudRunService) -> None:
    result = RemoteResult(attempt="a-1", outcome=RemoteOutcome.FAILED, error="ffmpeg exited with code 1")
    front.reply(200, json.loads(result.model_dump_json()))

    assert service.parse_result(await service.call(ORDER)) == result


@pytest.mark.parametrize(
    ("status", "body", "sentence", "fatal"),
    [
        (400, {"error": "the request is no order"}, "refused the order: the request is no order", True),
        (403, {"error": "blender may not run here"}, "refused the order: blender may not run here", True),
        (413, {"error": "too large"}, "refused the order: too large", True),
        (500, {"error": "the store is away"}, "refused the order: the store is away", False),
        (200, b"Hello World!", "HTTP 200 without a result: no Longtake agent of this version answers there", True),
        (200, {"exitCode": 0, "stdout": "", "stderr": ""}, "check the URL and `backend.protocol`", True),
        (202, {"outcome": "perhaps"}, "HTTP 202 without a result", True),
    ],
)
async def test_what_is_no_result_is_told_in_one_sentence(
    front: CloudRunFront, service: CloudRunService, status: int, body: object, sentence: str, fatal: bool
) -> None:
    front.reply(status, body)
    answer = await service.call(ORDER)

    with pytest.raises(AttemptError) as no:
        service.parse_result(answer)

    assert sentence in str(no.value)
    assert no.value.fatal is fatal


async def answered(front: CloudRunFront, status: int, body: object, *, lenient: bool = False) -> HeliosResult:
    """Have the service answer so; return what a worker reads in it."""
    front.reply(status, body)
    service = CloudRunService(front.url, concurrency=1)
    return service.parse_helios_answer(await service.call(HELIOS_PAYLOAD), lenient=lenient)


SERVER_ROWS = {
    "method": (405, {"message": "Method Not Allowed"}, HeliosResult(1, "", "Method Not Allowed")),
    "body unreadable": (
        *(500, {"message": "Error reading request body: aborted"}),
        HeliosResult(1, "", "Error reading request body: aborted"),
    ),
    "not JSON": (400, {"message": "Invalid JSON payload"}, HeliosResult(1, "", "Invalid JSON payload")),
    "wrong keys": (
        *(400, {"message": "Missing jobPath or chunkIndex"}),
        HeliosResult(1, "", "Missing jobPath or chunkIndex"),
    ),
    "exit 0": (200, {"exitCode": 0, "stdout": "10 frames\n", "stderr": "hm\n"}, HeliosResult(0, "10 frames\n", "hm\n")),
    "exit 3": (
        *(500, {"exitCode": 3, "stdout": "partial\n", "stderr": "no codec\n"}),
        HeliosResult(3, "partial\n", "no codec\n"),
    ),
    "signal": (500, {"exitCode": -1, "stdout": "", "stderr": ""}, HeliosResult(-1, "", "")),
    "runtime error": (
        *(500, {"message": "spawn no-such-binary ENOENT"}),
        HeliosResult(1, "", "spawn no-such-binary ENOENT"),
    ),
}


@pytest.mark.parametrize(("status", "body", "result"), SERVER_ROWS.values(), ids=SERVER_ROWS)
async def test_what_a_helios_worker_answers(
    front: CloudRunFront, status: int, body: object, result: HeliosResult
) -> None:
    assert await answered(front, status, body) == result
    assert len(front.calls) == 1


CLIENT_ROWS = {
    "stdout first": (200, {"exitCode": 0, "stdout": "a", "output": "b"}, HeliosResult(0, "a", "")),
    "output else": (200, {"exitCode": 0, "stdout": "", "output": "b"}, HeliosResult(0, "b", "")),
    "neither": (200, {"exitCode": 0}, HeliosResult(0, "", "")),
    "200 and exit 3": (200, {"exitCode": 3, "stderr": "no codec"}, HeliosResult(3, "", "no codec")),
    "other 2xx": (202, {}, HeliosResult(1, "", "HTTP Error 202: Accepted")),
    "other 2xx with words": (202, {"stderr": "queued"}, HeliosResult(1, "", "queued")),
    "other 2xx, exit 0": (202, {"exitCode": 0}, HeliosResult(1, "", "HTTP Error 202: Accepted")),
    "error in the template's words": (
        *(500, {"message": "", "error": "out of disk"}),
        HeliosResult(1, "", "out of disk"),
    ),
    "stderr before message": (
        *(500, {"exitCode": 4, "stderr": "bad", "message": "worse"}),
        HeliosResult(4, "", "bad"),
    ),
    "error with exit 0": (500, {"exitCode": 0}, HeliosResult(1, "", "HTTP 500: Internal Server Error")),
    "no exit code": (200, {}, HeliosResult(1, "", "HTTP 200 without an exit code")),
    "exit code as text": (200, {"exitCode": "0"}, HeliosResult(1, "", "HTTP 200 without an exit code")),
    "exit code true": (200, {"exitCode": True}, HeliosResult(1, "", "HTTP 200 without an exit code")),
    "exit code 2.0": (200, b'{"exitCode": 2.0}', HeliosResult(2, "", "")),
    "exit code 0.5": (200, b'{"exitCode": 0.5}', HeliosResult(1, "", "")),
    "exit code NaN": (200, b'{"exitCode": NaN}', HeliosResult(1, "", "")),
    "text": (200, b"OK", HeliosResult(1, "", "HTTP 200: OK, which is no JSON object")),
    "HTML": (200, b"<html>Congratulations</html>", HeliosResult(1, "", "HTTP 200: OK, which is no JSON object")),
    "broken JSON": (200, b'{"exitCode": 0', HeliosResult(1, "", "HTTP 200: OK, which is no JSON object")),
    "deep JSON": (200, b"[" * 100_000, HeliosResult(1, "", "HTTP 200: OK, which is no JSON object")),
    "no body": (200, b"", HeliosResult(1, "", "HTTP 200: OK")),
    "null": (200, b"null", HeliosResult(1, "", "HTTP 200: OK, which is no JSON object")),
    "text where text is not": (200, {"exitCode": 0, "stdout": 5, "stderr": None}, HeliosResult(0, "", "")),
}


@pytest.mark.parametrize(("status", "body", "result"), CLIENT_ROWS.values(), ids=CLIENT_ROWS)
async def test_what_helios_client_was_made_for(
    front: CloudRunFront, status: int, body: object, result: HeliosResult
) -> None:
    assert await answered(front, status, body) == result


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_an_error_without_a_body_is_one_of_the_platform(front: CloudRunFront, status: int) -> None:
    with pytest.raises(AttemptError, match=f"HTTP {status} ") as no:
        await answered(front, status, b"")
    assert no.value.fatal


async def test_an_error_of_the_platform_with_its_own_json_is_no_word_of_a_worker(front: CloudRunFront) -> None:
    with pytest.raises(CallLostError):
        await answered(front, 500, {"error": {"code": 500, "message": "internal"}})


@pytest.mark.parametrize(
    ("body", "exit_code"),
    [(TEMPLATE, 0), ({}, 1), (b"OK", 1), (b"", 1), ({"message": "hello"}, 1), (TEMPLATE | {"exitCode": 3}, 3)],
)
async def test_lenient_takes_the_template_of_helios_for_success_and_nothing_else(
    front: CloudRunFront, body: object, exit_code: int
) -> None:
    assert (await answered(front, 200, body, lenient=True)).exit_code == exit_code
    assert (await answered(front, 200, body)).exit_code != 0


async def test_an_answer_too_large_to_be_read_fails_no_finished_work(
    front: CloudRunFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.remote.cloud_run.MOST_BYTES", 100_000)
    monkeypatch.setattr(cloud_run, "MOST_BYTES", 100_000)
    large = {"stdout": "x" * 5_000_000, "stderr": ""}

    assert await answered(front, 200, {"exitCode": 0, **large}) == HeliosResult(0, answer_was_lost=True)
    failed = await answered(front, 500, {"exitCode": 3, **large})
    assert failed == HeliosResult(1, "", "HTTP 500: Internal Server Error, too large to be read")


def test_an_answer_alone_says_what_helios_client_would_say() -> None:
    service = CloudRunService("http://127.0.0.1:1", concurrency=1)

    result = service.parse_helios_answer(ServiceAnswer(404, b""), lenient=False)

    assert result == HeliosResult(1, "", "HTTP 404: Not Found")

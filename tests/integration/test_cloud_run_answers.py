"""What the answers of Google's front end and of our own agent mean, each over a real wire."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import pytest_asyncio
from support.remote.cloud_run_service import CloudRunFront, cloud_run_front

from activities.errors import AttemptError, ThrottledError
from activities.remote.cloud_run import CloudRunService
from activities.remote.protocol import RemoteOutcome, RemoteResult
from activities.remote.service import CallLostError

PAYLOAD = {"order": "{}", "signature": ""}


@pytest_asyncio.fixture
async def front() -> AsyncIterator[CloudRunFront]:
    async with cloud_run_front() as service:
        yield service


@pytest.fixture
def service(front: CloudRunFront) -> CloudRunService:
    return CloudRunService(front.url, concurrency=4)


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
        await service.call(PAYLOAD)

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
        await service.call(PAYLOAD)

    assert full.value.wait_seconds == (None if wait_seconds is None else pytest.approx(wait_seconds, abs=1.5))
    assert len(front.calls) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_an_error_of_the_platform_leaves_open_whether_the_worker_works(
    front: CloudRunFront, service: CloudRunService, status: int
) -> None:
    """An instance that runs out of memory, or out of time, is told like this: these are no words of a full house."""
    front.reply(status, b"<html>upstream connect error</html>")

    with pytest.raises(CallLostError, match=f"HTTP {status} .*, from the platform and not from the worker") as lost:
        await service.call(PAYLOAD)

    assert lost.value.begun
    assert len(front.calls) == 1


async def test_an_order_that_was_begun_before_is_looked_for_in_the_store(
    front: CloudRunFront, service: CloudRunService
) -> None:
    front.reply(409, {"error": "this attempt has begun already"})

    with pytest.raises(CallLostError, match="this attempt has begun already") as lost:
        await service.call(PAYLOAD)

    assert lost.value.begun


async def test_a_result_of_our_agent_comes_through(front: CloudRunFront, service: CloudRunService) -> None:
    result = RemoteResult(attempt="a-1", outcome=RemoteOutcome.FAILED, error="ffmpeg exited with code 1")
    front.reply(200, json.loads(result.model_dump_json()))

    assert service.parse_result(await service.call(PAYLOAD)) == result


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
    answer = await service.call(PAYLOAD)

    with pytest.raises(AttemptError) as no:
        service.parse_result(answer)

    assert sentence in str(no.value)
    assert no.value.fatal is fatal

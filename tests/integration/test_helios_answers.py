"""Each row of Helios' Cloud Run tables, over a real wire: what its worker answers, and what that means here.

The rows are those of Helios' server (every answer it can give) and of its client (every answer it was made for); where
Helios' own client takes nonsense for success, or drops why a chunk failed, the outcome here is another.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.remote.cloud_run_service import CloudRunFront, cloud_run_front

from activities.errors import AttemptError
from activities.remote import cloud_run
from activities.remote.cloud_run import CloudRunService
from activities.remote.service import CallLostError, HeliosResult, ServiceAnswer

PAYLOAD = {"jobPath": "http://files/job.json", "chunkIndex": 0}
TEMPLATE = {"message": "Render complete", "chunkIndex": 0, "output": "frame=10\n"}


@pytest_asyncio.fixture
async def front() -> AsyncIterator[CloudRunFront]:
    async with cloud_run_front() as service:
        yield service


async def answered(front: CloudRunFront, status: int, body: object, *, lenient: bool = False) -> HeliosResult:
    """Have the service answer so; return what a worker reads in it."""
    front.reply(status, body)
    service = CloudRunService(front.url, concurrency=1)
    return service.parse_helios_answer(await service.call(PAYLOAD), lenient=lenient)


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

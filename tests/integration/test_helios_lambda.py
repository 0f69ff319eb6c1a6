"""Every row of the answers of Helios' workers on AWS Lambda, over the real wire, and what Longtake makes of it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from support.remote.lambda_service import LambdaService, called_service

from activities.errors import ThrottledError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.service import CallLostError, HeliosResult, ServiceAnswer

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

NO_CODE = "the answer holds no exit code"
NON_200 = "Lambda returned non-200 status code"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LambdaService]:
    async with called_service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def function(service: LambdaService) -> LambdaFunction:
    return LambdaFunction("answer", concurrency=1)


def worker(status: int, **body: Any) -> dict[str, Any]:
    """An answer of Helios' own handler: its body is JSON text."""
    return {"statusCode": status, "body": json.dumps(body)}


# What the handler `createAwsHandler` answers, and one that `helios deploy aws` writes.
HANDLERS = [
    (worker(200, exitCode=0, output="frame 1\n", stderr="warn\n"), HeliosResult(0, "frame 1\n", "warn\n")),
    (worker(500, exitCode=3, output="partial\n", stderr="no codec\n"), HeliosResult(3, "partial\n", "no codec\n")),
    (worker(500, exitCode=-1, output="", stderr=""), HeliosResult(-1, "", NON_200)),
    (
        worker(400, message="Invalid payload: must be an object"),
        HeliosResult(1, "", "Invalid payload: must be an object"),
    ),
    (
        worker(400, message="Invalid payload: missing jobPath or chunkIndex"),
        HeliosResult(1, "", "Invalid payload: missing jobPath or chunkIndex"),
    ),
    (worker(500, message="spawn no-such-binary ENOENT"), HeliosResult(1, "", "spawn no-such-binary ENOENT")),
    (
        worker(500, message="Render failed", error="Command failed: npx helios"),
        HeliosResult(1, "", "Render failed: Command failed: npx helios"),
    ),
    # Longtake's own agent repeats the reason in `message`, for Helios' clients.
    (worker(500, exitCode=3, output="", stderr="no codec", message="no codec"), HeliosResult(3, "", "no codec")),
    (worker(500, exitCode=0, output="", stderr=""), HeliosResult(1, "", NON_200)),
    (worker(500, exitCode=4, error="disk full"), HeliosResult(4, "", "disk full")),
    (worker(200, exitCode=3, output="x", stderr="no codec"), HeliosResult(3, "x", "no codec")),
    (worker(200, exitCode=0.5, message="", chunkIndex=0, output="x"), HeliosResult(1, "x", "")),
    (worker(200, exitCode=0, stdout="as stdout"), HeliosResult(0, "as stdout", "")),
    ({"statusCode": 200, "body": {"exitCode": 0, "output": "as object"}}, HeliosResult(0, "as object", "")),
    ({"statusCode": 502, "body": {"exitCode": 7.0, "stderr": "as object"}}, HeliosResult(7, "", "as object")),
    ({"statusCode": "200", "body": {"exitCode": 0}}, HeliosResult(1, "", NON_200)),
    ({"body": {"exitCode": 0, "output": "no status"}}, HeliosResult(1, "no status", NON_200)),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "result"), HANDLERS)
@pytest.mark.parametrize("lenient", [False, True])
async def test_what_helios_handlers_answer(
    function: LambdaFunction, answer: Any, result: HeliosResult, lenient: bool
) -> None:
    came = await function.call({"answer": answer})

    assert function.parse_helios_answer(came, lenient=lenient) == result


# The original takes the first four for success, and so does a lenient job; it never takes the others so.
WITHOUT_EXIT_CODE: list[tuple[dict[str, Any], HeliosResult, HeliosResult]] = [
    ({"raw": ""}, HeliosResult(1, "", "the answer is empty: no exit code"), HeliosResult(0)),
    ({"raw": '{"done": true}'}, HeliosResult(1, '{"done": true}', NO_CODE), HeliosResult(0, '{"done": true}')),
    ({"raw": '{"body": ""}'}, HeliosResult(1, '{"body": ""}', NO_CODE), HeliosResult(0, '{"body": ""}')),
    (
        {"answer": worker(200, message="Render complete", chunkIndex=3, output="ok")},
        HeliosResult(1, "ok", "Render complete"),
        HeliosResult(0, "ok"),
    ),
    ({"answer": worker(200)}, HeliosResult(1, "", NO_CODE), HeliosResult(1, "", NO_CODE)),
    ({"answer": worker(200, exitCode="0")}, HeliosResult(1, "", NO_CODE), HeliosResult(1, "", NO_CODE)),
    ({"answer": worker(200, exitCode=True)}, HeliosResult(1, "", NO_CODE), HeliosResult(1, "", NO_CODE)),
    ({"answer": worker(200, error="half")}, HeliosResult(1, "", "half"), HeliosResult(1, "", "half")),
]


@pytest.mark.parametrize(("event", "strict", "lenient"), WITHOUT_EXIT_CODE)
async def test_an_answer_without_an_exit_code_is_success_for_lenient_jobs_at_most(
    function: LambdaFunction, event: dict[str, Any], strict: HeliosResult, lenient: HeliosResult
) -> None:
    answer = await function.call(event)

    assert function.parse_helios_answer(answer, lenient=False) == strict
    assert function.parse_helios_answer(answer, lenient=True) == lenient


@pytest.mark.parametrize(
    "raw", ["<html>", "null", '{"statusCode": 200, "body": "<html>"}', '{"body": "[1]"}', "[" * 9999]
)
@pytest.mark.parametrize("lenient", [False, True])
async def test_what_is_not_json_is_a_failure(function: LambdaFunction, raw: str, lenient: bool) -> None:
    result = function.parse_helios_answer(await function.call({"raw": raw}), lenient=lenient)

    assert (result.exit_code, result.stdout) == (1, raw)
    assert result.stderr.startswith("Failed to parse Lambda response: ")


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"error": "boom"}, "Lambda execution failed: boom"),
        ({"signal": 9}, "Error: Runtime exited with error: signal: killed"),
        ({"exit": 1}, "Error: Runtime exited with error: exit status 1"),
    ],
)
async def test_a_handler_that_crashes_has_failed(
    function: LambdaFunction, event: dict[str, Any], sentence: str
) -> None:
    result = function.parse_helios_answer(await function.call(event), lenient=True)

    assert (result.exit_code, result.stdout, result.answer_was_lost) == (1, "", False)
    assert result.stderr.startswith("Lambda execution failed: ")
    assert result.stderr.endswith(sentence)


@pytest.mark.parametrize(("body", "words"), [(b"", "Unknown Lambda Error"), (b"{oops", "{oops"), (b"[1]", "[1]")])
async def test_a_runtime_of_another_language_may_fail_without_a_message(
    function: LambdaFunction, body: bytes, words: str
) -> None:
    result = function.parse_helios_answer(ServiceAnswer(200, body, {"x-amz-function-error": "Unhandled"}), lenient=True)

    assert (result.exit_code, result.stderr) == (1, f"Lambda execution failed: {words}")


async def test_a_handler_that_lambda_ends_has_failed(service: LambdaService) -> None:
    service.add_function("brief", "support.remote.lambda_handlers.answer", timeout=1)
    function = LambdaFunction("brief", concurrency=1)

    result = function.parse_helios_answer(await function.call({"seconds": 30}), lenient=True)

    assert result.exit_code == 1
    assert result.stderr.endswith("Task timed out after 1.00 seconds")


async def test_an_answer_over_6_mb_does_not_fail_finished_work(function: LambdaFunction) -> None:
    result = function.parse_helios_answer(await function.call({"megabytes": 7}), lenient=False)

    assert (result.exit_code, result.answer_was_lost) == (0, True)
    assert "exceeded maximum allowed payload size" in result.stderr


async def test_an_answer_of_nearly_6_mb_comes_back(function: LambdaFunction) -> None:
    output = "x" * (5 << 20)

    answer = await function.call({"answer": worker(200, exitCode=0, output=output)})

    assert function.parse_helios_answer(answer, lenient=False) == HeliosResult(0, output)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "TooManyRequestsException", ThrottledError),
        (500, "ServiceException", CallLostError),
        (0, "", CallLostError),
    ],
)
async def test_refusals_and_broken_connections_are_no_words_of_the_worker(
    service: LambdaService, function: LambdaFunction, status: int, code: str, kind: type[Exception]
) -> None:
    """The original makes results of them and invokes up to three times; here they are errors, after one request."""
    service.refuse_next(status, code, "Rate Exceeded.")
    before = len(service.arrivals)

    with pytest.raises(kind):
        await function.call({})
    assert len(service.arrivals) == before + 1

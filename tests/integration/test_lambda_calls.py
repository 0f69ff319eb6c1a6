"""Calls to AWS Lambda over the real wire: what is sent, what comes back, and what each refusal means."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio
from support.farm import eventually
from support.remote.lambda_service import LambdaService, aws_environment, called_service
from support.servers.http_server import Connection, HttpServer, Request

from activities.errors import AttemptError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.protocol import RemoteOutcome, RemoteResult
from activities.remote.service import Service

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RESULT = RemoteResult(attempt="a-1", outcome=RemoteOutcome.PUBLISHED, billed_seconds=3.5)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LambdaService]:
    async with called_service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def function(service: LambdaService) -> LambdaFunction:
    return LambdaFunction("answer", concurrency=8)


async def test_a_function_gets_the_payload_and_its_answer_comes_back(service: LambdaService) -> None:
    whoami = service.add_function("whoami", "support.remote.lambda_handlers.whoami", memory_mb=1024, timeout=30)
    function: Service = LambdaFunction("whoami", concurrency=1)

    answer = await function.call({"jobPath": "https://example.com/job.json", "chunkIndex": 3})

    (invocation,) = whoami.invocations
    assert answer.status == 200
    told = json.loads(answer.body)
    assert (told["arn"], told["memory"], told["id"]) == (whoami.arn, "1024", invocation.id)
    assert 20_000 < told["remaining_ms"] <= 30_000
    assert invocation.payload == {"jobPath": "https://example.com/job.json", "chunkIndex": 3}
    _, request = service.arrivals[-1]
    assert request.target == "/2015-03-31/functions/whoami/invocations"
    assert request.headers["x-amz-invocation-type"] == "RequestResponse"
    assert "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/" in request.headers["authorization"]
    assert (function.where, function.most_seconds) == ("lambda whoami", 900)


async def test_an_arn_tells_the_region(service: LambdaService) -> None:
    arn = "arn:aws:lambda:us-east-1:123456789012:function:answer"
    with aws_environment(**{name: value for name, value in service.environ.items() if "REGION" not in name}):
        answer = await LambdaFunction(arn, concurrency=1).call({"answer": 1})

    assert answer.body == b"1"


async def test_the_result_of_the_agent_comes_back(function: LambdaFunction) -> None:
    answer = await function.call({"answer": RESULT.model_dump(mode="json", exclude_defaults=True)})

    assert function.parse_result(answer) == RESULT


@pytest.mark.parametrize(
    ("event", "sentence", "fatal"),
    [
        ({"error": "no space left"}, "lambda answer failed: RuntimeError: no space left", False),
        ({"exit": 3}, "Runtime exited with error: exit status 3", False),
        ({"exit": 0}, "Runtime exited without providing a reason", False),
        ({"signal": 9}, "signal: killed; it ran out of memory, most likely: give the function more", False),
        ({"megabytes": 7}, "Response payload size exceeded maximum allowed payload size", False),
        ({"answer": None}, "is no agent of Longtake, or of another version: it answered 'null'", True),
        ({"raw": ""}, "is no agent of Longtake", True),
        ({"raw": "<html>\x1b[2J"}, "it answered '<html>'", True),
        ({"answer": {"statusCode": 200, "body": "{}"}}, "deploy agent/ there", True),
    ],
)
async def test_what_is_no_result_of_an_agent(
    function: LambdaFunction, event: dict[str, Any], sentence: str, fatal: bool
) -> None:
    answer = await function.call(event)

    with pytest.raises(AttemptError) as caught:
        function.parse_result(answer)
    assert sentence in str(caught.value)
    assert caught.value.fatal is fatal


async def test_a_function_that_takes_too_long_is_ended(service: LambdaService) -> None:
    brief = service.add_function("brief", "support.remote.lambda_handlers.answer", timeout=1)
    function = LambdaFunction("brief", concurrency=1)
    answer = await function.call({"seconds": 30})

    with pytest.raises(AttemptError, match=r"Task timed out after 1\.00 seconds; give the function a longer timeout"):
        function.parse_result(answer)
    (invocation,) = brief.invocations
    assert 1 <= invocation.billed_seconds < 10
    assert not brief.environments[0].processes()


@pytest.mark.parametrize("handler", ["no_such_module.handler", "support.remote.lambda_handlers.no_such_handler"])
async def test_a_function_that_cannot_be_loaded_is_not_called_again(service: LambdaService, handler: str) -> None:
    service.add_function("broken", handler)
    function = LambdaFunction("broken", concurrency=1)
    answer = await function.call({})

    with pytest.raises(AttemptError, match="lambda broken failed: Runtime") as caught:
        function.parse_result(answer)
    assert caught.value.fatal


async def test_no_more_calls_than_allowed_are_in_flight(service: LambdaService) -> None:
    shape = service.add_function("crowd", "support.remote.lambda_handlers.answer")
    function = LambdaFunction("crowd", concurrency=3)

    await asyncio.gather(*(function.call({"seconds": 0.1}) for _ in range(12)))

    assert shape.most_running == 3
    assert len(shape.environments) == 3, "idle environments are used again"


async def test_a_hundred_calls_in_flight_need_two_threads(service: LambdaService) -> None:
    """Against a service without processes: it answers when all have come."""
    all_came = asyncio.Barrier(100)

    async def hold(connection: Connection, _: Request) -> None:
        await all_came.wait()
        await connection.respond_json(200, 1)

    server = HttpServer(hold)
    await server.start()
    before = threading.active_count()
    with aws_environment(**{**service.environ, "AWS_ENDPOINT_URL_LAMBDA": f"http://{server.address}"}):
        function = LambdaFunction("held", concurrency=100)
        answers = await asyncio.gather(*(function.call({}) for _ in range(100)))
    await server.close()

    assert {answer.body for answer in answers} == {b"1"}
    assert threading.active_count() <= before + 2


async def test_fifty_calls_leave_nothing_behind(service: LambdaService, function: LambdaFunction) -> None:
    await asyncio.gather(*(function.call({"seconds": 0.5}) for _ in range(8)))
    process = psutil.Process()

    def held() -> tuple[int, int, int]:
        return process.num_fds(), len(asyncio.all_tasks()), threading.active_count()

    before = held()
    await asyncio.gather(*(function.call({"answer": index}) for index in range(50)))

    await eventually(
        lambda: all(now <= then for now, then in zip(held(), before, strict=True)),
        "no more sockets, tasks and threads than before",
    )

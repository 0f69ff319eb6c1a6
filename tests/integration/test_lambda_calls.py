"""Calls to AWS Lambda over the real wire: what is sent, what comes back, and what each refusal means."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from farm import eventually
from lambda_calls import aws_environment, called_service
from lambda_service import LambdaService

import devserver
from activities.backends.aws_lambda import LambdaFunction
from activities.backends.calls import CallLostError
from activities.failures import AttemptError, ThrottledError
from longtake.remote import RemoteOutcome, RemoteResult

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
    service.add_function("whoami", "lambda_handlers.whoami", memory_mb=1024, timeout=30)
    function = LambdaFunction("whoami", concurrency=1)

    answer = await function.call({"jobPath": "https://example.com/job.json", "chunkIndex": 3})

    (invocation,) = service.begun_of("whoami")
    assert answer.status == 200
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

    assert RemoteResult.model_validate_json(function.result_in(answer)) == RESULT


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
        ({"answer": {"statusCode": 200, "body": "{}"}}, "deploy remote/ there", True),
    ],
)
async def test_what_is_no_result_of_an_agent(
    function: LambdaFunction, event: dict[str, Any], sentence: str, fatal: bool
) -> None:
    answer = await function.call(event)

    with pytest.raises(AttemptError) as caught:
        function.result_in(answer)
    assert sentence in str(caught.value)
    assert caught.value.fatal is fatal


async def test_a_function_that_takes_too_long_is_ended(service: LambdaService) -> None:
    service.add_function("brief", "lambda_handlers.answer", timeout=1)
    function = LambdaFunction("brief", concurrency=1)
    answer = await function.call({"seconds": 30})

    with pytest.raises(AttemptError, match=r"Task timed out after 1\.00 seconds; give the function a longer timeout"):
        function.result_in(answer)
    (invocation,) = service.begun_of("brief")
    assert 1 <= invocation.billed_seconds < 10
    assert not service.environments("brief")[0].processes()


@pytest.mark.parametrize("handler", ["no_such_module.handler", "lambda_handlers.no_such_handler"])
async def test_a_function_that_cannot_be_loaded_is_not_called_again(service: LambdaService, handler: str) -> None:
    service.add_function("broken", handler)
    function = LambdaFunction("broken", concurrency=1)
    answer = await function.call({})

    with pytest.raises(AttemptError, match="lambda broken failed: Runtime") as caught:
        function.result_in(answer)
    assert caught.value.fatal


async def test_throttled_calls_say_how_long_to_wait(service: LambdaService, function: LambdaFunction) -> None:
    headers = {"Retry-After": "7"}
    service.refuse_next(429, "TooManyRequestsException", "Rate Exceeded.", headers, Reason="CallerRateLimitExceeded")
    before = len(service.arrivals), len(service.invocations)

    with pytest.raises(ThrottledError, match=r"Rate Exceeded\. \(CallerRateLimitExceeded\)") as caught:
        await function.call({"answer": 1})

    assert caught.value.wait_seconds == 7
    assert (len(service.arrivals), len(service.invocations)) == (before[0] + 1, before[1]), "sent once"


async def test_calls_beyond_the_limits_of_function_and_account_are_throttled(tmp_path: Path) -> None:
    async with called_service(tmp_path, concurrency=2) as service:
        service.add_function("narrow", "lambda_handlers.answer", concurrency=1)
        function = LambdaFunction("narrow", concurrency=5)
        held = [asyncio.ensure_future(function.call({"seconds": 2}))]
        await service.begun(1)
        with pytest.raises(ThrottledError, match="ReservedFunctionConcurrentInvocationLimitExceeded"):
            await function.call({})
        other = LambdaFunction("answer", concurrency=5)
        held.append(asyncio.ensure_future(other.call({"seconds": 2})))
        await service.begun(2)
        with pytest.raises(ThrottledError, match=r"\(ConcurrentInvocationLimitExceeded"):
            await other.call({})
        await asyncio.gather(*held)


NOT_NOW = [
    (502, "EC2ThrottledException"), (502, "ENILimitReachedException"), (502, "SubnetIPAddressLimitReachedException"),
    (502, "ResourceNotReadyException"), (503, "ServiceUnavailable"), (503, ""), (429, ""), (400, "ThrottlingException"),
    (409, "ResourceConflictException"), (408, "EFSMountTimeoutException"), (408, "SnapStartTimeoutException"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code"), NOT_NOW)
async def test_want_of_room_is_no_failed_try(
    service: LambdaService, function: LambdaFunction, status: int, code: str
) -> None:
    service.refuse_next(status, code, "not now")

    with pytest.raises(ThrottledError, match=f"lambda answer has no room now: {code or f'HTTP {status}'}: not now"):
        await function.call({})


NEVER = [
    (404, "ResourceNotFoundException", "LONGTAKE_LAMBDA_FUNCTIONS"),
    (403, "AccessDeniedException", "lambda:InvokeFunction"),
    (400, "InvalidParameterValueException", "name"),
    (400, "InvalidRequestContentException:http://internal.amazon.com/coral/", "deploy one version"),
    (413, "RequestTooLargeException", "6 MB"),
    (502, "KMSDisabledException", "KMS key"),
    (502, "KMSAccessDeniedException", "KMS key"),
    (502, "InvalidSubnetIDException", "network settings"),
    (502, "InvalidRuntimeException", "runtime that AWS supports"),
    (403, "EFSMountFailureException", "file system"),
    (403, "UnrecognizedClientException", "not valid there"),
    (403, "ExpiredTokenException", "renew them"),
    (402, "ServiceQuotaExceededException", "check its name"),
    (301, "", "endpoint"),
]


@pytest.mark.parametrize(("status", "code", "fix"), NEVER)
async def test_what_will_never_be_taken_says_what_to_mend(
    service: LambdaService, function: LambdaFunction, status: int, code: str, fix: str
) -> None:
    service.refuse_next(status, code, "by rule")

    with pytest.raises(AttemptError) as caught:
        await function.call({})
    assert caught.value.fatal
    assert (code.partition(":")[0] or f"HTTP {status}") in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(500, "ServiceException"), (500, ""), (504, ""), (410, "EFSIOException")])
async def test_a_fault_of_the_service_may_have_left_a_function_running(
    service: LambdaService, function: LambdaFunction, status: int, code: str
) -> None:
    service.refuse_next(status, code, "oops")

    with pytest.raises(CallLostError, match="whether it had begun is not known") as caught:
        await function.call({})
    assert caught.value.begun


async def test_a_connection_that_breaks_may_have_begun_the_function(
    service: LambdaService, function: LambdaFunction
) -> None:
    service.refuse_next(0, "")
    before = len(service.arrivals)

    with pytest.raises(CallLostError, match="the connection to lambda answer broke") as caught:
        await function.call({})
    assert caught.value.begun
    assert len(service.arrivals) == before + 1, "nothing is ever sent twice"


async def test_a_service_that_is_not_there_has_begun_nothing(service: LambdaService) -> None:
    url = f"http://127.0.0.1:{devserver.free_port()}"
    told = f"lambda answer cannot be reached at {url}"
    with (
        aws_environment(**{**service.environ, "AWS_ENDPOINT_URL_LAMBDA": url}),
        pytest.raises(CallLostError, match=told) as caught,
    ):
        await LambdaFunction("answer", concurrency=1).call({})
    assert not caught.value.begun


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "InvalidSignatureException"),
        ({"AWS_ACCESS_KEY_ID": "AKIDNOBODY"}, "UnrecognizedClientException"),
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}, "InvalidSignatureException"),
        ({"AWS_SESSION_TOKEN": "token-of-a-session", "AWS_SECRET_ACCESS_KEY": "x"}, "InvalidSignatureException"),
    ],
)
async def test_wrong_credentials_are_refused_and_not_told(
    service: LambdaService, change: dict[str, str], sentence: str
) -> None:
    before = len(service.invocations)
    with (
        aws_environment(**{**service.environ, **change}),
        pytest.raises(AttemptError, match="credentials are not valid there") as caught,
    ):
        await LambdaFunction("answer", concurrency=1).call({})

    assert caught.value.fatal
    assert sentence in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("AKID", "another", "token-of-a-session"))
    assert len(service.invocations) == before


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [("AWS_ACCESS_KEY_ID", "no AWS credentials"), ("AWS_SECRET_ACCESS_KEY", "no AWS"), ("REGION", "set AWS_REGION")],
)
async def test_a_worker_without_credentials_or_region_says_so(
    service: LambdaService, missing: str, sentence: str
) -> None:
    left = {name: value for name, value in service.environ.items() if missing not in name}
    with aws_environment(**left), pytest.raises(AttemptError, match=sentence) as caught:
        await LambdaFunction("answer", concurrency=1).call({})
    assert caught.value.fatal


async def test_no_more_calls_than_allowed_are_in_flight(service: LambdaService) -> None:
    shape = service.add_function("crowd", "lambda_handlers.answer")
    function = LambdaFunction("crowd", concurrency=3)

    await asyncio.gather(*(function.call({"seconds": 0.1}) for _ in range(12)))

    assert shape.most_running == 3
    assert len(shape.environments) == 3, "idle environments are used again"


async def test_fifty_calls_leave_nothing_behind(service: LambdaService, function: LambdaFunction) -> None:
    await asyncio.gather(*(function.call({"seconds": 0.5}) for _ in range(8)))
    process = psutil.Process()
    before = (process.num_fds(), len(asyncio.all_tasks()), threading.active_count())

    await asyncio.gather(*(function.call({"answer": index}) for index in range(50)))

    await eventually(
        lambda: (process.num_fds(), len(asyncio.all_tasks()), threading.active_count()) == before,
        "sockets, tasks and threads are those of before",
    )

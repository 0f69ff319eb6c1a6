"""What AWS Lambda answers when it runs nothing, over the real wire, and what each of it means for a chunk."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.remote.lambda_service import LambdaService, aws_environment, called_service
from support.servers.certificates import known_certificate

from activities.errors import AttemptError, ThrottledError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.service import CallLostError
from ports import find_free_port

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LambdaService]:
    async with called_service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
def function(service: LambdaService) -> LambdaFunction:
    return LambdaFunction("answer", concurrency=8)


@pytest.mark.parametrize(("retry_after", "wait_seconds"), [("7", 7), ("99999999", 600), ("soon", None)])
async def test_throttled_calls_say_how_long_to_wait(
    service: LambdaService, function: LambdaFunction, retry_after: str, wait_seconds: float | None
) -> None:
    headers = {"Retry-After": retry_after}
    service.refuse_next(429, "TooManyRequestsException", "Rate Exceeded.", headers, Reason="CallerRateLimitExceeded")
    before = len(service.arrivals), len(service.invocations)

    with pytest.raises(ThrottledError, match=r"Rate Exceeded\. \(CallerRateLimitExceeded\)") as caught:
        await function.call({"answer": 1})

    assert caught.value.wait_seconds == wait_seconds
    assert (len(service.arrivals), len(service.invocations)) == (before[0] + 1, before[1]), "sent once"


async def test_calls_beyond_the_limits_of_function_and_account_are_throttled(tmp_path: Path) -> None:
    async with called_service(tmp_path, concurrency=2) as service:
        service.add_function("narrow", "support.remote.lambda_handlers.answer", concurrency=1)
        function = LambdaFunction("narrow", concurrency=5)
        held = [asyncio.ensure_future(function.call({"seconds": 100}))]
        await service.begun(1)
        with pytest.raises(ThrottledError, match="ReservedFunctionConcurrentInvocationLimitExceeded"):
            await function.call({})
        other = LambdaFunction("answer", concurrency=5)
        held.append(asyncio.ensure_future(other.call({"seconds": 100})))
        await service.begun(2)
        with pytest.raises(ThrottledError, match=r"\(ConcurrentInvocationLimitExceeded"):
            await other.call({})
        for call in held:
            call.cancel()
        await asyncio.wait(held)


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


async def test_a_request_over_6_mb_is_not_taken(service: LambdaService, function: LambdaFunction) -> None:
    before = len(service.invocations)

    with pytest.raises(AttemptError, match=r"Request must be smaller than .* and may have 6 MB"):
        await function.call({"much": "x" * (7 << 20)})
    assert len(service.invocations) == before


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
    url = f"http://127.0.0.1:{find_free_port()}"
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


async def test_a_service_with_a_stranger_s_certificate_is_not_called(tmp_path: Path) -> None:
    async with called_service(tmp_path, certificate=known_certificate(tmp_path)) as service:
        with (
            aws_environment(**service.environ),
            pytest.raises(
                AttemptError, match="certificate is not to be trusted: self-signed certificate; check AWS_CA"
            ),
        ):
            await LambdaFunction("answer", concurrency=1).call({})
        assert not service.arrivals


async def test_what_gives_credentials_may_print_what_it_likes(service: LambdaService, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\ncredential_process = sh -c 'echo secret-of-the-process >&2; exit 3'\n")
    left = {name: value for name, value in service.environ.items() if "KEY" not in name}
    with (
        aws_environment(**left, AWS_CONFIG_FILE=str(config)),
        pytest.raises(CallLostError, match="the source of the worker's AWS credentials does not answer") as caught,
    ):
        await LambdaFunction("answer", concurrency=1).call({})
    assert not caught.value.begun
    assert caught.value.__cause__ is None, "causes are written into Temporal's history"
    assert "secret-of" not in str(caught.value)

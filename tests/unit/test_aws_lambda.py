"""Calls of AWS Lambda functions over a real wire: requests, answers, refusals and cancels."""

import asyncio
import gc
import json
import random
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from support.farm import eventually
from support.measurements import Distribution
from support.remote.lambda_service import LambdaService, aws_environment, called_service
from support.servers.certificates import known_certificate
from support.servers.http_server import Connection, HttpServer, Request

from activities.errors import AttemptError, ThrottledError
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.protocol import RemoteOutcome, RemoteResult
from activities.remote.service import CallLostError, Service, ServiceAnswer
from ports import find_free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESULT = RemoteResult(attempt="a-1", outcome=RemoteOutcome.PUBLISHED, billed_seconds=3.5)

NOT_NOW = [
    (502, "EC2ThrottledException"), (502, "ENILimitReachedException"), (502, "SubnetIPAddressLimitReachedException"),
    (502, "ResourceNotReadyException"), (503, "ServiceUnavailable"), (503, ""), (429, ""), (400, "ThrottlingException"),
    (409, "ResourceConflictException"), (408, "EFSMountTimeoutException"), (408, "SnapStartTimeoutException"),
]  # fmt: skip

RACES = 50

RACES_AT_THE_END = 30


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


async def test_a_service_that_ends_while_a_function_starts_leaves_nothing_open(tmp_path: Path) -> None:
    async with called_service(tmp_path) as service:
        added = service.add_function("new", "support.remote.lambda_handlers.answer")
        call = asyncio.ensure_future(LambdaFunction("new", concurrency=1).call({"seconds": 100}))
        await service.begun(1)
        call.cancel()
        await asyncio.wait({call})
        (environment,) = added.environments

    assert not environment.processes()
    host, port = environment.address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def warm_function(service: LambdaService) -> LambdaFunction:
    """A function that has been called before."""
    function = LambdaFunction("answer", concurrency=8)
    await function.call({})
    return function


async def cancelled(call: "asyncio.Task[ServiceAnswer]") -> ServiceAnswer | None:
    """Cancel a call and return what came of it: an answer, or nothing."""
    call.cancel()
    try:
        return await call
    except asyncio.CancelledError:
        return None


def tasks() -> list[object]:
    """All that runs in this loop but the service's own connections to runtimes."""
    return [task for task in asyncio.all_tasks() if "HttpServer._serve" not in repr(task)]


@pytest.mark.timed
async def test_the_service_sees_the_connection_close_at_once(
    service: LambdaService, warm_function: LambdaFunction, runs: int
) -> None:
    seen, returned = [], []
    for _ in range(runs):
        before = len(service.invocations)
        call = asyncio.ensure_future(warm_function.call({"seconds": 0.3, "answer": "done"}))
        invocation = (await service.begun(before + 1))[-1]
        await invocation.begun.wait()
        told = time.monotonic()
        assert await cancelled(call) is None
        returned.append(time.monotonic() - told)
        seen.append(await invocation.caller_gone.wait() - told)

        assert not invocation.ended, "as with AWS, a function goes on when its caller hangs up"
        await invocation.ended.wait()
        assert invocation.answer == b'"done"'
    print(f"cancel to closed connection, seen by the service: {Distribution.of(seen)}")
    print(f"cancel to the end of the call: {Distribution.of(returned)}")
    assert max(*seen, *returned) < 1


@pytest.mark.timed
async def test_a_connection_by_tls_closes_as_quickly(tmp_path: Path, runs: int) -> None:
    """TLS has words for the end of a connection: nobody waits for them."""
    async with called_service(tmp_path, certificate=known_certificate(tmp_path)) as service:
        function = LambdaFunction("answer", concurrency=1)
        assert (await function.call({"answer": 1})).body == b"1"
        seen = []
        for count in range(2, 2 + runs):
            call = asyncio.ensure_future(function.call({"seconds": 0.3}))
            invocation = (await service.begun(count))[-1]
            await invocation.begun.wait()
            told = time.monotonic()
            assert await cancelled(call) is None
            seen.append(await invocation.caller_gone.wait() - told)
            await invocation.ended.wait()
    print(f"cancel to closed connection by TLS: {Distribution.of(seen)}")
    assert max(seen) < 1


async def test_a_call_that_is_cancelled_before_it_was_sent_never_reaches_the_service(service: LambdaService) -> None:
    function = LambdaFunction("answer", concurrency=1)
    before = len(service.arrivals)
    running = asyncio.ensure_future(function.call({"seconds": 1}))
    # One that never began, one that waits for its turn, and one whose request is being signed.
    never, waiting = (asyncio.ensure_future(function.call({})) for _ in range(2))
    assert await cancelled(never) is None
    await service.begun(len(service.invocations) + 1)
    assert await cancelled(waiting) is None
    assert await cancelled(running) is None
    signing = asyncio.ensure_future(LambdaFunction("answer", concurrency=1).call({}))
    await asyncio.sleep(0)
    assert await cancelled(signing) is None

    await function.call({"answer": "later"})
    assert len(service.arrivals) == before + 2


async def test_cancels_at_any_moment_leave_no_doubt(service: LambdaService, warm_function: LambdaFunction) -> None:
    chance = random.Random(5)
    sent = answered = 0
    for index in range(RACES):
        name = f"race {index}"
        call = asyncio.ensure_future(warm_function.call({"seconds": 0.005, "answer": name}))
        await asyncio.sleep(chance.uniform(0, 0.025))
        answer = await cancelled(call)
        arrived = [one for one in service.invocations if one.payload.get("answer") == name]
        assert answer is None or answer.body == f'"{name}"'.encode()
        assert len(arrived) <= 1
        assert answer is None or arrived, "what was answered was sent"
        sent, answered = sent + len(arrived), answered + (answer is not None)
    # What was written before the cancel may still be on its way: then it arrives, once; nothing else ever does.
    await warm_function.call({"answer": "last"})
    names = [one.payload.get("answer") for one in service.invocations]
    assert all(names.count(f"race {index}") <= 1 for index in range(RACES))
    print(f"{RACES} cancels: {RACES - sent} before it was sent, {sent - answered} while it ran, {answered} too late")
    assert sent > 0


async def test_a_cancel_as_the_answer_arrives_has_one_outcome(
    service: LambdaService, warm_function: LambdaFunction
) -> None:
    outcomes = []
    for index in range(RACES_AT_THE_END):
        before = len(service.invocations)
        call = asyncio.ensure_future(warm_function.call({"seconds": 0.01, "answer": index}))
        invocation = (await service.begun(before + 1))[-1]
        await invocation.ended.wait()
        # The answer is being written now; some rounds of the loop bring it to the caller.
        for _ in range(index % 10):
            await asyncio.sleep(0)
        answer = await cancelled(call)
        assert answer is None or answer.body == str(index).encode()
        assert call.cancelled() is (answer is None)
        outcomes.append(answer is not None)
    print(f"cancels as the answer arrives: {sum(outcomes)} answers, {outcomes.count(False)} cancels")
    assert (await warm_function.call({"answer": "next"})).body == b'"next"', "the turn of each call was given back"


async def test_cancelled_calls_leave_nothing_behind(service: LambdaService, warm_function: LambdaFunction) -> None:
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    before = len(tasks())
    try:
        for seconds in (0, 0.001, 0.01, 0.05):
            calls = [asyncio.ensure_future(warm_function.call({"seconds": 0.05})) for _ in range(8)]
            await asyncio.sleep(seconds)
            assert await asyncio.gather(*map(cancelled, calls))
        await eventually(lambda: all(one.ended for one in service.invocations), "all functions end")
        await eventually(lambda: len(tasks()) == before, "no task is left")
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert complaints == []
    assert warm_function._slots._value == 8


async def test_signing_does_not_wait_for_threads_that_are_busy_with_files(warm_function: LambdaFunction) -> None:
    loop = asyncio.get_running_loop()
    done = threading.Event()
    busy = [loop.run_in_executor(None, done.wait) for _ in range(64)]
    try:
        answer = await asyncio.wait_for(warm_function.call({"answer": "at once"}), 30)
    finally:
        done.set()
        await asyncio.gather(*busy)
    assert answer.body == b'"at once"'

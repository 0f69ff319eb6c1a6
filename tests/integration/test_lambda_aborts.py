"""A call to AWS Lambda that is cancelled: seen from both sides, at every moment."""

import asyncio
import gc
import random
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.farm import eventually
from support.measurements import Distribution
from support.remote.lambda_service import LambdaService, called_service
from support.servers.certificates import known_certificate

from activities.remote.aws_lambda import LambdaFunction
from activities.remote.service import ServiceAnswer

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RACES = 50
RACES_AT_THE_END = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LambdaService]:
    async with called_service(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def function(service: LambdaService) -> LambdaFunction:
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
    service: LambdaService, function: LambdaFunction, runs: int
) -> None:
    seen, returned = [], []
    for _ in range(runs):
        before = len(service.invocations)
        call = asyncio.ensure_future(function.call({"seconds": 0.3, "answer": "done"}))
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


async def test_cancels_at_any_moment_leave_no_doubt(service: LambdaService, function: LambdaFunction) -> None:
    chance = random.Random(5)
    sent = answered = 0
    for index in range(RACES):
        name = f"race {index}"
        call = asyncio.ensure_future(function.call({"seconds": 0.005, "answer": name}))
        await asyncio.sleep(chance.uniform(0, 0.025))
        answer = await cancelled(call)
        arrived = [one for one in service.invocations if one.payload.get("answer") == name]
        assert answer is None or answer.body == f'"{name}"'.encode()
        assert len(arrived) <= 1
        assert answer is None or arrived, "what was answered was sent"
        sent, answered = sent + len(arrived), answered + (answer is not None)
    # What was written before the cancel may still be on its way: then it arrives, once; nothing else ever does.
    await function.call({"answer": "last"})
    names = [one.payload.get("answer") for one in service.invocations]
    assert all(names.count(f"race {index}") <= 1 for index in range(RACES))
    print(f"{RACES} cancels: {RACES - sent} before it was sent, {sent - answered} while it ran, {answered} too late")
    assert sent > 0


async def test_a_cancel_as_the_answer_arrives_has_one_outcome(service: LambdaService, function: LambdaFunction) -> None:
    outcomes = []
    for index in range(RACES_AT_THE_END):
        before = len(service.invocations)
        call = asyncio.ensure_future(function.call({"seconds": 0.01, "answer": index}))
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
    assert (await function.call({"answer": "next"})).body == b'"next"', "the turn of each call was given back"


async def test_cancelled_calls_leave_nothing_behind(service: LambdaService, function: LambdaFunction) -> None:
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
    before = len(tasks())
    try:
        for seconds in (0, 0.001, 0.01, 0.05):
            calls = [asyncio.ensure_future(function.call({"seconds": 0.05})) for _ in range(8)]
            await asyncio.sleep(seconds)
            assert await asyncio.gather(*map(cancelled, calls))
        await eventually(lambda: all(one.ended for one in service.invocations), "all functions end")
        await eventually(lambda: len(tasks()) == before, "no task is left")
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert complaints == []
    assert function._slots._value == 8


async def test_signing_does_not_wait_for_threads_that_are_busy_with_files(function: LambdaFunction) -> None:
    loop = asyncio.get_running_loop()
    done = threading.Event()
    busy = [loop.run_in_executor(None, done.wait) for _ in range(64)]
    try:
        answer = await asyncio.wait_for(function.call({"answer": "at once"}), 30)
    finally:
        done.set()
        await asyncio.gather(*busy)
    assert answer.body == b'"at once"'

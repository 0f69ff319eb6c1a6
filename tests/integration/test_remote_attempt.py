"""A try by a service: what is called, what is heard of it, and what its end means; agents do as each test tells."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.farm import eventually
from support.remote.scripted_agent import KEY, Remote, Script, ScriptedAgent

from activities.errors import AttemptError, AttemptLostError, ThrottledError
from activities.remote.protocol import RemoteOutcome
from activities.remote.service import CallLostError, ServiceAnswer

pytestmark = pytest.mark.integration


def ending(outcome: RemoteOutcome, **fields: object) -> Script:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        agent.begin()
        return agent.say(outcome, **fields)

    return script


def then(work: Script, end: Callable[[], ServiceAnswer]) -> Script:
    """Return a script whose answer gets lost on the way."""

    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        await work(agent)
        return end()

    return script


def broken() -> ServiceAnswer:
    raise CallLostError("the connection broke", begun=True)


def crashed() -> ServiceAnswer:
    return ServiceAnswer(500, b"the function has crashed")


async def test_a_published_chunk_calls_nobody(remote: Remote, go: asyncio.Event) -> None:
    go.set()
    remote.service.scripts = [lambda agent: agent.render(go)]
    await remote.attempt("a-1").sidecar()

    assert (await remote.attempt("a-2").sidecar()).attempt == "a-1"
    assert len(remote.service.agents) == 1


async def test_a_good_agent_is_followed_to_its_sidecar_and_billed(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)]
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "progress is passed on")
    call = remote.calls.call("a-1")
    go.set()

    assert (await trying.sidecar()).attempt == "a-1"
    assert call is not None
    assert call.where == "lambda scripted"
    assert 890 < (call.ends_at - datetime.now(UTC)).total_seconds() <= 900
    assert remote.watcher.heard[-1].frames_done == 1
    bill = await trying.attempt.bill()
    assert (bill.seconds, bill.usd) == (2.0, 0.002)
    assert trying.attempt.log == remote.folder.log_path(KEY, "a-1")
    assert trying.attempt.stop is None


async def test_the_words_of_a_failed_try_come_through(remote: Remote) -> None:
    failed = ending(RemoteOutcome.FAILED, error="exit code 7", fatal=True, wait_seconds=3.0, another_host=True)
    remote.service.scripts = [failed]

    with pytest.raises(AttemptError, match="exit code 7") as caught:
        await remote.attempt("a-1").sidecar()

    assert (caught.value.fatal, caught.value.wait_seconds, caught.value.another_host) == (True, 3.0, True)


@pytest.mark.parametrize(
    ("end", "means"),
    [
        (ending(RemoteOutcome.STOPPED), AttemptLostError),
        (ending(RemoteOutcome.LOST), AttemptLostError),
        (ending(RemoteOutcome.OUT_OF_TIME), AttemptLostError),
        (ending(RemoteOutcome.OUT_OF_TIME, fatal=True), AttemptError),
        (ending(RemoteOutcome.PUBLISHED), AttemptError),
    ],
    ids=["stopped", "lost", "out of time with frames kept", "out of time with none", "published elsewhere"],
)
async def test_what_ends_without_a_sidecar_is_no_success(remote: Remote, end: Script, means: type[Exception]) -> None:
    remote.service.scripts = [end]

    with pytest.raises(means):
        await remote.attempt("a-1").sidecar()


@pytest.mark.parametrize("end", [broken, crashed], ids=["connection lost", "unusable answer"])
async def test_published_work_counts_whatever_became_of_the_answer(
    remote: Remote, go: asyncio.Event, end: Callable[[], ServiceAnswer]
) -> None:
    go.set()
    remote.service.scripts = [then(lambda agent: agent.render(go), end)]

    assert (await remote.attempt("a-1").sidecar()).attempt == "a-1"


@pytest.mark.parametrize("end", [broken, crashed], ids=["connection lost", "unusable answer"])
async def test_an_agent_that_lives_on_is_waited_for_and_not_called_again(
    remote: Remote, go: asyncio.Event, end: Callable[[], ServiceAnswer]
) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        remote.service.work.append(asyncio.ensure_future(agent.render(go)))
        await eventually(lambda: agent.calls.progress("a-1") is not None, "the agent works")
        return end()

    remote.service.scripts = [script]
    trying = remote.attempt("a-1")
    await eventually(lambda: remote.calls.is_joined("a-1"), "it is joined")
    go.set()

    assert (await trying.sidecar()).attempt == "a-1"
    assert len(remote.service.agents) == 1


@pytest.mark.parametrize(
    ("end", "says"),
    [(broken, "the connection broke"), (crashed, "the function has crashed")],
    ids=["connection lost", "unusable answer"],
)
async def test_only_a_dead_agent_fails_the_try_and_is_billed_and_buried(
    remote: Remote, go: asyncio.Event, end: Callable[[], ServiceAnswer], says: str
) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        agent.begin()
        await asyncio.sleep(0.2)
        return end()

    remote.service.scripts = [script, lambda agent: agent.render(go)]
    go.set()
    trying = remote.attempt("a-1")
    with pytest.raises(AttemptError, match=says):
        await trying.sidecar()

    assert remote.calls.is_stopped("a-1")
    assert 0.1 < (await trying.attempt.bill()).seconds < 10
    # Nobody waits for it again.
    assert (await remote.attempt("a-2").sidecar()).attempt == "a-2"


async def test_a_function_that_never_began_fails_at_once(remote: Remote) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        return crashed()

    remote.service.scripts = [script]
    trying = remote.attempt("a-1", begin_seconds=600)

    with pytest.raises(AttemptError, match="crashed"):
        await trying.sidecar()
    assert (await trying.attempt.bill()).seconds == 0


@pytest.mark.parametrize(
    ("refusal", "means"),
    [
        (CallLostError("no way there", begun=False), AttemptLostError),
        (ThrottledError("no room", wait_seconds=7), ThrottledError),
        (AttemptError("no such function", fatal=True), AttemptError),
    ],
    ids=["not reached", "throttled", "refused"],
)
async def test_nobody_waits_for_what_was_never_begun(
    remote: Remote, go: asyncio.Event, refusal: Exception, means: type[Exception]
) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        raise refusal

    remote.service.scripts = [script, lambda agent: agent.render(go)]
    go.set()
    with pytest.raises(means) as caught:
        await remote.attempt("a-1").sidecar()

    assert str(caught.value) == str(refusal)
    assert remote.calls.attempts() == []
    assert (await remote.attempt("a-2", begin_seconds=600).sidecar()).attempt == "a-2"


async def test_a_worker_calls_a_service_so_many_times_at_once_and_no_more(remote: Remote, go: asyncio.Event) -> None:
    remote.slots = asyncio.Semaphore(1)
    remote.service.scripts = [lambda agent: agent.render(go)] * 2
    first, second = remote.attempt("a-1"), remote.attempt("b-1", chunk=1)
    await eventually(lambda: bool(remote.watcher.heard), "one is called")
    assert len(remote.service.agents) == 1
    go.set()

    await first.sidecar()
    await second.sidecar()


async def test_a_store_that_is_away_for_a_moment_ends_nothing(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)]
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "progress is passed on")
    progress = Path(remote.folder.remote_dir(KEY)) / "a-1.progress.json"
    heard = len(remote.watcher.heard)
    # Where a folder stands in the place of a file, reading it is an error of the system.
    remote.service.agents[0].beat = lambda frames=0, **fields: None  # type: ignore[method-assign]
    progress.unlink()
    progress.mkdir()
    await asyncio.sleep(0.2)
    assert not trying.task.done()
    progress.rmdir()
    go.set()

    assert (await trying.sidecar()).attempt == "a-1"
    assert len(remote.watcher.heard) == heard

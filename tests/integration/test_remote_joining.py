"""Remote work that a lost worker has left: its next attempt joins what lives, and calls again only for what is dead."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.farm import eventually
from support.remote.scripted_agent import KEY, Remote, ScriptedAgent

from activities.errors import AttemptError
from activities.remote.protocol import RemoteCall, RemoteOutcome
from activities.remote.service import ServiceAnswer

pytestmark = pytest.mark.integration


async def left(remote: Remote) -> ScriptedAgent:
    """Return an agent at work whose worker is gone."""
    remote.is_left = True
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")
    assert await trying.cancelled() is None
    remote.is_left = False
    return remote.service.agents[0]


def called(remote: Remote, attempt: str, *, ago: float = 0.0, ends_in: float = 900.0) -> None:
    """Have a call written down that a worker made before it was killed."""
    now = datetime.now(UTC)
    at, ends = now - timedelta(seconds=ago), now + timedelta(seconds=ends_in)
    remote.calls.write_call(RemoteCall(attempt=attempt, where="lambda scripted", called_at=at, ends_at=ends))


async def test_work_that_a_worker_left_is_joined_and_paid_once(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)]
    await left(remote)
    assert remote.service.hung_up == 1
    assert remote.calls.is_joined("a-1"), "so that it does not end with its connection"
    assert not remote.calls.is_stopped("a-1")
    heard = len(remote.watcher.heard)

    trying = remote.attempt("a-2")
    await eventually(lambda: len(remote.watcher.heard) > heard, "its progress is passed on again")
    assert trying.attempt.log == remote.folder.log_path(KEY, "a-1")
    go.set()

    assert (await trying.sidecar()).attempt == "a-1"
    assert len(remote.service.agents) == 1
    assert (await trying.attempt.bill()).seconds == 2.0


async def test_a_joined_agent_may_fail_the_try(remote: Remote, go: asyncio.Event) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        agent.begin()
        await agent.work(go)
        return agent.say(RemoteOutcome.FAILED, error="exit code 7")

    remote.service.scripts = [script]
    await left(remote)
    trying = remote.attempt("a-2")
    await eventually(lambda: trying.attempt.log.endswith("a-1.log"), "it is joined")
    go.set()

    with pytest.raises(AttemptError, match="exit code 7"):
        await trying.sidecar()


async def test_a_store_that_is_away_as_the_next_attempt_joins_proves_nobody_dead(
    remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    called(remote, "a-1", ago=3600, ends_in=900)
    living = remote.agent("a-1")
    living.begin()
    progress = Path(remote.folder.remote_dir(KEY)) / "a-1.progress.json"
    progress.unlink()
    progress.mkdir()
    trying = remote.attempt("a-2", silent_seconds=60)
    await eventually(lambda: caplog.text.count("cannot look after remote attempt") > 2, "it is looked for in vain")
    progress.rmdir()
    living.publish()
    living.say(RemoteOutcome.PUBLISHED)

    assert (await trying.sidecar()).attempt == "a-1"
    assert remote.service.agents == []


@pytest.mark.parametrize("outcome", [RemoteOutcome.STOPPED, RemoteOutcome.LOST])
async def test_a_joined_agent_that_ends_without_a_word_on_the_work_is_followed_by_another(
    remote: Remote, go: asyncio.Event, outcome: RemoteOutcome
) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        agent.begin()
        await agent.work(go)
        return agent.say(outcome)

    remote.service.scripts = [script, lambda agent: agent.render(go)]
    await left(remote)
    trying = remote.attempt("a-2")
    await eventually(lambda: trying.attempt.log.endswith("a-1.log"), "it is joined")
    go.set()

    assert (await trying.sidecar()).attempt == "a-2"


async def test_an_agent_without_signs_of_life_is_told_to_stop_and_another_one_called(
    remote: Remote, go: asyncio.Event
) -> None:
    called(remote, "a-1")
    dead = remote.agent("a-1")
    dead.begin()
    remote.service.scripts = [lambda agent: agent.render(go)]
    go.set()

    assert (await remote.attempt("a-2").sidecar()).attempt == "a-2"
    assert remote.calls.is_stopped("a-1"), "should it live after all"


async def test_a_call_that_never_began_is_waited_for_as_long_as_a_cold_start_takes(
    remote: Remote, go: asyncio.Event
) -> None:
    called(remote, "a-1")
    remote.service.scripts = [lambda agent: agent.render(go)]
    go.set()
    began = time.monotonic()
    trying = remote.attempt("a-2", begin_seconds=0.6, silent_seconds=0.1)

    assert (await trying.sidecar()).attempt == "a-2"
    assert time.monotonic() - began > 0.5
    assert remote.calls.is_joined("a-1"), "it was waited for"
    assert remote.calls.is_stopped("a-1"), "it stops at once should it begin late"
    assert (await trying.attempt.bill()).seconds == 2.0, "nothing was billed for it"


async def test_a_cold_start_that_a_worker_left_is_joined_when_it_begins(remote: Remote, go: asyncio.Event) -> None:
    called(remote, "a-1")
    trying = remote.attempt("a-2", begin_seconds=600)
    await eventually(lambda: remote.calls.is_joined("a-1"), "it is waited for")
    assert not remote.calls.is_stopped("a-1")
    late = remote.agent("a-1")
    remote.service.work.append(asyncio.ensure_future(late.render(go)))
    go.set()

    assert (await trying.sidecar()).attempt == "a-1"


@pytest.mark.parametrize("why", ["past its end", "told to stop", "ended"])
async def test_nobody_waits_for_what_is_over(remote: Remote, go: asyncio.Event, why: str) -> None:
    called(remote, "a-1", ago=1000, ends_in=-1 if why == "past its end" else 900)
    if why == "told to stop":
        remote.calls.order_stop("a-1", "paused")
    if why == "ended":
        remote.agent("a-1").say(RemoteOutcome.FAILED)
    remote.service.scripts = [lambda agent: agent.render(go)]
    go.set()

    assert (await remote.attempt("a-2", begin_seconds=600, silent_seconds=600).sidecar()).attempt == "a-2"
    assert not remote.calls.is_joined("a-1")


async def test_a_chunk_that_its_agent_has_published_before_it_died_counts(remote: Remote) -> None:
    called(remote, "a-1")
    agent = remote.agent("a-1")
    agent.begin()
    agent.publish()

    assert (await remote.attempt("a-2").sidecar()).attempt == "a-1"
    assert remote.service.agents == []


async def test_a_store_that_is_away_proves_nobody_dead(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)]
    agent = await left(remote)
    trying = remote.attempt("a-2", silent_seconds=0.2)
    await eventually(lambda: trying.attempt.log.endswith("a-1.log"), "it is joined")
    progress = Path(remote.folder.remote_dir(KEY)) / "a-1.progress.json"
    agent.beat = lambda frames=0, **fields: None  # type: ignore[method-assign]
    progress.unlink()
    # Where a folder stands in the place of a file, reading it is an error of the system.
    progress.mkdir()
    await asyncio.sleep(0.5)
    go.set()
    await eventually(lambda: remote.calls.result("a-1") is not None, "the agent ends")
    progress.rmdir()

    assert (await trying.sidecar()).attempt == "a-1"
    assert len(remote.service.agents) == 1

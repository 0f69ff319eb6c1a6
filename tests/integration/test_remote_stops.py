"""Stopping remote work: a cancel reaches connection and agent at once, a freeze ends what would be paid for."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.farm import eventually
from support.remote.scripted_agent import KEY, Remote, ScriptedAgent
from temporalio.testing import ActivityEnvironment

from activities.attempts.host import Host
from activities.remote.protocol import RemoteCall, RemoteOutcome
from activities.remote.service import ServiceAnswer
from activities.stop_agents import StopActivities
from longtake.models.messages import StopAgentsOrder
from longtake.models.status import RemoteStop

pytestmark = pytest.mark.integration


async def deaf(agent: ScriptedAgent) -> ServiceAnswer:
    """An agent that works on whatever it is told."""
    agent.begin()
    while True:
        agent.beat(1)
        await asyncio.sleep(0.01)


async def test_a_cancel_closes_the_connection_and_waits_for_the_agents_word(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)]
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")

    stop = await trying.cancelled()

    assert stop is not None
    assert (stop.chunk, stop.where, stop.confirmed, stop.ends_at) == (0, "lambda scripted", True, None)
    assert 0 < stop.seconds < 10
    assert remote.service.hung_up == 1
    result = remote.calls.result("a-1")
    assert result is not None
    assert result.outcome is RemoteOutcome.STOPPED


async def test_a_stop_that_nobody_confirms_says_when_the_platform_ends_it(remote: Remote) -> None:
    remote.service.scripts = [deaf]
    trying = remote.attempt("a-1", stop_seconds=0.3)
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")

    stop = await trying.cancelled()

    assert stop is not None
    assert not stop.confirmed
    assert 0.3 <= stop.seconds < 10
    assert stop.ends_at is not None
    assert 890 < (stop.ends_at - datetime.now(UTC)).total_seconds() <= 900


async def test_a_call_of_which_nothing_was_sent_needs_no_stop(remote: Remote) -> None:
    remote.service.unreachable = True
    trying = remote.attempt("a-1", stop_seconds=30)
    await remote.service.reached_for.wait()
    assert remote.calls.attempts() == ["a-1"]

    stop = await trying.cancelled()

    assert stop is None
    assert remote.calls.attempts() == []
    assert not remote.calls.is_stopped("a-1")


async def test_processes_that_were_left_are_no_confirmation(remote: Remote, go: asyncio.Event) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        agent.begin()
        await agent.work(go)
        return agent.say(RemoteOutcome.STOPPED, survivors=1)

    remote.service.scripts = [script]
    trying = remote.attempt("a-1", stop_seconds=0.3)
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")

    stop = await trying.cancelled()

    assert stop is not None
    assert not stop.confirmed


async def test_somebody_who_has_little_time_waits_no_longer(remote: Remote) -> None:
    remote.watcher.most_grace_seconds = 0.2
    remote.service.scripts = [deaf]
    trying = remote.attempt("a-1", stop_seconds=30)
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")

    stop = await trying.cancelled()

    assert stop is not None
    assert stop.seconds < 10


async def test_a_cancel_before_the_call_reaches_nobody(remote: Remote) -> None:
    remote.slots = asyncio.Semaphore(0)
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.slots._waiters), "it waits for its turn")

    assert await trying.cancelled() is None
    assert remote.service.agents == []
    assert remote.calls.attempts() == []
    remote.slots.release()
    assert not remote.slots.locked(), "its turn is not lost"


async def test_a_cancel_of_a_joined_agent_stops_that(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)]
    remote.is_left = True
    first = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")
    await first.cancelled()
    remote.is_left = False
    second = remote.attempt("a-2")
    await eventually(lambda: second.attempt.log == remote.folder.log_path(KEY, "a-1"), "it is joined")

    stop = await second.cancelled()

    assert stop is not None
    assert stop.confirmed
    assert remote.calls.is_stopped("a-1")


async def test_a_freeze_stops_the_agent_and_another_one_goes_on(remote: Remote, go: asyncio.Event) -> None:
    remote.service.scripts = [lambda agent: agent.render(go)] * 2
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")

    remote.watcher.freeze_order = 7
    await eventually(lambda: remote.watcher.frozen_by == [7], "the freeze is confirmed")
    assert remote.calls.result("a-1") is not None, "not before the agent has stopped"
    assert remote.service.hung_up == 1
    assert not remote.slots.locked()

    remote.watcher.freeze_order = 0
    go.set()
    assert (await trying.sidecar()).attempt == "a-1.2"
    assert remote.watcher.frozen_by == [7, 0]
    assert trying.attempt.log == remote.folder.log_path(KEY, "a-1.2")
    assert trying.attempt.stop is None
    assert (await trying.attempt.bill()).seconds == 4.0


async def test_a_freeze_is_not_confirmed_while_an_agent_shows_signs_of_life(remote: Remote) -> None:
    remote.service.scripts = [deaf]
    trying = remote.attempt("a-1", stop_seconds=0.2, silent_seconds=0.3)
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")
    remote.watcher.freeze_order = 7
    await eventually(lambda: remote.calls.is_stopped("a-1"), "it is told")
    await asyncio.sleep(0.8)
    assert remote.watcher.frozen_by == []

    remote.service.work[0].cancel()

    await eventually(lambda: remote.watcher.frozen_by == [7], "it is dead")
    await trying.cancelled()


async def test_what_waits_for_its_turn_stands_frozen_at_once(remote: Remote, go: asyncio.Event) -> None:
    remote.slots = asyncio.Semaphore(0)
    remote.service.scripts = [lambda agent: agent.render(go)]
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.slots._waiters), "it waits for its turn")
    remote.watcher.freeze_order = 7
    await eventually(lambda: remote.watcher.frozen_by == [7], "nothing of it runs")
    remote.slots.release()
    await asyncio.sleep(0.1)
    assert remote.service.agents == []

    remote.watcher.freeze_order = 0
    go.set()
    assert (await trying.sidecar()).attempt == "a-1"


async def test_a_chunk_that_is_published_as_the_freeze_comes_is_done(remote: Remote, go: asyncio.Event) -> None:
    async def script(agent: ScriptedAgent) -> ServiceAnswer:
        agent.begin()
        await agent.work(go)
        agent.publish()
        return agent.say(RemoteOutcome.PUBLISHED)

    remote.service.scripts = [script]
    trying = remote.attempt("a-1")
    await eventually(lambda: bool(remote.watcher.heard), "the agent works")
    remote.watcher.freeze_order = 7

    assert (await trying.sidecar()).attempt == "a-1"


async def stop_lost(
    remote: Remote, on_heartbeat: Callable[..., None] = lambda *_: None, **order: object
) -> tuple[RemoteStop, ...]:
    """Run the activity that stops agents of lost workers, for the one chunk."""
    environment = ActivityEnvironment()
    environment.on_heartbeat = on_heartbeat
    remote.folder.create(remote.job.job, None)
    host = Host(None, None, {}, None, Path("/nowhere"))  # type: ignore[arg-type]  # only the store is used
    given = StopAgentsOrder.model_validate({"ref": remote.job.ref, "chunks": ((0, 1),), **order})
    return (await environment.run(StopActivities(host, remote.host()).stop_agents, given)).stops


def left_at_work(remote: Remote, name: str) -> ScriptedAgent:
    """Return an agent at work whose worker was lost."""
    now = datetime.now(UTC)
    call = RemoteCall(attempt=name, where="lambda scripted", called_at=now, ends_at=now + timedelta(seconds=900))
    remote.calls.write_call(call)
    agent = remote.agent(name)
    agent.begin()
    return agent


async def test_the_stop_of_a_lost_worker_is_waited_for_until_its_agent_confirms(
    remote: Remote, go: asyncio.Event
) -> None:
    """A worker that ends between the order and the confirmation must not leave a renderer behind an idle job."""
    agent = left_at_work(remote, "a-1")
    remote.calls.order_stop("a-1", "cancelled, by a worker that is lost before the agent says anything")
    beats: list[object] = []
    stopping = asyncio.ensure_future(stop_lost(remote, lambda *beat: beats.append(beat)))
    await eventually(lambda: len(beats) > 1, "it is at work for longer than a look at the records takes")
    assert not stopping.done(), "nothing says yet that its processes have ended"

    agent.say(RemoteOutcome.STOPPED)

    (stop,) = await stopping
    assert (stop.chunk, stop.where, stop.confirmed) == (0, "lambda scripted", True)


async def test_a_confirmation_that_no_worker_lived_to_read_is_counted_once(remote: Remote) -> None:
    agent = left_at_work(remote, "a-1")
    before = datetime.now(UTC)
    remote.calls.order_stop("a-1", "cancelled")
    agent.say(RemoteOutcome.STOPPED)

    (stop,) = await stop_lost(remote, since=before)
    assert (stop.chunk, stop.confirmed) == (0, True)
    assert await stop_lost(remote, since=datetime.now(UTC)) == (), "it was stopped in a pause that is over"
    assert await stop_lost(remote, since=before, reported=((0, 1),)) == (), "its own worker has told"


async def test_an_agent_that_was_told_to_stop_before_it_began_is_not_waited_for(remote: Remote) -> None:
    left_at_work(remote, "a-1").say(RemoteOutcome.FAILED)
    now = datetime.now(UTC)
    remote.calls.write_call(RemoteCall(attempt="a-2", where="", called_at=now, ends_at=now + timedelta(seconds=900)))
    remote.calls.order_stop("a-2", "it gives no sign of life")

    assert await stop_lost(remote, since=now) == ()

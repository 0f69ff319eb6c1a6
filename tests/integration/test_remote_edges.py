"""Remote work between Temporal and people: throttling, bills and stops, on a real server with scripted services."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import SecretStr
from support.command_line import Cli
from support.farm import Farm, serving, until, until_state, worker_settings
from temporalio import activity
from temporalio.worker import Worker

import worker
from activities.attempts.attempt import Attempt, Bill, MakeAttempt
from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host
from activities.backends.backend import RenderWatcher
from activities.errors import AttemptError, ThrottledError
from activities.remote.call_records import CallRecords
from activities.remote.protocol import RemoteCall
from activities.stop_agents import StopActivities
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar
from longtake import JobState, JobStatus, Retry
from longtake.chunks import Chunk
from longtake.models.backends import BackendKind
from longtake.models.messages import SpanOrder, SpanReport
from longtake.models.status import PauseMode, RemoteStop
from longtake.names import RENDER_SPAN, render_queue
from longtake.stores.factory import open_store
from longtake.stores.job_layout import chunk_key

pytestmark = pytest.mark.integration

WHERE = "lambda scripted"
DEADLINE = datetime(2099, 1, 1, tzinfo=UTC)


class Service:
    """A service that has no room at first, fails when it is told, and asks for 10 s and 0.5 USD a run."""

    def __init__(self) -> None:
        self.full = 0
        self.failing: set[int] = set()
        self.deaf: set[int] = set()
        self.runs: dict[int, int] = {}
        self.asked = 0


class ScriptedAttempt(ChunkAttempt):
    """Renders on this host, and speaks of it as if a service did."""

    def __init__(self, service: Service, host: Host, job: OpenJob, chunk: Chunk, name: str) -> None:
        super().__init__(host, job, chunk, name)
        self._service = service
        self._index = chunk.index

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        service = self._service
        service.asked += 1
        if service.full:
            service.full -= 1
            raise ThrottledError(f"{WHERE}: Rate Exceeded", wait_seconds=0.05)
        service.runs[self._index] = service.runs.get(self._index, 0) + 1
        if self._index in service.failing:
            raise AttemptError("no codec here")
        try:
            return await super().run(watcher)
        except asyncio.CancelledError:
            silent = self._index in service.deaf
            self.stop = RemoteStop(
                chunk=self._index,
                where=WHERE,
                confirmed=not silent,
                seconds=10 if silent else 1.2,
                ends_at=DEADLINE if silent else None,
            )
            raise

    async def bill(self) -> Bill:
        runs = self._service.runs.get(self._index, 0)
        return Bill(seconds=10.0 * runs, usd=0.5 * runs)


@pytest_asyncio.fixture
async def service(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """Workers that have chunks rendered by a scripted service, beside those of hosts."""
    service = Service()

    def remote_attempts(services: object, remote: object) -> MakeAttempt:
        def make(host: Host, job: OpenJob, chunk: Chunk, name: str) -> Attempt:
            return ScriptedAttempt(service, host, job, chunk, name)

        return make

    monkeypatch.setattr(worker, "make_remote_attempts", remote_attempts)
    settings = worker_settings(bare.task_queue, bare.store, slots=4)
    remote = {"lambda_functions": ("scripted",), "lambda_slots": 4, "remote_secret": SecretStr("not-a-secret")}
    async with serving(bare.client, settings.model_copy(update=remote)):
        yield service


async def begun(farm: Farm, **fields: Any) -> Any:
    return await farm.started(backend="lambda", **fields)


async def test_a_service_without_room_costs_time_and_no_tries(bare: Farm, service: Service) -> None:
    service.full = 9
    status = await bare.run(bare.job(chunks=3, backend="lambda", retry=Retry(attempts=1)))

    assert status.state is JobState.COMPLETED, status.error
    assert service.asked == 12
    assert status.backend is BackendKind.LAMBDA
    assert (status.metrics.billed_seconds, status.metrics.cost_usd) == (30, 1.5)


async def test_failed_tries_are_paid_for_too(bare: Farm, service: Service) -> None:
    service.failing = {1}
    retry = Retry(attempts=3, initial_seconds=0.01)
    status = await bare.run(bare.job(chunks=3, backend="lambda", retry=retry, on_chunk_failure="continue"))

    assert status.state is JobState.FAILED
    assert service.runs == {0: 1, 1: 3, 2: 1}
    assert (status.metrics.billed_seconds, status.metrics.cost_usd) == (50, 2.5)


async def test_a_held_chunk_that_is_taken_up_again_is_paid_for_once(bare: Farm, service: Service) -> None:
    service.failing = {1}
    job = await bare.submit(bare.job(chunks=3, backend="lambda", retry=Retry(attempts=2), on_chunk_failure="hold"))
    held = await until(job, lambda status: status.failed_chunks == 1 and status.state is JobState.PAUSED)
    assert held.metrics.cost_usd >= 1
    service.failing = set()
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)

    assert service.runs == {0: 1, 1: 3, 2: 1}
    assert (status.metrics.billed_seconds, status.metrics.cost_usd) == (50, 2.5)


async def test_a_cancelled_job_says_what_became_of_its_remote_work(bare: Farm, service: Service) -> None:
    service.deaf = {1}
    job = await begun(bare, running=3)
    status: JobStatus = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    stops = status.remote_stops
    assert (stops.where, stops.confirmed, stops.slowest_seconds) == (WHERE, 2, 1.2)
    assert [(stop.chunk, stop.ends_at) for stop in stops.unconfirmed] == [(1, DEADLINE)]
    assert stops.unconfirmed_count == 1
    assert (status.metrics.billed_seconds, status.metrics.cost_usd) == (30, 1.5)


async def test_a_pause_tells_of_its_stops_until_the_job_goes_on(bare: Farm, service: Service) -> None:
    job = await begun(bare, chunks=4, running=2)
    paused: JobStatus = await job.pause(mode=PauseMode.NOW, wait=True)
    assert paused.remote_stops.confirmed == 2
    assert paused.metrics.billed_seconds == 20

    bare.open_gate()
    resumed: JobStatus = await job.resume(wait=True)
    assert resumed.remote_stops.confirmed == 0
    status = await until_state(job, JobState.COMPLETED)

    assert service.runs == {0: 2, 1: 2, 2: 1, 3: 1}
    assert (status.metrics.billed_seconds, status.metrics.cost_usd) == (60, 3)


async def test_the_command_line_tells_it_to_people(bare: Farm, service: Service) -> None:
    cli = Cli(bare)
    job = await begun(bare, chunks=4, running=2)
    paused = await cli("pause", job.id, "--mode", "now", "--wait")
    shown = await cli("status", job.id)
    service.deaf = {0, 1}
    await cli("resume", job.id)
    await until(job, lambda status: service.runs.get(0) == service.runs.get(1) == 2)
    cancelled = await cli("cancel", job.id, "--wait")

    assert "2 chunks stopped on lambda scripted, confirmed after 1.2 s" in paused.out
    assert "Lambda" in shown.out
    assert "0:20 of Lambda, 1.00 USD" in shown.out
    assert "2 chunks stopped on lambda scripted" in shown.out
    assert "2 chunks asked to stop, not confirmed within 10 s; they end by themselves" in cancelled.out
    assert "at their deadline of 2099-01-01 00:00:00 UTC at the latest" in cancelled.out


async def test_doctor_shows_who_serves_lambda(bare: Farm, service: Service) -> None:
    ran = await Cli(bare)("doctor")

    assert "workers, rendering on Lambda" in ran.out
    assert f"queue {bare.task_queue}-lambda" in ran.out
    assert "Cloud Run" not in ran.out


class HangsUnheard:
    """A worker that is lost as it works: it has called an agent, and is never heard of again."""

    def __init__(self, scratch: Path) -> None:
        self.begun = asyncio.Event()
        self._scratch = scratch

    @activity.defn(name=RENDER_SPAN)
    async def render_span(self, order: SpanOrder) -> SpanReport:
        folder = JobFolder(open_store(order.ref.store_url, scratch=self._scratch), order.ref.id)
        now = datetime.now(UTC)
        call = RemoteCall(attempt="a-1", where=WHERE, called_at=now, ends_at=now + timedelta(seconds=870))
        CallRecords(folder, chunk_key(order.start)).write_call(call)
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.slow
async def test_an_agent_that_a_lost_worker_has_called_is_told_to_stop_and_may_not_answer(
    farm: Farm, tmp_path: Path
) -> None:
    lost = HangsUnheard(tmp_path)
    queue = render_queue(farm.task_queue, BackendKind.LAMBDA)
    async with Worker(farm.client, task_queue=queue, activities=[lost.render_span]):
        job = await farm.submit(farm.job(chunks=1, backend="lambda"))
        await lost.begun.wait()
        status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert status.remote_stops.confirmed == 0
    assert status.remote_stops.unconfirmed_count == 1
    (stop,) = status.remote_stops.unconfirmed
    assert (stop.chunk, stop.where) == (0, WHERE)
    assert stop.ends_at is not None
    assert timedelta(seconds=800) < stop.ends_at - datetime.now(UTC) <= timedelta(seconds=870)


async def test_agents_that_cannot_be_told_to_stop_are_named_when_the_job_ends(
    bare: Farm, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The activity that stops them gives up after errors; the job must not end as if nothing could run."""

    async def fail_with_a_bug(*_: object, **__: object) -> None:
        raise AttributeError("a bug")

    monkeypatch.setattr("activities.activity_context._MOST_UNEXPECTED_TRIES", 1)
    monkeypatch.setattr(StopActivities, "_stop", fail_with_a_bug)
    # Four run, and two stand in the queue, of which the job knows nothing when they are cancelled.
    job = await bare.submit(bare.job(chunks=6, options=("--gate", str(bare.gate)), max_parallel=6, backend="lambda"))
    await bare.ledger.until_started(4)
    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert (status.remote_stops.confirmed, status.remote_stops.unconfirmed_count) == (4, 2)

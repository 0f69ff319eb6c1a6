"""Remote jobs through Temporal: cancelled, paused, frozen, throttled, crashed, out of time."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, alive, eventually, serving, until, until_state
from support.remote.agent_farm import Services, services

from longtake import FrameRange, JobState, RenderJobSpec, Retry
from longtake.models.backends import BackendKind
from longtake.models.status import PauseMode

pytestmark = pytest.mark.integration

REMOTE = [BackendKind.LAMBDA, BackendKind.CLOUD_RUN]
# Where the other one shows the same.
LAMBDA_FIRST = [BackendKind.LAMBDA, pytest.param(BackendKind.CLOUD_RUN, marks=pytest.mark.slow)]
CLOUD_RUN_FIRST = [BackendKind.CLOUD_RUN, pytest.param(BackendKind.LAMBDA, marks=pytest.mark.slow)]
FRAME_RENDERER = Path(__file__).parents[1] / "support" / "renderers" / "frame_renderer.py"

Serve = Callable[..., AbstractAsyncContextManager[Services]]


@pytest.fixture
def serve(bare: Farm, tmp_path: Path) -> Serve:
    """Run a service and a worker that calls it."""

    @asynccontextmanager
    async def run(kind: BackendKind, **options: Any) -> AsyncIterator[Services]:
        service = services(kind, (str(bare.store),), tmp_path, **options)
        async with service as running, serving(bare.client, running.settings(bare)):
            yield running

    return run


def gated(farm: Farm, kind: BackendKind, **fields: Any) -> RenderJobSpec:
    options = ("--gate", str(farm.gate), "--child")
    return farm.job(**{"chunks": 2, "options": options, "backend": kind.value, "max_parallel": 2, **fields})


def tree(farm: Farm) -> list[int]:
    return [*farm.ledger.pids, *(int(line[2]) for line in farm.ledger.lines("child"))]


@pytest.mark.parametrize("kind", REMOTE)
async def test_a_cancel_says_that_all_remote_work_has_stopped(bare: Farm, serve: Serve, kind: BackendKind) -> None:
    async with serve(kind):
        job = await bare.submit(gated(bare, kind))
        await eventually(lambda: len(bare.ledger.lines("child")) == 2, "two renders run")
        await job.cancel()
        status = await until_state(job, JobState.CANCELLED)

        assert not any(map(alive, tree(bare)))
        stops = status.remote_stops
        assert (stops.confirmed, stops.unconfirmed_count, stops.unconfirmed) == (2, 0, ())
        assert 0 < stops.slowest_seconds < 20
        assert stops.where.startswith("lambda longtake-render" if kind is BackendKind.LAMBDA else "cloud run 127.0.0.1")
        assert status.metrics.billed_seconds > 0


@pytest.mark.parametrize("kind", CLOUD_RUN_FIRST)
async def test_a_pause_now_stops_remote_work_and_a_resume_renders_it_again(
    bare: Farm, serve: Serve, kind: BackendKind
) -> None:
    async with serve(kind):
        job = await bare.submit(gated(bare, kind))
        await eventually(lambda: len(bare.ledger.lines("child")) == 2, "two renders run")
        status = await job.pause(mode=PauseMode.NOW, wait=True)

        assert status.state is JobState.PAUSED
        assert status.remote_stops.confirmed == 2
        assert not any(map(alive, tree(bare)))
        bare.open_gate()
        await job.resume()
        status = await until_state(job, JobState.COMPLETED)

    assert sorted(bare.ledger.started) == [0, 0, 1, 1]


@pytest.mark.slow
async def test_a_stop_that_no_agent_confirms_names_its_deadline(bare: Farm, serve: Serve) -> None:
    async with serve(BackendKind.LAMBDA) as running:
        assert running.function is not None
        job = await bare.submit(gated(bare, BackendKind.LAMBDA, chunks=1))
        await eventually(lambda: len(bare.ledger.lines("child")) == 1, "a render runs")
        # A sandbox that hangs: nothing in it runs, and nobody can tell.
        pid = running.function.environments[0].pid
        os.kill(pid, signal.SIGSTOP)
        await job.cancel()
        status = await until_state(job, JobState.CANCELLED)
        os.kill(pid, signal.SIGCONT)

        assert status.remote_stops.confirmed == 0
        (stop,) = status.remote_stops.unconfirmed
        assert stop.chunk == 0
        assert 9 < stop.seconds < 60
        assert stop.ends_at is not None


@pytest.mark.parametrize("kind", LAMBDA_FIRST)
async def test_a_freeze_stops_what_would_be_paid_for_and_keeps_its_frames(
    bare: Farm, serve: Serve, kind: BackendKind
) -> None:
    program = (sys.executable, "-S", "-E", str(FRAME_RENDERER), "{output}", "--start", "{start}", "--count", "{count}")
    options = ("--ledger", str(bare.ledger.path), "--gate", str(bare.gate), "--gate-at", "6")
    async with serve(kind):
        job = await bare.submit(
            RenderJobSpec(
                frames=FrameRange(count=12, per_chunk=12),
                command=(*program, *options),
                chunk_output="frames/f_{frame:06}.png",
                backend=kind.value,
                base_dir=str(bare.store),
                retry=Retry(attempts=1),
            )
        )
        await until(job, lambda status: any(chunk.frames_done >= 6 for chunk in status.running))
        status = await job.pause(mode=PauseMode.FREEZE, wait=True)
        assert status.state is JobState.PAUSED
        assert status.frozen_chunks == 1
        assert not any(map(alive, bare.ledger.pids))
        bare.open_gate()
        await job.resume()
        await until_state(job, JobState.COMPLETED)

    records = bare.store / ".longtake" / job.id / "remote" / "000000"
    assert len(list(records.glob("*.call.json"))) == 2


async def test_a_service_without_room_costs_no_try(bare: Farm, serve: Serve) -> None:
    async with serve(BackendKind.LAMBDA, concurrency=1) as running:
        options = ("--seconds", "0.5")
        job = bare.job(chunks=3, options=options, max_parallel=3, backend="lambda", retry=Retry(attempts=1))
        status = await bare.run(job)

    assert status.state is JobState.COMPLETED, status.error
    assert running.function is not None
    assert running.service is not None
    assert sorted(bare.ledger.started) == list(range(3))
    assert running.function.most_running <= 1
    assert len(running.service.arrivals) > 3, "it was asked more often than it had room"


async def test_a_crashed_function_is_a_failed_try_and_the_next_one_succeeds(bare: Farm, serve: Serve) -> None:
    async with serve(BackendKind.LAMBDA) as running:
        assert running.function is not None
        job = await bare.submit(gated(bare, BackendKind.LAMBDA, chunks=1, retry=Retry(attempts=2, initial_seconds=0)))
        await eventually(lambda: len(bare.ledger.lines("child")) == 1, "a render runs")
        os.kill(running.function.environments[0].pid, signal.SIGKILL)
        status = await until(job, lambda status: any(chunk.attempt == 2 for chunk in status.running))
        bare.open_gate()
        status = await until_state(job, JobState.COMPLETED)

    assert sorted(bare.ledger.started) == [0, 0]
    assert status.metrics.billed_seconds > 0


async def test_a_function_that_times_out_says_what_to_change(bare: Farm, serve: Serve) -> None:
    async with serve(BackendKind.LAMBDA, timeout=3) as running:
        assert running.function is not None
        # An agent that knows its deadline ends its render before that.
        running.function.deadline_error_seconds = 60
        status = await bare.run(gated(bare, BackendKind.LAMBDA, chunks=1, retry=Retry(attempts=1)))

    assert status.state is JobState.FAILED
    assert "Task timed out after 3.00 seconds; give the function a longer timeout" in status.failures[0].error
    assert not any(map(alive, tree(bare)))


async def test_a_chunk_that_takes_longer_than_a_call_says_how_small_it_must_be(bare: Farm, serve: Serve) -> None:
    async with serve(BackendKind.CLOUD_RUN, LONGTAKE_DEADLINE_SECONDS="5", LONGTAKE_MARGIN_SECONDS="2"):
        status = await bare.run(gated(bare, BackendKind.CLOUD_RUN, chunks=1, retry=Retry(attempts=3)))

    assert status.state is JobState.FAILED
    assert len(bare.ledger.started) == 1, "it would take no less time once more"
    assert "this function ends after 5 s" in status.failures[0].error


async def test_a_service_that_workers_may_not_call_is_refused_when_the_job_is_planned(bare: Farm, serve: Serve) -> None:
    async with serve(BackendKind.LAMBDA):
        status = await bare.run(bare.job(backend={"type": "lambda", "function": "other"}))

    assert status.state is JobState.FAILED
    assert status.error is not None
    assert "backend.function: other is none that jobs may call here (longtake-render)" in status.error


@pytest.mark.parametrize("kind", REMOTE)
async def test_an_agent_with_another_secret_refuses_and_says_so_and_is_not_asked_again(
    bare: Farm, serve: Serve, kind: BackendKind
) -> None:
    async with serve(kind, LONGTAKE_REMOTE_SECRET="of another farm"):
        status = await bare.run(gated(bare, kind, chunks=1, retry=Retry(attempts=3)))

    assert status.state is JobState.FAILED
    (failure,) = status.failures
    assert failure.error.endswith("refused the order: the order is not signed with the secret of this agent")
    assert failure.attempts == 1
    assert bare.ledger.started == []
    assert list((bare.store / ".longtake").glob("*/remote/*/*.began.json")) == []

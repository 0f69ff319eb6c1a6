"""Killed loses nothing: workers and the Temporal server die in the middle of a job, and the job does not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.farm import Farm, alive, eventually, until, until_state
from support.jobs.films import PICTURE, frame_digests, lossless_job
from support.jobs.gates import behind_gate
from support.processes.workers import worker_process
from support.servers.temporal import RestartableServer

from longtake import JobState, RenderClient, RenderJobSpec
from longtake.connection import connect

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def half_done(farm: Farm) -> RenderJobSpec:
    """Return a job of twelve chunks, of which six wait for the gate."""
    job = lossless_job(farm.store, frames=120, per_chunk=10)
    assert job.command
    return job.model_copy(update={"max_parallel": 2, "command": behind_gate(farm.gate, job.command, from_chunk=6)})


def published(farm: Farm) -> dict[str, int]:
    """Return when each chunk of that job was written: who renders one again writes it anew."""
    return {path.name: path.stat().st_mtime_ns for path in (farm.store / "chunks").iterdir()}


async def test_a_job_outlives_its_killed_worker(bare: Farm, ffmpeg: str) -> None:
    async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
        job = await bare.submit(half_done(bare))
        await until(job, lambda status: status.progress == 50)
        worker.kill()
        await worker.wait()
    before, records = published(bare), bare.sidecars(job.id)
    assert len(before) == 6
    bare.open_gate()

    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(job, JobState.COMPLETED)

    assert published(bare).items() >= before.items()
    assert bare.sidecars(job.id).items() >= records.items()
    assert status.result is not None
    film = frame_digests(ffmpeg, "-i", str(status.result.output))
    undisturbed = frame_digests(ffmpeg, "-f", "lavfi", "-i", PICTURE, "-frames:v", "120", "-pix_fmt", "yuv420p")
    assert film == undisturbed


async def test_finished_chunks_are_not_rendered_again_after_a_kill(bare: Farm) -> None:
    gate = ("--gate", str(bare.gate), "--only", "4", "--only", "5")
    async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
        job = await bare.submit(bare.job(chunks=8, options=gate, max_parallel=2))
        await until(job, lambda status: status.completed_chunks == 4)
        await eventually(lambda: bool({4, 5} & set(bare.ledger.started)), "a chunk that waits starts")
        worker.kill()
        await worker.wait()
    finished = set(bare.ledger.ended)
    bare.open_gate()

    async with worker_process(bare.address, bare.task_queue, bare.store):
        await until_state(job, JobState.COMPLETED)

    assert finished >= {0, 1, 2, 3}
    assert all(bare.ledger.started.count(chunk) == 1 for chunk in finished)


async def test_a_worker_that_is_told_to_stop_gives_its_chunks_back_at_once(bare: Farm) -> None:
    gate = ("--gate", str(bare.gate))
    async with worker_process(bare.address, bare.task_queue, bare.store, LONGTAKE_SHUTDOWN_GRACE_SECONDS="0") as worker:
        job = await bare.submit(bare.job(chunks=2, options=gate, max_parallel=2))
        await bare.ledger.until_started(2)
        worker.terminate()
        assert await worker.wait() == 0
        assert not any(map(alive, bare.ledger.pids))
    bare.open_gate()

    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(job, JobState.COMPLETED)

    assert status.failed_chunks == 0


async def test_jobs_are_paused_and_cancelled_while_no_worker_runs(bare: Farm) -> None:
    async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
        job = await bare.submit(bare.job(chunks=4, options=("--gate", str(bare.gate)), max_parallel=2))
        await bare.ledger.until_started(2)
        worker.kill()
        await worker.wait()
    assert (await job.status()).state is JobState.RUNNING
    await job.cancel()
    bare.open_gate()

    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(job, JobState.CANCELLED)

    assert status.state is JobState.CANCELLED
    await eventually(lambda: not any(map(alive, bare.ledger.pids)), "the renders end")


@pytest_asyncio.fixture
async def restartable(temporal_program: Path, tmp_path: Path) -> AsyncIterator[RestartableServer]:
    server = RestartableServer(temporal_program, tmp_path)
    await server.start()
    yield server
    await server.stop()


async def test_a_job_outlives_a_restart_of_the_temporal_server(restartable: RestartableServer, store: Path) -> None:
    client = await connect(address=restartable.address)
    farm = Farm(restartable.address, "restart", client, RenderClient(client, task_queue="restart"), store)
    gate = ("--gate", str(farm.gate), "--only", "4", "--only", "5")
    async with worker_process(farm.address, "restart", store):
        job = await farm.submit(farm.job(chunks=8, options=gate, max_parallel=2))
        await until(job, lambda status: status.completed_chunks == 4)
        await eventually(lambda: bool({4, 5} & set(farm.ledger.started)), "a chunk that waits starts")
        before = farm.sidecars(job.id)

        await restartable.stop()
        # The renders go on without a server; they are paid for.
        await asyncio.sleep(1)
        waiting = [int(line[2]) for line in farm.ledger.lines("start") if int(line[1]) in (4, 5)]
        assert waiting
        assert all(map(alive, waiting))
        await restartable.start()
        farm.open_gate()
        again = RenderClient(await connect(address=restartable.address), task_queue="restart").job(job.id)
        status = await until_state(again, JobState.COMPLETED)

    assert status.completed_chunks == 8
    assert farm.sidecars(job.id).items() >= before.items()
    assert all(farm.ledger.started.count(chunk) == 1 for chunk in range(4))


async def test_a_film_is_the_same_film_after_a_restart_of_the_temporal_server(
    restartable: RestartableServer, store: Path, ffmpeg: str
) -> None:
    client = await connect(address=restartable.address)
    farm = Farm(restartable.address, "restart", client, RenderClient(client, task_queue="restart"), store)
    async with worker_process(farm.address, "restart", store):
        job = await farm.submit(half_done(farm))
        await until(job, lambda status: status.progress == 50)
        await restartable.stop()
        before, records = published(farm), farm.sidecars(job.id)
        await restartable.start()
        farm.open_gate()
        again = RenderClient(await connect(address=restartable.address), task_queue="restart").job(job.id)
        status = await until_state(again, JobState.COMPLETED)

    assert len(before) == 6
    assert published(farm).items() >= before.items()
    assert farm.sidecars(job.id).items() >= records.items()
    assert status.result is not None
    film = frame_digests(ffmpeg, "-i", str(status.result.output))
    assert film == frame_digests(ffmpeg, "-f", "lavfi", "-i", PICTURE, "-frames:v", "120", "-pix_fmt", "yuv420p")

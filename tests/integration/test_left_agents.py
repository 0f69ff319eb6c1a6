"""Agents that a lost worker has left at work: a job that is cancelled or paused meanwhile ends them first."""

from pathlib import Path

import pytest
from support.farm import Farm, alive, serving, until, until_state, worker_settings
from support.processes.workers import worker_process
from support.remote.agent_farm import services

from longtake import JobHandle, JobPhase, JobState, PauseMode, Retry
from longtake.models.backends import BackendKind

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHUNKS = 3
REMOTE = [BackendKind.LAMBDA, BackendKind.CLOUD_RUN]


async def begun(farm: Farm, kind: BackendKind) -> JobHandle:
    """Return a job whose chunks are all rendered elsewhere, and wait for the gate."""
    options = ("--gate", str(farm.gate))
    fields = {"backend": kind.value, "max_parallel": CHUNKS, "retry": Retry(attempts=1)}
    job = await farm.submit(farm.job(chunks=CHUNKS, options=options, **fields))
    await farm.ledger.until_started(CHUNKS)
    return job


@pytest.mark.parametrize("kind", REMOTE)
async def test_cancelled_means_dead_also_when_the_worker_died_first(
    bare: Farm, tmp_path: Path, kind: BackendKind
) -> None:
    async with services(kind, (str(bare.store),), tmp_path, LONGTAKE_ORPHAN_SECONDS="120") as running:
        async with worker_process(bare.address, bare.task_queue, bare.store, slots=2, **running.environment) as first:
            job = await begun(bare, kind)
            first.kill()
            await first.wait()
        await job.cancel()
        assert all(map(alive, bare.ledger.pids))
        async with worker_process(bare.address, bare.task_queue, bare.store, slots=2, **running.environment):
            status = await until_state(job, JobState.CANCELLED)
        survivors = [pid for pid in bare.ledger.pids if alive(pid)]

    assert survivors == []
    assert (status.remote_stops.confirmed, status.remote_stops.unconfirmed) == (CHUNKS, ())


@pytest.mark.parametrize("mode", list(PauseMode))
async def test_paused_means_idle_also_when_the_worker_died_first(bare: Farm, tmp_path: Path, mode: PauseMode) -> None:
    kind = BackendKind.CLOUD_RUN
    async with services(kind, (str(bare.store),), tmp_path, LONGTAKE_ORPHAN_SECONDS="120") as running:
        async with worker_process(bare.address, bare.task_queue, bare.store, slots=2, **running.environment) as first:
            job = await begun(bare, kind)
            first.kill()
            await first.wait()
        await job.pause(mode=mode)
        # Renders of a lost worker that begin before the job has heard of its pause would be left to finish.
        async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)):
            await until(job, lambda status: status.phase is JobPhase.PAUSING)
        async with worker_process(bare.address, bare.task_queue, bare.store, slots=2, **running.environment):
            paused = await until_state(job, JobState.PAUSED)
            survivors = [pid for pid in bare.ledger.pids if alive(pid)]
            bare.open_gate()
            await job.resume()
            status = await until_state(job, JobState.COMPLETED)

    assert survivors == []
    # A stop whose worker ends before the agent has confirmed it was ordered all the same, and is in no report.
    assert 0 < paused.remote_stops.confirmed + paused.frozen_chunks <= CHUNKS
    assert status.completed_chunks == CHUNKS

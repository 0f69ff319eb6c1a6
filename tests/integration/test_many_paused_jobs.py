"""Paused and pausing jobs keep no place on the farm that other jobs need."""

import asyncio

import pytest
from support.farm import Farm, serving, until, until_state, worker_settings

from longtake import JobHandle, JobState
from longtake.models.status import JobPhase
from longtake.names import FIND_WAITING

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# More than a worker plans, drains and stitches at once.
JOBS = 50
AT_ONCE = 5


async def test_fifty_paused_jobs_leave_the_farm_to_others(farm: Farm) -> None:
    gate = ("--gate", str(farm.gate))
    jobs: list[JobHandle] = []
    async with asyncio.timeout(300):
        for _ in range(0, JOBS, AT_ONCE):
            farm.close_gate()
            some = [
                await farm.submit(farm.job(chunks=2, options=gate, chunk_output=f"{number}/{{chunk}}", max_parallel=1))
                for number in range(len(jobs), len(jobs) + AT_ONCE)
            ]
            # The worker has four slots: one job pauses with nothing but a chunk in the queue.
            await farm.ledger.until_started(len(farm.ledger.ended) + 4)
            await asyncio.gather(*(job.pause() for job in some))
            farm.open_gate()
            for job in some:
                await until_state(job, JobState.PAUSED)
            jobs += some

        other = await farm.submit(farm.job(chunks=1, chunk_output="other.txt"))
        await until_state(other, JobState.COMPLETED)
        for job in jobs:
            handle = farm.client.get_workflow_handle(job.id)
            while pending := list((await handle.describe()).raw_description.pending_activities):
                assert [each.activity_type.name for each in pending] == [FIND_WAITING]
                await asyncio.sleep(0.1)


async def test_a_job_that_drains_for_long_keeps_no_slot(bare: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker._ORCHESTRATION_SLOTS", 1)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        job = await bare.started(chunks=2, running=1)
        await job.pause()
        await until(job, lambda status: status.phase is JobPhase.PAUSING)

        other = await bare.submit(bare.job(chunks=1, chunk_output="other.txt"))
        async with asyncio.timeout(60):
            await until_state(other, JobState.COMPLETED)

        assert (await job.status()).phase is JobPhase.PAUSING
        bare.open_gate()
        assert (await until_state(job, JobState.PAUSED)).completed_chunks == 1

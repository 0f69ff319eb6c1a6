"""Every reason for which a render is stopped, other than a job's own: each frees the slot and loses nothing."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.farm import Farm, alive, eventually, until, until_state
from support.processes.workers import worker_process
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import PauseActivityRequest, ResetActivityRequest, UnpauseActivityRequest

from longtake import JobHandle, JobState

pytestmark = pytest.mark.integration


async def test_a_worker_that_is_told_to_stop_gives_its_chunks_to_others_at_once(bare: Farm) -> None:
    async with worker_process(bare.address, bare.task_queue, bare.store) as first:
        job = await bare.started(chunks=4)
        first.terminate()
        assert await first.wait() == 0
        assert not any(map(alive, bare.ledger.pids))
        bare.open_gate()
        async with worker_process(bare.address, bare.task_queue, bare.store):
            status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == 4
    assert sorted(bare.ledger.started) == [0, 0, 1, 1, 2, 3], "Retry(attempts=1): a stop is no failed try"


async def test_what_ends_within_the_grace_counts_and_nothing_new_begins(bare: Farm) -> None:
    """Short chunks share a span: a worker that stops does not begin the next one."""
    async with worker_process(
        bare.address, bare.task_queue, bare.store, slots=1, LONGTAKE_SHUTDOWN_GRACE_SECONDS="30"
    ) as worker:
        job = await bare.started(chunks=12, running=1, options=("--only", "4"))
        await eventually(lambda: 4 in bare.ledger.started, "chunk 4 runs")
        worker.terminate()
        await eventually(lambda: "stopping:" in worker.log, "the worker stops")
        bare.open_gate()
        assert await worker.wait() == 0
    assert bare.ledger.ended[-1] == 4
    assert bare.is_finished(job.id, 4)
    begun = len(bare.ledger.started)

    async with worker_process(bare.address, bare.task_queue, bare.store):
        await until_state(job, JobState.COMPLETED)
    assert begun == 5
    assert sorted(bare.ledger.started) == list(range(12))


def execution(farm: Farm, job: JobHandle) -> dict[str, object]:
    return {"namespace": farm.client.namespace, "execution": WorkflowExecution(workflow_id=job.id)}


@pytest_asyncio.fixture
async def running(farm: Farm) -> AsyncIterator[tuple[JobHandle, str]]:
    """A job with one render that waits, and the id of its activity."""
    job = await farm.started(chunks=1, running=1)
    description = await farm.client.get_workflow_handle(job.id).describe()
    (pending,) = description.raw_description.pending_activities
    yield job, pending.activity_id


async def test_an_activity_that_is_paused_in_temporal_stops_and_goes_on_when_unpaused(
    farm: Farm, running: tuple[JobHandle, str]
) -> None:
    job, activity_id = running
    service = farm.client.workflow_service
    await service.pause_activity(PauseActivityRequest(**execution(farm, job), id=activity_id))  # type: ignore[arg-type]
    await eventually(lambda: not any(map(alive, farm.ledger.pids)), "the paused render stops")
    await until(job, lambda status: [chunk.waiting for chunk in status.running] == [True])
    farm.open_gate()

    await service.unpause_activity(UnpauseActivityRequest(**execution(farm, job), id=activity_id))  # type: ignore[arg-type]

    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 1
    assert farm.ledger.started == [0, 0]


@pytest.mark.parametrize("request_name", ["pause", "cancel"])
async def test_a_job_with_an_activity_paused_in_temporal_can_be_paused_and_cancelled(
    farm: Farm, running: tuple[JobHandle, str], request_name: str
) -> None:
    job, activity_id = running
    service = farm.client.workflow_service
    await service.pause_activity(PauseActivityRequest(**execution(farm, job), id=activity_id))  # type: ignore[arg-type]
    await until(job, lambda status: [chunk.waiting for chunk in status.running] == [True])

    status = await getattr(job, request_name)(wait=True)

    assert status.state is (JobState.PAUSED if request_name == "pause" else JobState.CANCELLED)
    assert not any(map(alive, farm.ledger.pids))


async def test_an_activity_that_is_reset_in_temporal_begins_anew(farm: Farm, running: tuple[JobHandle, str]) -> None:
    job, activity_id = running
    await farm.client.workflow_service.reset_activity(
        ResetActivityRequest(**execution(farm, job), id=activity_id)  # type: ignore[arg-type]
    )
    await farm.ledger.until_started(2)
    first, second = farm.ledger.pids
    await eventually(lambda: not alive(first), "the render that was reset stops")
    assert alive(second)
    farm.open_gate()

    await until_state(job, JobState.COMPLETED)


async def test_a_job_that_is_terminated_in_temporal_leaves_nothing_running(farm: Farm) -> None:
    job = await farm.started()
    await farm.client.get_workflow_handle(job.id).terminate("by the test")

    await eventually(lambda: not any(map(alive, farm.ledger.pids)), "the renders of the terminated job stop")
    assert (await job.status()).state is JobState.FAILED

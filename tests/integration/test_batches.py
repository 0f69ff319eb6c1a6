"""A job with more running spans than one workflow can hold renders them in workflows of their own."""

from collections.abc import AsyncIterator

import pytest
from support.farm import Farm, serving, until_state, worker_settings

from longtake import JobHandle, JobState
from workflows import scheduling

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than four spans are batches of two."""
    monkeypatch.setattr(scheduling, "MOST_RUNNING", 4)
    monkeypatch.setattr(scheduling, "BATCH_SLOTS", 2)


@pytest.fixture
async def wide(bare: Farm) -> AsyncIterator[Farm]:
    """A farm with a slot for each of eight spans."""
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=8)):
        yield bare


async def batches(farm: Farm, job: JobHandle) -> list[str]:
    """Return the ids of the batches of a job that have not ended."""
    description = await farm.client.get_workflow_handle(job.id).describe()
    return [each.workflow_id for each in description.raw_description.pending_children]


async def test_a_job_in_batches_renders_each_chunk_once(wide: Farm) -> None:
    status = await wide.run(wide.job(chunks=60, max_parallel=8))

    assert status.state is JobState.COMPLETED, status.error
    assert status.completed_chunks == 60
    assert sorted(wide.ledger.started) == list(range(60))
    assert status.metrics.render_seconds > 0


async def test_all_slots_are_used_at_once(wide: Farm) -> None:
    job = await wide.started(chunks=20, running=8)
    assert len(await batches(wide, job)) == 4
    assert len(wide.ledger.started) == 8
    wide.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 20
    assert sorted(wide.ledger.started) == list(range(20))

"""A worker that does not see the store of a job leaves its chunks to those that do."""

from collections import Counter

import pytest
from support.farm import Farm, eventually, until_state
from support.processes.workers import own_mount, worker_process, worker_program
from temporalio.api.enums.v1 import EventType

from longtake import JobState

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BLIND = "host-without-the-mount"


async def test_a_worker_without_the_mount_does_not_take_every_chunk(bare: Farm) -> None:
    """The job is accepted by one that sees its folder; one that comes then, and does not, takes a few at most."""
    job = await bare.submit(bare.job(chunks=12, options=("--gate", str(bare.gate)), max_parallel=4))
    async with worker_process(bare.address, bare.task_queue, bare.store, slots=1) as sees:
        await bare.ledger.until_started(1)
        # At the same path it has an empty folder, as where a share is not mounted.
        through = own_mount("-t", "tmpfs", "tmpfs", str(bare.store))
        async with worker_program(
            bare.address, bare.task_queue, bare.store, slots=2, through=through, LONGTAKE_HOST=BLIND
        ) as blind:
            await eventually(lambda: "does not see" in blind.log, "it takes a chunk")
            bare.open_gate()
            status = await until_state(job, JobState.COMPLETED)

            assert (status.completed_chunks, status.failed_chunks) == (12, 0)
            lines = [line for line in blind.log.splitlines() if "does not see" in line]
            assert len(lines) == 1, "it says so once"
            assert f"until then {BLIND} renders nothing of jobs there" in lines[0]
        assert "does not see" not in sees.log
    assert sorted(bare.ledger.started) == list(range(12))
    history = await bare.client.get_workflow_handle(job.id).fetch_history()
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    ]
    assert sum(attempts) - len(attempts) < 12, f"it took fewer than there are: {Counter(attempts)}"

"""Orders of jobs, told to all workers of a farm by one workflow; and the same promises without it."""

import time

import pytest
from support.farm import Farm, standing, until, until_state

from longtake import JobState
from longtake.models.status import PauseMode
from longtake.names import farm_control_id

pytestmark = [pytest.mark.integration]


async def test_a_freeze_is_shown_at_once(farm: Farm) -> None:
    seconds: list[float] = []
    job = await farm.started()
    for _ in range(30):
        began = time.monotonic()
        status = await job.pause(mode=PauseMode.FREEZE, wait=True)
        seconds.append(time.monotonic() - began)
        assert status.frozen_chunks == 2
        assert all(map(standing, farm.ledger.pids))
        await job.resume(wait=True)
        await until(job, lambda status: status.running_chunks == 2)
    print("freeze shown after", sorted(seconds))
    d = await farm.client.get_workflow_handle(farm_control_id(farm.task_queue)).describe()
    print(d.status, d.history_length)
    print((await farm.client.get_workflow_handle(job.id).describe()).history_length)
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)

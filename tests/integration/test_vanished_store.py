"""A share that vanishes leaves an empty folder at its mount point, which is no store."""

from pathlib import Path

import pytest
from support.farm import Farm, eventually, until

from longtake import JobState, Retry

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("when", ["rendering", "between chunks"])
async def test_nothing_is_published_on_the_disk_below_a_share_that_vanished(farm: Farm, when: str) -> None:
    options = ("--gate", str(farm.gate), "--only", "0" if when == "rendering" else "1")
    job = await farm.submit(farm.job(chunks=2, options=options, max_parallel=1, retry=Retry(attempts=1)))
    await farm.ledger.until_started(1 if when == "rendering" else 2)
    away = farm.store.with_name("share")
    farm.store.rename(away)
    farm.store.mkdir()
    farm.open_gate()
    waits = await until(job, lambda status: "share" in str(status.running) or status.state.has_ended)

    assert waits.state is JobState.RUNNING, waits.error
    assert not list(farm.store.rglob("*.txt"))
    assert not list(farm.store.rglob("chunks"))

    farm.store.rename(farm.store.with_name("mount-point"))
    away.rename(farm.store)
    status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error
    assert sorted(path.name for path in (farm.store / "out").iterdir()) == ["000000.txt", "000001.txt"]


async def test_a_job_whose_share_vanishes_while_its_chunks_are_merged_is_not_done(farm: Farm) -> None:
    """Its film cannot be told from the words of the command: the exit code is all there is."""
    merge = ("sh", "-c", 'touch "$0.begun"; until [ -e "$0" ]; do sleep 0.02; done', str(farm.gate))
    job = await farm.submit(farm.job(chunks=1, merge_command=merge))
    await eventually(Path(f"{farm.gate}.begun").exists, "the merge command runs")
    away = farm.store.with_name("share")
    farm.store.rename(away)
    farm.store.mkdir()
    farm.open_gate()
    history = farm.client.get_workflow_handle(job.id)

    async def is_retried() -> bool:
        pending = (await history.describe()).raw_description.pending_activities
        return any(activity.attempt > 1 for activity in pending)

    status = await job.status()
    while not await is_retried() and not status.state.has_ended:
        status = await job.status()
    assert status.state is JobState.RUNNING

    farm.store.rename(farm.store.with_name("mount-point"))
    away.rename(farm.store)
    status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error

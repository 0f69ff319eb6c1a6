"""A share that vanishes leaves an empty folder at its mount point, which is no store."""

import pytest
from support.farm import Farm, until

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

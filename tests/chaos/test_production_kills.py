"""The farm of `make production`, killed part by part over and over, and its pushed cancels measured."""

from pathlib import Path
from random import Random

import pytest
from support.kills.production_kills import VICTIMS, ProductionKills
from support.measurements import Distribution
from support.renderers.signal_times import measure_cancel
from support.servers.production import jobs_of, production_farm

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.farm, pytest.mark.timeout(900)]

SLOW_HEARTBEATS = Path(__file__).parents[1] / "support" / "processes" / "slow_heartbeat_worker.py"
ROUNDS = 3
RUNS = 30
# 0.15 s with a server in memory; here each step is a commit of PostgreSQL, on two cores that six programs share.
PROMISE_SECONDS = 0.250


async def test_jobs_complete_whatever_is_killed_in_whatever_order(
    random: Random, capsys: pytest.CaptureFixture[str]
) -> None:
    async with production_farm() as production:
        for _ in range(ROUNDS):
            mishaps = await ProductionKills.on(production, chunks=60)
            mishaps.check(await mishaps.run(tuple(random.sample([*VICTIMS, *VICTIMS], 2 * len(VICTIMS)))))
            with capsys.disabled():
                print(mishaps.report())


async def test_a_cancel_is_pushed_through_postgres_and_two_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with production_farm(worker_program=SLOW_HEARTBEATS) as production:
        jobs = await jobs_of(production)
        seconds = [await measure_cancel(jobs, tmp_path / "beacons") for _ in range(RUNS)]
    notices = Distribution.of([notice for notice, _ in seconds])
    with capsys.disabled():
        print(f"\nmake production, pushed cancel to notice {notices} (promised: p99 {PROMISE_SECONDS:g} s)")
        print(f"make production, pushed cancel to no process left {Distribution.of([gone for _, gone in seconds])}")
    assert notices.p99 < PROMISE_SECONDS

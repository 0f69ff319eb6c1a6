"""The farm of `make production`, killed part by part over and over, and its pushed cancels measured."""

import os
import secrets
from pathlib import Path
from random import Random

import pytest
from figures import Figures
from mishaps import VICTIMS, Mishaps
from production import jobs_of, production_farm
from pushed import cancelled

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.farm, pytest.mark.timeout(900)]

SLOW_HEARTBEATS = Path(__file__).parents[1] / "support" / "slow_heartbeats.py"
ROUNDS = 3
RUNS = 30
# 0.15 s with a server in memory; here each step is a commit of PostgreSQL, on two cores that six programs share.
PROMISE_SECONDS = 0.250


async def test_jobs_complete_whatever_is_killed_in_whatever_order(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("LONGTAKE_CHAOS_SEED") or secrets.randbits(32))
    random = Random(seed)
    with capsys.disabled():
        print(f"\nLONGTAKE_CHAOS_SEED={seed}")
    async with production_farm() as production:
        for _ in range(ROUNDS):
            mishaps = await Mishaps.on(production, chunks=60)
            mishaps.check(await mishaps.run(tuple(random.sample([*VICTIMS, *VICTIMS], 2 * len(VICTIMS)))))
            with capsys.disabled():
                print(mishaps.report())


async def test_a_cancel_is_pushed_through_postgres_and_two_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with production_farm(worker_program=SLOW_HEARTBEATS) as production:
        jobs = await jobs_of(production)
        seconds = [await cancelled(jobs, tmp_path / "beacons") for _ in range(RUNS)]
    notices = Figures.of([notice for notice, _ in seconds])
    with capsys.disabled():
        print(f"\nmake production, pushed cancel to notice {notices} (promised: p99 {PROMISE_SECONDS:g} s)")
        print(f"make production, pushed cancel to no process left {Figures.of([gone for _, gone in seconds])}")
    assert notices.p99 < PROMISE_SECONDS

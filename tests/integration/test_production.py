"""The farm in a box, as processes: PostgreSQL, Temporal 1.32 with its configuration files, SeaweedFS and workers."""

import asyncio
import ipaddress
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from botocore.exceptions import ClientError
from support.farm import until, until_state
from support.kills.production_kills import bucket_of
from support.measurements import Distribution
from support.renderers.signal_times import measure_cancel
from support.servers.production import jobs_of, production_farm

import devserver
from deploy.production.farm import ProductionFarm
from longtake import JobPhase, JobState

ROOT = Path(__file__).parents[2]
SLOW_HEARTBEATS = ROOT / "tests" / "support" / "processes" / "slow_heartbeat_worker.py"

# Processes belong to the loop that started them.
pytestmark = [pytest.mark.integration, pytest.mark.farm, pytest.mark.asyncio(loop_scope="module")]

# The first run builds servers.
TIMEOUT = 900


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def production() -> AsyncIterator[ProductionFarm]:
    async with production_farm(worker_program=SLOW_HEARTBEATS) as farm:
        yield farm


@pytest.mark.timeout(TIMEOUT)
async def test_a_job_is_paused_and_resumed_and_completes(production: ProductionFarm) -> None:
    jobs = await jobs_of(production)
    job = await jobs.started()
    await job.pause()
    await until(job, lambda status: status.phase is JobPhase.PAUSING)
    jobs.open_gate()
    paused = await until_state(job, JobState.PAUSED)

    await job.resume()
    status = await until_state(job, JobState.COMPLETED)

    assert (paused.completed_chunks, status.completed_chunks) == (2, 6)
    assert sorted(jobs.ledger.started) == [0, 1, 2, 3, 4, 5]


@pytest.mark.timeout(TIMEOUT)
async def test_both_workers_render(production: ProductionFarm) -> None:
    jobs = await jobs_of(production)
    job = await jobs.started(chunks=4, running=4)

    status = await until(job, lambda status: len(status.running) == 4 and all(chunk.host for chunk in status.running))

    assert {chunk.host for chunk in status.running} == {"worker-1", "worker-2"}
    jobs.open_gate()
    await until_state(job, JobState.COMPLETED)


@pytest.mark.timeout(TIMEOUT)
async def test_a_cancel_is_pushed_to_the_worker(
    production: ProductionFarm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = await jobs_of(production)

    seconds = [await measure_cancel(jobs, tmp_path / "beacons") for _ in range(8)]

    notices = Distribution.of([notice for notice, _ in seconds])
    with capsys.disabled():
        print(f"\nmake production, cancel to SIGTERM at the renderer, heartbeats every 7 s: {notices}", end="")
    # Heartbeats would have brought them after 3.5 seconds on average.
    assert notices.max < 1


@pytest.mark.timeout(TIMEOUT)
async def test_the_lifecycle_tests_pass_on_it(production: ProductionFarm) -> None:
    process = await asyncio.create_subprocess_exec(
        *devserver.end_with_parent([sys.executable, "-m", "pytest", "-q", "tests/integration/test_lifecycle.py"]),
        env={**os.environ, "LONGTAKE_TEST_SERVER": production.address},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    printed, _ = await process.communicate()

    assert process.returncode == 0, printed.decode(errors="replace")[-5000:]
    assert re.search(rb"\d\d passed", printed)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize(("host", "code"), [("worker-1", 0), ("worker-9", 1)])
async def test_the_health_of_a_worker_is_what_temporal_knows_of_it(
    production: ProductionFarm, host: str, code: int
) -> None:
    environment = {**os.environ, "TEMPORAL_ADDRESS": production.address, "LONGTAKE_HOST": host}
    words = [sys.executable, str(ROOT / "deploy" / "worker_health.py")]

    done = await asyncio.to_thread(subprocess.run, words, env=environment, capture_output=True, text=True, timeout=60)

    assert done.returncode == code, done
    assert ("no worker of worker-9" in done.stdout) == bool(code)


async def test_nobody_but_loopback_reaches_it(production: ProductionFarm) -> None:
    parts = (production.postgres, production.temporal, production.s3)
    listening = [
        connection.laddr.ip
        for part in parts
        for connection in psutil.Process(part.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 12
    assert {ipaddress.ip_address(ip).is_loopback for ip in listening} == {True}


async def test_workers_hold_the_key_of_their_bucket_alone(production: ProductionFarm) -> None:
    worker = bucket_of(production)

    worker.put_object(Bucket="longtake", Key="films/probe", Body=b"")
    worker.delete_object(Bucket="longtake", Key="films/probe")
    with pytest.raises(ClientError, match="AccessDenied"):
        worker.create_bucket(Bucket="elsewhere")

"""A store that hangs: heartbeats go on, and cancels of this job and of others do not wait for it."""

import asyncio
import os
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.farm import Farm, eventually, serving, until, until_state, worker_settings
from support.hanging_record import HangingRecord
from support.s3.faulty_proxy import faulty
from support.s3.server import S3Server
from temporalio.client import Client

from longtake import JobHandle, JobState, RenderClient

pytestmark = pytest.mark.integration


@pytest.fixture(params=[10.0, pytest.param(1.0, marks=pytest.mark.chaos)])
def soon_seconds(request: pytest.FixtureRequest) -> float:
    """Return the longest time that a hang, which lasts until the test ends it, may add to a cancel.

    What a cancel takes without one is measured beside it; still, a machine under load adds seconds to one of the two.
    """
    return float(request.param)


@pytest.fixture
def hangs() -> Iterator[list[HangingRecord]]:
    made: list[HangingRecord] = []
    yield made
    for hang in made:
        hang.end()


async def start_other(farm: Farm, name: str) -> JobHandle:
    """Return another job that renders on the same worker, and waits for a gate that is never opened."""
    gate, before = farm.store.parent / "other-gate", len(farm.ledger.started)
    job = await farm.submit(farm.job(chunks=1, chunk_output=f"{name}/{{chunk}}.txt", options=("--gate", str(gate))))
    await farm.ledger.until_started(before + 1)
    return job


async def measure_usual(farm: Farm) -> float:
    """Return how long the cancel of a job takes while nothing hangs."""
    return await cancelled(await start_other(farm, "usual"))


async def cancelled(job: JobHandle) -> float:
    """Cancel a job; return after how many seconds its run had ended."""
    began = time.monotonic()
    await job.cancel()
    await until_state(job, JobState.CANCELLED)
    return time.monotonic() - began


async def read_beats(farm: Farm, job: JobHandle) -> float:
    """Return when the last heartbeat of the one activity of the job came, in seconds since 1970."""
    description = await farm.client.get_workflow_handle(job.id).describe()
    (pending,) = description.raw_description.pending_activities
    return pending.last_heartbeat_time.ToDatetime().timestamp()


async def until_beats_go_on(farm: Farm, job: JobHandle) -> None:
    before = await read_beats(farm, job)
    async with asyncio.timeout(10):
        while True:
            if await read_beats(farm, job) > before + 1:
                return
            await asyncio.sleep(0.05)


async def check_all_goes_on(farm: Farm, job: JobHandle, other: JobHandle, most_seconds: float) -> None:
    """Check that the job's heartbeats go on, and that cancels of another job and of this one are quick."""
    assert await cancelled(other) < most_seconds
    await until_beats_go_on(farm, job)
    assert await cancelled(job) < most_seconds


async def test_a_look_that_hangs_before_a_chunk_blocks_no_cancel(
    farm: Farm, hangs: list[HangingRecord], soon_seconds: float
) -> None:
    most_seconds = await measure_usual(farm) + soon_seconds
    other = await start_other(farm, "other")
    job = farm.job(chunks=1)
    hangs.append(HangingRecord(farm.store / ".longtake/hanging/claims/000000.json"))
    handle = await farm.render.submit(job, id="hanging")
    await eventually(lambda: hangs[0].is_read, "the claim is read")
    await until_state(handle, JobState.RUNNING)

    await check_all_goes_on(farm, handle, other, most_seconds)


async def test_a_publication_that_hangs_blocks_no_cancel_and_is_not_made_after_it(
    farm: Farm, hangs: list[HangingRecord], soon_seconds: float
) -> None:
    most_seconds = await measure_usual(farm) + soon_seconds
    other = await start_other(farm, "other")
    handle = await farm.submit(farm.job(chunks=1, options=("--gate", str(farm.gate))))
    await farm.ledger.until_started(3)
    hangs.append(HangingRecord(farm.store / f".longtake/{handle.id}/claims/000000.json"))
    farm.open_gate()
    await eventually(lambda: hangs[0].is_read, "the claim is read")

    await check_all_goes_on(farm, handle, other, most_seconds)

    hangs.pop().end()
    await eventually(
        lambda: not any(thread.name == "blocking-work" for thread in threading.enumerate()), "its thread ends"
    )
    assert not farm.is_finished(handle.id, 0)
    assert not (farm.store / "out/000000.txt").exists()


async def test_planning_that_hangs_is_cancelled_at_once(
    farm: Farm, hangs: list[HangingRecord], soon_seconds: float
) -> None:
    most_seconds = await measure_usual(farm) + soon_seconds
    hangs.append(HangingRecord(farm.store / ".longtake/planned/chunks/000000.json"))
    handle = await farm.render.submit(farm.job(chunks=1), id="planned")
    await eventually(lambda: hangs[0].is_read, "the sidecar is read")

    assert await cancelled(handle) < most_seconds


async def test_jobs_that_hang_keep_no_other_from_its_render(farm: Farm, hangs: list[HangingRecord]) -> None:
    handles = []
    # More than asyncio has threads.
    for number in range(min(32, (os.cpu_count() or 1) + 4) + 1):
        hangs.append(HangingRecord(farm.store / f".longtake/hanging-{number}/chunks/000000.json"))
        handles.append(await farm.render.submit(farm.job(chunks=1), id=f"hanging-{number}"))
    await eventually(lambda: hangs[0].is_read, "the first sidecar is read")
    for handle in handles:
        await handle.cancel()

    status = await until(await farm.submit(farm.job(chunks=2)), lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error


@dataclass
class HangingBucket:
    """A farm whose bucket lies behind a way on which one call hangs, until the test ends."""

    farm: Farm
    url: str
    # Regular expression of the calls that hang, as `PUT /bucket/key?query`.
    hanging: str = "none"
    is_met: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def hold(self, call: str) -> None:
        if re.search(self.hanging, call):
            self.is_met.set()
            self.may_go_on.wait(60)


@pytest_asyncio.fixture
async def hanging_bucket(
    client: Client, server: str, store: Path, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HangingBucket]:
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    with faulty(s3_server.environment["AWS_ENDPOINT_URL_S3"]) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", way.url)
        settings = worker_settings(task_queue, store, slots=4)
        settings = settings.model_copy(update={"stores": (bucket,), "scratch": store.parent / "scratch"})
        async with serving(client, settings):
            farm = Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)
            hanging = HangingBucket(farm, bucket)
            way.before = hanging.hold
            try:
                yield hanging
            finally:
                hanging.may_go_on.set()


# What a job does with a bucket, in the order in which it does so, and the call by which that hangs.
PHASES = {
    "download of inputs": r"GET .*/\.longtake/inputs/[0-9a-f]{64}\b",
    "upload of outputs": r"PUT .*/attempts/000000/.*txt",
    "publication": r"PUT .*/claims/000000\.json",
    "download for the film": r"GET .*/out/000000\.txt",
}


@pytest.mark.parametrize("phase", PHASES)
async def test_a_bucket_that_hangs_in_any_phase_blocks_no_cancel(
    hanging_bucket: HangingBucket, phase: str, soon_seconds: float
) -> None:
    farm = hanging_bucket.farm
    most_seconds = await measure_usual(farm) + soon_seconds
    other = await start_other(farm, "other")
    (farm.store / "scene.txt").write_text("what renders read")
    fields: dict[str, Any] = {
        "store": hanging_bucket.url,
        "inputs": ("scene.txt",),
        "merge_command": ("sh", "-c", "cat out/* > $0", "{output}"),
        "output": "film.txt",
    }
    hanging_bucket.hanging = PHASES[phase]
    handle = await farm.submit(farm.job(chunks=1, **fields))
    await eventually(hanging_bucket.is_met.is_set, f"the {phase} hangs")

    await check_all_goes_on(farm, handle, other, most_seconds)

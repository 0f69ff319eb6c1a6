"""A store that hangs: heartbeats go on, and cancels of this job and of others take less than a second."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator

import pytest
from support.farm import Farm, eventually, until, until_state
from support.hanging_record import HangingRecord

from longtake import JobHandle, JobState
from longtake.names import RENDER_SPAN

pytestmark = pytest.mark.integration

# Longest time that a hang may add to a cancel. What a cancel takes without one is measured beside it, because Temporal,
# the end of a process and the test's own looks share a loaded machine.
_SOON_SECONDS = 1.0


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
    """Return when the last heartbeat of the job's render came, in seconds since 1970."""
    description = await farm.client.get_workflow_handle(job.id).describe()
    (pending,) = (
        each for each in description.raw_description.pending_activities if each.activity_type.name == RENDER_SPAN
    )
    return pending.last_heartbeat_time.ToDatetime().timestamp()


async def until_beats_go_on(farm: Farm, job: JobHandle) -> None:
    before = await read_beats(farm, job)
    async with asyncio.timeout(10):
        while True:
            if await read_beats(farm, job) > before + 1:
                return
            await asyncio.sleep(0.05)


async def check_all_goes_on(farm: Farm, job: JobHandle, other: JobHandle, usual_seconds: float) -> None:
    """Check that the job's heartbeats go on, and that cancels of another job and of this one are quick."""
    assert await cancelled(other) < usual_seconds + _SOON_SECONDS
    await until_beats_go_on(farm, job)
    assert await cancelled(job) < usual_seconds + _SOON_SECONDS


async def test_a_look_that_hangs_before_a_chunk_blocks_no_cancel(farm: Farm, hangs: list[HangingRecord]) -> None:
    usual_seconds = await measure_usual(farm)
    other = await start_other(farm, "other")
    job = farm.job(chunks=1)
    hangs.append(HangingRecord(farm.store / ".longtake/hanging/claims/000000.json"))
    handle = await farm.render.submit(job, id="hanging")
    await eventually(lambda: hangs[0].is_read, "the claim is read")
    await until_state(handle, JobState.RUNNING)

    await check_all_goes_on(farm, handle, other, usual_seconds)


async def test_a_publication_that_hangs_blocks_no_cancel_and_is_not_made_after_it(
    farm: Farm, hangs: list[HangingRecord]
) -> None:
    usual_seconds = await measure_usual(farm)
    other = await start_other(farm, "other")
    handle = await farm.submit(farm.job(chunks=1, options=("--gate", str(farm.gate))))
    await farm.ledger.until_started(3)
    hangs.append(HangingRecord(farm.store / f".longtake/{handle.id}/claims/000000.json"))
    farm.open_gate()
    await eventually(lambda: hangs[0].is_read, "the claim is read")

    await check_all_goes_on(farm, handle, other, usual_seconds)

    hangs.pop().end()
    await eventually(
        lambda: not any(thread.name == "blocking-work" for thread in threading.enumerate()), "its thread ends"
    )
    assert not farm.sidecar(handle.id, 0).exists()
    assert not (farm.store / "out/000000.txt").exists()


async def test_planning_that_hangs_is_cancelled_at_once(farm: Farm, hangs: list[HangingRecord]) -> None:
    usual_seconds = await measure_usual(farm)
    hangs.append(HangingRecord(farm.store / ".longtake/planned/chunks/000000.json"))
    handle = await farm.render.submit(farm.job(chunks=1), id="planned")
    await eventually(lambda: hangs[0].is_read, "the sidecar is read")

    assert await cancelled(handle) < usual_seconds + _SOON_SECONDS


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

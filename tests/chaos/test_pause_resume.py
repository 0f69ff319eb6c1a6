"""Pause and resume with nothing between: state and work agree each time, and nothing is rendered twice or lost."""

import asyncio
import time
from random import Random

import pytest
from support.farm import Farm, eventually, until, until_state
from support.processes.process_table import carrying, look

from longtake import JobHandle, JobPhase, JobState
from longtake.models.status import PauseMode

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RUNNING = 2


def work(job: JobHandle) -> tuple[int, int]:
    """Return how many renderers of the job are there, and how many of them stand still."""
    seen = [look(process.pid) for process in carrying(job.id)]
    return sum(one is not None and one.living for one in seen), sum(one is not None and one.stopped for one in seen)


async def waiting(farm: Farm) -> JobHandle:
    """Return a job whose first renders run and wait for the gate."""
    job = await farm.submit(farm.job(chunks=6, options=("--gate", str(farm.gate)), max_parallel=RUNNING))
    await farm.ledger.until_started(RUNNING)
    return job


async def hurried(job: JobHandle, mode: PauseMode, gap_seconds: float = 0) -> None:
    """Pause and resume a job; it must run then, by its own word and by its processes."""
    await job.pause(mode=mode)
    await asyncio.sleep(gap_seconds)
    await job.resume()
    status = await until(job, lambda status: status.state is JobState.RUNNING and status.running_chunks == RUNNING)
    assert status.phase is JobPhase.RENDERING
    await eventually(lambda: work(job) == (RUNNING, 0), f"{RUNNING} renderers run")


@pytest.mark.parametrize("mode", PauseMode)
@pytest.mark.parametrize("times", [8, pytest.param(60, marks=[pytest.mark.chaos, pytest.mark.timeout(600)])])
async def test_state_and_work_agree_after_each_of_many_hurried_pauses(
    mode: PauseMode, times: int, farm: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    job = await waiting(farm)
    for _ in range(times):
        await hurried(job, mode)
    with capsys.disabled():
        print(f"\n{times} hurried pauses ({mode}): {(time.monotonic() - began) / times * 1000:.0f} ms each", end="")
    if mode is not PauseMode.NOW:
        assert sorted(farm.ledger.started) == [0, 1], "a render was ended or begun by a pause that was taken back"
    farm.open_gate()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 6
    # The last `now` may reach a render that has just written its output: it goes again, for it was not published.
    ended = set(farm.ledger.ended) if mode is PauseMode.NOW else farm.ledger.ended
    assert sorted(ended) == list(range(6)), "a chunk was lost, or rendered to its end twice"
    assert len(farm.sidecars(job.id)) == 6


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_state_and_work_agree_after_pauses_of_any_length(farm: Farm, random: Random) -> None:
    job = await waiting(farm)
    for _ in range(100):
        # Workers look at the job once a second: shorter, and longer than that.
        await hurried(job, random.choice(list(PauseMode)), random.uniform(0, 1.5))
    farm.open_gate()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 6
    # The last pause may have been one that ends what runs: a render that had just written its output went again.
    assert set(farm.ledger.ended) == set(range(6)), "a chunk was lost"
    assert len(farm.sidecars(job.id)) == 6

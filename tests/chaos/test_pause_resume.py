"""Pause and resume with nothing between: state and work agree each time, and nothing is rendered twice or lost."""

import time

import pytest
from farm import Farm, eventually, until, until_state
from processtable import carrying, look

from longtake import JobHandle, JobPhase, JobState
from longtake.requests import PauseMode

pytestmark = pytest.mark.integration

RUNNING = 2


def work(job: JobHandle) -> tuple[int, int]:
    """Return how many renderers of the job are there, and how many of them stand still."""
    seen = [look(process.pid) for process in carrying(job.id)]
    return sum(one is not None and one.living for one in seen), sum(one is not None and one.stopped for one in seen)


async def hurried(farm: Farm, mode: PauseMode, times: int) -> JobHandle:
    """Pause and resume a job again and again; each time it must run, by its own word and by its processes."""
    job = await farm.submit(farm.job(chunks=6, options=("--gate", str(farm.gate)), max_parallel=RUNNING))
    await farm.ledger.until_started(RUNNING)
    for _ in range(times):
        await job.pause(mode=mode)
        await job.resume()
        status = await until(job, lambda status: status.state is JobState.RUNNING and status.running_chunks == RUNNING)
        assert status.phase is JobPhase.RENDERING
        await eventually(lambda: work(job) == (RUNNING, 0), f"{RUNNING} renderers run")
    return job


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("mode", "times"), [(PauseMode.DRAIN, 60), (PauseMode.FREEZE, 20), (PauseMode.NOW, 20)])
async def test_state_and_work_agree_after_each_of_a_hundred_hurried_pauses(
    mode: PauseMode, times: int, farm: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    job = await hurried(farm, mode, times)
    with capsys.disabled():
        print(f"\n{times} hurried pauses ({mode}): {(time.monotonic() - began) / times * 1000:.0f} ms each", end="")
    if mode is not PauseMode.NOW:
        assert sorted(farm.ledger.started) == [0, 1], "a render was ended or begun by a pause that was taken back"
    farm.open_gate()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 6
    assert sorted(farm.ledger.ended) == list(range(6)), "a chunk was lost, or rendered to its end twice"

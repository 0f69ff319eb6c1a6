"""A freeze stops whole trees where they stand, and they go on as if nothing had been."""

import asyncio
import time

import pytest
from farm import Farm, eventually, until, until_state
from films import PICTURE, frame_digests, lossless_job
from processes import worker_process
from processtable import Seen, carrying, look
from treejobs import KINDS, PROGRAMS

from longtake import JobHandle, JobState
from longtake.requests import PauseMode

pytestmark = pytest.mark.integration


def tree(job: JobHandle) -> dict[int, Seen]:
    return {seen.pid: seen for seen in carrying(job.id)}


async def frozen(job: JobHandle, *, chunks: int) -> dict[int, Seen]:
    """Freeze a job; return its processes, of which each stands still."""
    await job.pause(mode=PauseMode.FREEZE)
    status = await until_state(job, JobState.PAUSED)
    assert status.frozen_chunks == chunks
    assert sum(chunk.frozen for chunk in status.running) == chunks
    standing = tree(job)
    assert standing
    assert all(seen.stopped for seen in standing.values()), standing
    return standing


def no_cpu_time(before: dict[int, Seen]) -> bool:
    """Tell whether these processes are all still there, stopped, and have not run for one tick."""
    now = {pid: look(pid) for pid in before}
    return all(seen is not None and seen == before[pid] for pid, seen in now.items())


async def frozen_film(farm: Farm, ffmpeg: str, seconds: float) -> None:
    """Freeze a job of encoders at full speed and let it go on; its film must be the film without a freeze."""
    spec = lossless_job(farm.store, frames=12_000, per_chunk=6_000).model_copy(update={"max_parallel": 2})
    async with worker_process(farm.address, farm.task_queue, farm.store):
        job = await farm.submit(spec)
        await eventually(lambda: len(tree(job)) >= 2, "both chunks render")
        await until(job, lambda status: sum(chunk.frames_done > 0 for chunk in status.running) == 2)
        before = await frozen(job, chunks=2)
        await asyncio.sleep(seconds)
        assert no_cpu_time(before), (before, tree(job))
        await job.resume()
        await eventually(lambda: not any(seen.stopped for seen in tree(job).values()), "the renders go on")
        assert set(tree(job)) <= set(before), "other processes went on than were frozen"
        status = await until_state(job, JobState.COMPLETED)
    assert status.result is not None
    film = frame_digests(ffmpeg, "-i", str(status.result.output))
    assert film == frame_digests(ffmpeg, "-f", "lavfi", "-i", PICTURE, "-frames:v", "12000", "-pix_fmt", "yuv420p")


async def test_a_frozen_film_is_the_same_film(bare: Farm, ffmpeg: str) -> None:
    await frozen_film(bare, ffmpeg, 2)


@pytest.mark.chaos
async def test_a_film_frozen_for_ten_seconds_is_the_same_film(bare: Farm, ffmpeg: str) -> None:
    await frozen_film(bare, ffmpeg, 10)


async def test_every_kind_of_tree_is_frozen_thawed_and_cancelled_frozen(
    bare: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    # Those that wait for a test to end them; a whole tree of one of them changes its pids all the time.
    kinds = [KINDS[name] for name in ("obeys", "ignores", "setsid", "daemon", "pipeline")]
    async with worker_process(
        bare.address, bare.task_queue, bare.store, slots=len(kinds) + 1, LONGTAKE_ALLOWED_COMMANDS=PROGRAMS
    ):
        jobs = [await bare.submit(kind.job(bare)) for kind in kinds]
        await asyncio.gather(*(kind.stands(bare, job) for kind, job in zip(kinds, jobs, strict=True)))
        standing = await asyncio.gather(*(frozen(job, chunks=1) for job in jobs))
        await asyncio.sleep(1)
        assert all(map(no_cpu_time, standing))
        for job, before in zip(jobs, standing, strict=True):
            await job.resume()
            await eventually(lambda job=job: not any(seen.stopped for seen in tree(job).values()), "the tree goes on")
            assert not set(before) - set(tree(job)) or job is jobs[-1]
        await asyncio.gather(*(until_state(job, JobState.RUNNING) for job in jobs))
        await asyncio.gather(*(frozen(job, chunks=1) for job in jobs))
        for kind, job in zip(kinds, jobs, strict=True):
            began = time.monotonic()
            await job.cancel(wait=True)
            assert not tree(job)
            with capsys.disabled():
                print(f"\ncancel while frozen, {kind.name}: {time.monotonic() - began:.3f} s", end="")

"""A freeze stops whole trees where they stand, and they go on as if nothing had been."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest
from support.farm import Farm, eventually, until_state
from support.processes.process_table import Seen, carrying, look, still_there
from support.processes.workers import worker_process
from support.renderers.process_tree_jobs import KINDS, PROGRAMS

from longtake import FrameRange, JobHandle, JobState, RenderJobSpec
from longtake.models.status import PauseMode

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# About four seconds of work: the freeze must find both encoders at it.
FRAMES = 1000
ENCODE = (
    *("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30"),
    *("-frames:v", "{count}"),
    *("-c:v", "libx264", "-preset", "medium", "-threads", "1", "{output}"),
)


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


async def goes_on(job: JobHandle) -> None:
    await eventually(lambda: not any(seen.stopped for seen in tree(job).values()), "the tree goes on")


async def frozen_film(farm: Farm, ffmpeg: str, seconds: float) -> None:
    """Freeze encoders at full speed and let them go on; they must write what they write without a freeze."""
    spec = RenderJobSpec(
        name="frozen",
        frames=FrameRange(count=2 * FRAMES, per_chunk=FRAMES),
        fps=30,
        command=ENCODE,
        chunk_output="{chunk:06}.mp4",
        base_dir=str(farm.store),
    )
    async with worker_process(farm.address, farm.task_queue, farm.store):
        job = await farm.submit(spec)
        attempts = farm.store / ".longtake" / job.id / "attempts"
        await eventually(lambda: written(attempts) >= 2, "both encoders write")
        before = await frozen(job, chunks=2)
        await asyncio.sleep(seconds)
        assert no_cpu_time(before), (before, tree(job))
        await job.resume()
        await goes_on(job)
        assert set(tree(job)) == set(before), "other processes go on than were frozen"
        await until_state(job, JobState.COMPLETED)
    model = farm.store / "model.mp4"
    words = [word.format(count=FRAMES, output=model) for word in ENCODE[1:]]
    await asyncio.to_thread(subprocess.run, [ffmpeg, *words], check=True)
    for chunk in range(2):
        assert (farm.store / f"{chunk:06}.mp4").read_bytes() == model.read_bytes()


def written(folder: Path) -> int:
    """Return how many encoders have begun to write."""
    return sum(path.stat().st_size > 0 for path in folder.rglob("*.mp4"))


async def test_a_frozen_film_is_the_same_film(bare: Farm, ffmpeg: str) -> None:
    await frozen_film(bare, ffmpeg, 2)


@pytest.mark.chaos
async def test_a_film_frozen_for_ten_seconds_is_the_same_film(bare: Farm, ffmpeg: str) -> None:
    await frozen_film(bare, ffmpeg, 10)


async def test_every_kind_of_tree_is_frozen_thawed_and_cancelled_frozen(
    bare: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whose processes stay the same while they wait.
    kinds = [KINDS[name] for name in ("obeys", "ignores", "setsid", "daemon", "detached")]
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
            await until_state(job, JobState.RUNNING)
            await goes_on(job)
            assert all(map(still_there, before.values())), "other processes go on than were frozen"
        await asyncio.gather(*(frozen(job, chunks=1) for job in jobs))
        for kind, job in zip(kinds, jobs, strict=True):
            began = time.monotonic()
            await job.cancel(wait=True)
            assert not tree(job)
            with capsys.disabled():
                print(f"\ncancel while frozen, {kind.name}: {time.monotonic() - began:.3f} s", end="")

"""Jobs that render image sequences and are killed, paused or damaged: finished frames are never rendered again."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.farm import Farm, eventually, until, until_state
from support.jobs.images import Damage, damage, png
from support.processes.workers import worker_process

from longtake import FrameRange, JobState, RenderJobSpec
from longtake.models.status import PauseMode

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FRAME_RENDERER = Path(__file__).parents[1] / "support" / "renderers" / "frame_renderer.py"
FRAMES, PER_CHUNK = 60, 20
# In the second chunk.
WAITS_AT = 33


def sequence_job(farm: Farm) -> RenderJobSpec:
    program = (sys.executable, "-S", "-E", str(FRAME_RENDERER), "{output}", "--start", "{start}", "--count", "{count}")
    waits = ("--gate", str(farm.gate), "--gate-at", str(WAITS_AT))
    return farm.job(
        frames=FrameRange(count=FRAMES, per_chunk=PER_CHUNK),
        fps=30,
        command=(*program, "--ledger", str(farm.ledger.path), *waits),
        chunk_output="frames/f_{frame:06}.png",
        max_parallel=3,
    )


def rendered(farm: Farm) -> Counter[int]:
    return Counter(int(line[1]) for line in farm.ledger.lines("frame"))


def outputs(farm: Farm) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (farm.store / "frames").iterdir()}


PERFECT = {f"f_{frame:06}.png": png(frame) for frame in range(FRAMES)}


async def until_waiting(farm: Farm) -> None:
    """Return when only the frame that waits is under way."""
    await eventually(
        lambda: bool(farm.ledger.lines("waiting")) and len(rendered(farm)) == FRAMES - (40 - WAITS_AT),
        "all other frames are rendered",
    )


async def test_no_frame_is_rendered_twice_when_the_worker_is_killed(bare: Farm) -> None:
    async with worker_process(bare.address, bare.task_queue, bare.store, slots=3) as worker:
        job = await bare.submit(sequence_job(bare))
        await until_waiting(bare)
        worker.kill()
        await worker.wait()
    bare.open_gate()

    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(job, JobState.COMPLETED)

    assert status.failed_chunks == 0
    assert rendered(bare) == dict.fromkeys(range(FRAMES), 1)
    assert outputs(bare) == PERFECT


@pytest.mark.parametrize("at_the_final_names", [False, True], ids=["kept", "final"])
async def test_bad_frames_are_rendered_again_after_a_pause_and_no_others(farm: Farm, at_the_final_names: bool) -> None:
    job = await farm.submit(sequence_job(farm))
    await until_waiting(farm)
    await until(job, lambda status: status.completed_chunks == 2)
    await job.pause(mode=PauseMode.NOW, wait=True)
    kept = farm.store / ".longtake" / job.id / "frames" / "000001"
    bad = {}
    for frame, how in zip((20, 22, 27, 32), Damage, strict=True):
        (path,) = kept.glob(f"{frame - 20:06}.*.png")
        if at_the_final_names:
            path = farm.store / "frames" / f"f_{frame:06}.png"
            path.write_bytes(png(frame))
        bad[frame] = await asyncio.to_thread(damage, path, how)
    farm.open_gate()

    await job.resume()
    await until_state(job, JobState.COMPLETED)

    again = {} if at_the_final_names else dict.fromkeys(bad, 2)
    assert rendered(farm) == dict.fromkeys(range(FRAMES), 1) | again
    assert outputs(farm) == PERFECT
    aside = (farm.store / ".longtake" / job.id / "aside").iterdir()
    assert sorted(path.read_bytes() for path in aside) == sorted(bad.values())


async def test_a_retry_moves_strangers_aside_and_renders_what_is_missing(farm: Farm) -> None:
    job = await farm.submit(sequence_job(farm))
    await until_waiting(farm)
    await until(job, lambda status: status.completed_chunks == 2)
    await job.cancel(wait=True)
    stranger = farm.store / "frames" / "f_000025.png"
    stranger.write_bytes(b"")
    farm.open_gate()

    await farm.render.retry(job.id)
    await until_state(job, JobState.COMPLETED)

    assert rendered(farm) == dict.fromkeys(range(FRAMES), 1)
    assert outputs(farm) == PERFECT
    (aside,) = (farm.store / ".longtake" / job.id / "aside").iterdir()
    assert aside.read_bytes() == b""

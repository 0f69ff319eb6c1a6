"""Chunks with files that no output declares are resumed by frame, and nothing half-written is published."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, Ledger, alive, eventually, until
from support.processes.workers import worker_process

from longtake import JobHandle, JobState, RenderJobSpec

pytestmark = pytest.mark.integration

RENDERER = Path(__file__).parents[1] / "support" / "renderers" / "layer_renderer.py"


class Layers:
    """Jobs of one chunk of six frames, each in a folder of its own."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    def ledger(self, name: str) -> Ledger:
        return Ledger(self._farm.store.parent / f"{name}.txt")

    def job(self, name: str, *options: str, **fields: Any) -> RenderJobSpec:
        program = (sys.executable, "-S", "-E", str(RENDERER), "{output}", "--start", "{start}", "--count", "{count}")
        return RenderJobSpec.model_validate(
            {
                "frames": {"first": 1, "count": 6, "per_chunk": 6},
                "command": (*program, "--ledger", str(self.ledger(name).path), *options),
                "chunk_output": f"{name}/f_{{frame:04}}.png",
                "also": ("{output_dir}/**",),
                "base_dir": str(self._farm.store),
                "retry": {"attempts": 3, "initial_seconds": 0},
                "timeouts": {"grace_seconds": 2},
                **fields,
            }
        )

    async def begun(self, name: str, *options: str, **fields: Any) -> JobHandle:
        """Start a job, and return when half a text of frame 4 is written."""
        waits = ("--gate", str(self.gate(name)), "--gate-at", "4")
        handle = await self._farm.submit(self.job(name, *waits, *options, **fields))
        ledger = self.ledger(name)
        await eventually(lambda: bool(ledger.lines("waiting")), "frame 4 is begun")
        return handle

    def gate(self, name: str) -> Path:
        return self._farm.store.parent / f"{name}.gate"

    def waiting(self, name: str) -> int:
        """Pid of the renderer that waits."""
        return int(self.ledger(name).lines("waiting")[0][2])

    async def killed(self, name: str, *options: str, **fields: Any) -> JobHandle:
        """Kill the renderer of a job with half a text of frame 4 written; the next try waits no more."""
        handle = await self.begun(name, *options, **fields)
        pid = self.waiting(name)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not alive(pid), "the renderer is dead")
        self.gate(name).touch()
        return handle

    def rendered(self, name: str) -> Counter[int]:
        """How often each frame was rendered to its end."""
        return Counter(int(line[1]) for line in self.ledger(name).lines("frame"))

    def published(self, name: str) -> dict[str, bytes]:
        home = self._farm.store / name
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


async def completed(job: JobHandle) -> None:
    status = await until(job, lambda status: status.state.has_ended)
    assert status.state is JobState.COMPLETED, status.error
    assert status.notices == ()


FRAMES = range(1, 7)


async def test_a_killed_renderer_costs_the_frame_that_it_was_at(farm: Farm) -> None:
    layers = Layers(farm)
    await completed(await farm.submit(layers.job("undisturbed", "--shared", "static")))
    job = await layers.killed("killed", "--shared", "static")
    await completed(job)

    assert layers.rendered("killed") == dict.fromkeys(FRAMES, 1)
    assert [(line[1], line[3]) for line in layers.ledger("killed").lines("start")] == [("1", "6"), ("4", "3")]
    assert layers.published("killed") == layers.published("undisturbed")
    assert len(layers.published("killed")) == 3 * 6 + 1
    assert not (farm.store / f".longtake/{job.id}/frames/000000").exists()


@pytest.mark.slow
async def test_a_killed_worker_costs_the_frame_that_it_was_at(bare: Farm) -> None:
    layers = Layers(bare)
    async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
        await completed(await bare.submit(layers.job("undisturbed")))
        job = await layers.begun("killed")
        worker.kill()
        await worker.wait()
    await eventually(lambda: not alive(layers.waiting("killed")), "the renderer is dead")
    layers.gate("killed").touch()
    async with worker_process(bare.address, bare.task_queue, bare.store):
        await completed(job)

    assert layers.rendered("killed") == dict.fromkeys(FRAMES, 1)
    assert layers.published("killed") == layers.published("undisturbed")


@pytest.mark.parametrize("shared", ["listing", "last"])
async def test_a_file_of_all_frames_has_the_chunk_rendered_as_a_whole(farm: Farm, shared: str) -> None:
    """A listing changes with each frame, which is known at once; of what is written last a part must be rendered."""
    layers = Layers(farm)
    await completed(await farm.submit(layers.job("undisturbed", "--shared", shared)))
    await completed(await layers.killed("killed", "--shared", shared))

    assert layers.published("killed") == layers.published("undisturbed")
    assert layers.ledger("killed").lines("start")[-1][1::2] == ["1", "6"]
    assert layers.rendered("killed")[1] == 2


async def test_frames_that_are_asked_for_again_are_rendered_with_all_their_files_alone(farm: Farm) -> None:
    layers = Layers(farm)
    job = await farm.submit(layers.job("shot", "--shared", "static"))
    await completed(job)
    before = layers.published("shot")
    (farm.store / "shot/v2/2.txt").write_text("damaged")
    await completed(await farm.render.retry(job.id, frames="5"))

    assert layers.rendered("shot") == dict.fromkeys(FRAMES, 1) | {2: 2, 5: 2}
    assert layers.published("shot") == before


@pytest.mark.slow
async def test_frames_are_resumed_with_their_files_in_a_bucket(cloud: Farm, bucket: str, tmp_path: Path) -> None:
    layers = Layers(cloud)
    place = {"store": bucket, "base_dir": None}
    undisturbed = await cloud.submit(layers.job("a", **place))
    killed = await layers.killed("b", **place)
    for job in (undisturbed, killed):
        await completed(job)
        await job.stored.fetch(tmp_path / job.id, logs=False)

    def fetched(job: JobHandle, name: str) -> dict[str, bytes]:
        home = tmp_path / job.id / name
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}

    assert layers.rendered("b") == dict.fromkeys(FRAMES, 1)
    assert fetched(killed, "b") == fetched(undisturbed, "a")
    assert len(fetched(killed, "b")) == 3 * 6

"""Lists of frames, steps and numbers below 0, and frames of a finished job that are rendered anew."""

import secrets
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from support.farm import Farm, serving, until_state
from support.jobs.images import png
from support.remote.agent_farm import services
from support.s3.server import S3Server

from longtake import BadJobError, JobEndedError, JobState, RenderJobSpec
from longtake.jobfile.loader import read_job
from longtake.models.backends import BackendKind
from longtake.stores.factory import open_store

pytestmark = pytest.mark.integration

FRAME_RENDERER = Path(__file__).parents[1] / "support" / "renderers" / "frame_renderer.py"
FRAMES = (-2, 1, 3, 5, 7, 9, 20, 21)


def sequence_job(farm: Farm, frames: object, *options: str, **fields: object) -> RenderJobSpec:
    program = [sys.executable, "-S", "-E", str(FRAME_RENDERER), "{output}", "--ledger", str(farm.ledger.path)]
    document = {
        "frames": frames,
        "fps": 24,
        "command": [*program, "--start", "{start}", "--count", "{count}", "--size", "32", *options],
        "chunk_output": "f/f_{frame:04}.png",
        "base_dir": str(farm.store),
        "retry": {"attempts": 1},
        **fields,
    }
    return read_job(document)


def parts(farm: Farm) -> list[tuple[int, int]]:
    """Return first frame and count of each command."""
    return sorted((int(line[1]), int(line[3])) for line in farm.ledger.lines("start"))


def rendered(farm: Farm) -> Counter[int]:
    return Counter(int(line[1]) for line in farm.ledger.lines("frame"))


def outputs(farm: Farm) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (farm.store / "f").iterdir()}


async def test_frames_of_a_list_become_a_film_and_some_are_rendered_anew(farm: Farm) -> None:
    repaint = farm.store.parent / "repaint"
    frames = {"range": "-2,1-10x2,20-21", "per_chunk": 3}
    options = ("--step", "{step}", "--repaint", str(repaint))
    handle = await farm.submit(sequence_job(farm, frames, *options, output="film.mp4"))
    first = await until_state(handle, JobState.COMPLETED)

    assert parts(farm) == [(-2, 1), (1, 3), (7, 2), (20, 2)]
    assert outputs(farm) == {f"f_{frame:04}.png": png(frame, size=32) for frame in FRAMES}
    assert first.result is not None
    assert (first.result.frames, first.total_chunks) == (8, 4)
    with av.open(str(farm.store / "film.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.average_rate, stream.frames) == (Fraction(24), 8)

    repaint.touch()
    untouched = {chunk: farm.record(handle.id, chunk) for chunk in (0, 2)}
    for refused in ("4", "22-30", "2-1", ""):
        with pytest.raises(BadJobError, match="frames: "):
            await farm.render.retry(handle.id, frames=refused)
    await farm.render.retry(handle.id, frames="3,20")
    again = await until_state(handle, JobState.COMPLETED)

    assert rendered(farm) == Counter(dict.fromkeys(FRAMES, 1) | {3: 2, 20: 2})
    changed = {frame: frame + 500 if frame in (3, 20) else frame for frame in FRAMES}
    assert outputs(farm) == {f"f_{frame:04}.png": png(number, size=32) for frame, number in changed.items()}
    assert {chunk: farm.record(handle.id, chunk) for chunk in untouched} == untouched
    assert again.result is not None
    assert again.result.frames == 8
    assert again.result.sha256 != first.result.sha256
    aside = {path.name for path in (farm.store / ".longtake" / handle.id / "aside").iterdir() if path.is_file()}
    assert {"000001.f_0003.png.0", "000003.f_0020.png.0", "film.film.mp4.0"} <= aside

    with pytest.raises(JobEndedError, match="nothing to retry"):
        await farm.render.retry(handle.id)
    await farm.render.retry(handle.id, frames=[3])
    await until_state(handle, JobState.COMPLETED)
    assert rendered(farm)[3] == 3
    assert rendered(farm)[20] == 2


async def test_a_request_for_frames_is_carried_out_once(farm: Farm) -> None:
    job = sequence_job(farm, {"count": 4, "per_chunk": 2})
    handle = await farm.submit(job)
    await until_state(handle, JobState.COMPLETED)
    await farm.render.retry(handle.id, frames="1-2")
    await until_state(handle, JobState.COMPLETED)
    assert rendered(farm) == {0: 1, 1: 2, 2: 2, 3: 1}

    # The same request once more, as a reset to the beginning and a retry of a failed job bring it.
    document = await handle.document()
    assert document["rerender"]["frames"] == "1-2"
    await farm.client.start_workflow("RenderJob", document, id=handle.id, task_queue=farm.task_queue)
    await until_state(handle, JobState.COMPLETED)

    assert rendered(farm) == {0: 1, 1: 2, 2: 2, 3: 1}


@pytest.mark.slow
async def test_agents_render_frames_anew_in_a_bucket(bare: Farm, tmp_path: Path, s3_server: S3Server) -> None:
    """Each chunk was rendered by an agent before, whose records of the call are still there."""
    repaint = bare.store.parent / "repaint"
    url = f"s3://{s3_server.bucket()}/{secrets.token_hex(4)}"
    frames = {"range": "1-7x2", "per_chunk": 2}
    options = ("--step", "{step}", "--repaint", str(repaint))
    job = sequence_job(bare, frames, *options, store=url, base_dir=None, backend="lambda", output="film.mp4")
    async with (
        services(BackendKind.LAMBDA, (url,), tmp_path, s3_server=s3_server) as running,
        serving(bare.client, running.settings(bare)),
    ):
        handle = await bare.submit(job)
        first = await until_state(handle, JobState.COMPLETED)
        repaint.touch()
        await bare.render.retry(handle.id, frames="3,7")
        again = await until_state(handle, JobState.COMPLETED)
        store = open_store(url, scratch=tmp_path / "look")
        made = {frame: store.read(f"{url}/f/f_{frame:04}.png") for frame in (1, 3, 5, 7)}

    assert parts(bare) == [(1, 2), (3, 1), (5, 2), (7, 1)]
    assert made == {frame: png(frame + 500 if frame in (3, 7) else frame, size=32) for frame in made}
    assert first.result is not None
    assert again.result is not None
    assert again.result.sha256 != first.result.sha256


async def test_a_command_without_a_step_renders_each_frame_alone(farm: Farm) -> None:
    status = await farm.run(sequence_job(farm, {"first": 1, "count": 4, "step": 5}))

    assert status.state is JobState.COMPLETED, status.error
    assert parts(farm) == [(1, 1), (6, 1), (11, 1), (16, 1)]
    assert sorted(outputs(farm)) == ["f_0001.png", "f_0006.png", "f_0011.png", "f_0016.png"]


async def test_of_video_the_chunks_that_hold_the_frames_are_rendered_anew(farm: Farm, ffmpeg: str) -> None:
    command = [ffmpeg, *["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x36:r=24", "-vf"]]
    fields: dict[str, Any] = {
        "command": [
            *command,
            "trim=start_frame={start},setpts={step}*(PTS-STARTPTS)",
            "-frames:v",
            "{count}",
            "{output}",
        ],
        "chunk_output": "c/{chunk}.mp4",
        "output": "film.mp4",
    }
    handle = await farm.submit(sequence_job(farm, {"count": 6, "per_chunk": 2}, **fields))
    first = await until_state(handle, JobState.COMPLETED)
    sidecars = farm.sidecars(handle.id)
    await farm.render.retry(handle.id, frames="3")
    again = await until_state(handle, JobState.COMPLETED)

    changed = [name for name, content in farm.sidecars(handle.id).items() if content != sidecars[name]]
    assert changed == ["000001.json"]
    assert first.result is not None
    assert again.result is not None
    assert again.result.sha256 == first.result.sha256


async def test_a_scene_with_a_step_of_its_own_is_told(farm: Farm) -> None:
    script = 'n=$1; while [ $n -le $2 ]; do cp p.png $(printf "$3" $n); n=$((n+3)); done'
    (farm.store / "p.png").write_bytes(png(1))
    command = ["sh", "-c", script, "sh", "{start}", "{last}", "{output}"]
    status = await farm.run(sequence_job(farm, {"first": 1, "count": 9}, command=command))

    assert status.state is JobState.FAILED
    assert "f_0002.png is missing" in (status.error or "")
    assert "one of every 3 frames was made: the scene may have a step of its own; set frames.step" in (
        status.error or ""
    )


async def test_an_exception_in_a_script_of_blender_is_a_failed_try(farm: Farm) -> None:
    blender = farm.store / "blender"
    blender.write_text(
        "#!/bin/sh\necho 'Traceback (most recent call last):' >&2\n"
        "echo '  File \"/shots/scene.py\", line 37, in <module>' >&2\necho 'RuntimeError: no rig' >&2\n"
        'echo "Blender 4.2.0"; cp p.png "$1"\n'
    )
    blender.chmod(0o755)
    (farm.store / "p.png").write_bytes(png(1))
    fields: dict[str, Any] = {"command": [str(blender), "{output_dir}/f_0001.png"]}
    status = await farm.run(sequence_job(farm, "1", **fields))
    without = sequence_job(farm, "1", **fields, progress={"format": "none"})
    accepted = await farm.run(without.model_copy(update={"chunk_output": "g/f_{frame:04}.png"}))

    assert status.state is JobState.FAILED
    assert "blender exited with code 0, and said that it had failed: RuntimeError: no rig" in (status.error or "")
    assert accepted.state is JobState.COMPLETED, accepted.error

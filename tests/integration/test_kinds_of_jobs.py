"""Jobs of other kinds: image sequences, sound, Helios files, chunk lists, lists in files."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest
from support.farm import Farm

from longtake import ChunkSpec, FrameRange, JobState, RenderJobSpec, load_job
from longtake.models.job_fields import IfExists

pytestmark = pytest.mark.integration

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")
SOURCE = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25")


def sequence_job(store: Path, **fields: object) -> RenderJobSpec:
    return RenderJobSpec.model_validate(
        {
            "name": "sequence",
            "frames": FrameRange(first=1001, count=25, per_chunk=10),
            "command": (
                *(*FFMPEG, *SOURCE, "-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}"),
                *("-start_number", "{start}", "{output}"),
            ),
            "chunk_output": "frames/f_{frame:06}.png",
            "base_dir": str(store),
            **fields,
        }
    )


async def test_an_image_sequence_is_complete_and_every_frame_is_sound(farm: Farm) -> None:
    status = await farm.run(sequence_job(farm.store))

    assert status.state is JobState.COMPLETED, status.error
    names = sorted(path.name for path in (farm.store / "frames").iterdir())
    assert names == [f"f_{number:06}.png" for number in range(1001, 1026)]
    assert status.result is not None
    assert status.result.output is None
    assert status.result.frames == 25


async def test_an_image_sequence_becomes_a_film_with_sound(farm: Farm, ffmpeg: str) -> None:
    score = farm.store / "score.wav"
    sound = ["-f", "lavfi", "-i", "sine=f=440:d=5", str(score)]
    await asyncio.to_thread(subprocess.run, [ffmpeg, "-nostdin", "-v", "error", *sound], check=True)

    status = await farm.run(sequence_job(farm.store, fps="25", output="film.mp4", audio="score.wav"))

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    assert status.result.frames == 25
    assert status.result.duration_seconds == pytest.approx(1.0, abs=0.04)
    with av.open(str(status.result.output)) as film:
        assert [stream.type for stream in film.streams] == ["video", "audio"]


async def test_a_missing_frame_is_a_failed_attempt(farm: Farm) -> None:
    job = sequence_job(farm.store, frames=FrameRange(first=1001, count=10, per_chunk=10))
    short = tuple("9" if part == "{count}" else part for part in job.command or ())
    status = await farm.run(
        job.model_copy(update={"command": short, "retry": job.retry.model_copy(update={"attempts": 1})})
    )

    assert status.state is JobState.FAILED
    assert "f_001010.png is missing" in (status.error or "")
    assert not (farm.store / "frames/f_001001.png").exists()


async def test_a_chunked_film_gets_its_sound_once(farm: Farm, ffmpeg: str) -> None:
    score = farm.store / "score.wav"
    sound = ["-f", "lavfi", "-i", "sine=f=440:d=1", str(score)]
    await asyncio.to_thread(subprocess.run, [ffmpeg, "-nostdin", "-v", "error", *sound], check=True)
    job = RenderJobSpec(
        frames=FrameRange(count=50, per_chunk=20),
        fps="25",
        command=(*FFMPEG, *SOURCE, "-frames:v", "{count}", "-c:v", "libx264", "-preset", "ultrafast", "{output}"),
        chunk_output="chunks/{chunk:06}.mp4",
        output="film.mp4",
        audio="score.wav",
        base_dir=str(farm.store),
    )

    status = await farm.run(job)

    assert status.state is JobState.COMPLETED, status.error
    with av.open(str(farm.store / "film.mp4")) as film:
        (audio,) = film.streams.audio
        assert audio.duration is not None
        assert audio.time_base is not None
        assert float(audio.duration * audio.time_base) == pytest.approx(2.0, abs=1024 / 48_000)


def helios_document(merge: str) -> dict[str, object]:
    chunks = [
        {
            "id": index,
            "startFrame": index * 10,
            "frameCount": 10,
            "outputFile": f"../out/temp_part_{index}.mov",
            "command": f"ffmpeg -nostdin -v error -f lavfi -i testsrc2=s=64x64:r=30 -frames:v 10 -c:v libx264 -preset "
            f"ultrafast ../out/temp_part_{index}.mov",
        }
        for index in range(3)
    ]
    metadata = {"totalFrames": 30, "fps": 30, "width": 64, "height": 64, "duration": 1}
    return {"metadata": metadata, "chunks": chunks, "mergeCommand": merge}


async def test_a_helios_file_renders_unmodified(farm: Farm) -> None:
    jobs = farm.store / "jobs"
    jobs.mkdir()
    (jobs / "list.txt").write_text("".join(f"file '../out/temp_part_{index}.mov'\n" for index in range(3)))
    merge = "ffmpeg -nostdin -v error -f concat -safe 0 -i list.txt -c copy ../out/final.mov"
    (jobs / "job.json").write_text(json.dumps(helios_document(merge)))

    status = await farm.run(load_job(jobs / "job.json"))

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    assert status.result.output == str(farm.store / "out/final.mov")
    assert status.result.frames == 30
    assert sorted(path.name for path in (farm.store / "out").iterdir()) == [
        "final.mov",
        *(f"temp_part_{index}.mov" for index in range(3)),
    ]


async def test_a_helios_command_that_hides_its_output_is_brought_home(farm: Farm) -> None:
    document = helios_document("")
    for chunk in document["chunks"]:  # type: ignore[attr-defined]
        chunk["outputFile"] = f"part_{chunk['id']}.txt"
        chunk["command"] = f'sh -c "echo chunk > part_{chunk["id"]}.txt"'
    # A chunk of an attempt that was killed lies where the renderer writes.
    (farm.store / "job.json").write_text(json.dumps(document))

    status = await farm.run(load_job(farm.store / "job.json"))

    assert status.state is JobState.COMPLETED, status.error
    assert (farm.store / "part_2.txt").read_text() == "chunk\n"


async def test_an_explicit_list_renders_each_chunk_with_its_own_command(farm: Farm) -> None:
    listed = (
        ChunkSpec(start=0, count=3, output="a.txt"),
        ChunkSpec(start=3, count=1, output="b.txt", command=("sh", "-c", 'echo own > "$1"', "sh", "{output}")),
    )
    job = RenderJobSpec(chunks=listed, command=farm.job().command, base_dir=str(farm.store))

    status = await farm.run(job)

    assert status.state is JobState.COMPLETED, status.error
    assert (farm.store / "a.txt").read_text() == "chunk 0\n"
    assert (farm.store / "b.txt").read_text() == "own\n"
    assert status.completed_frames == 4


@pytest.mark.slow
async def test_a_list_too_long_to_travel_is_read_from_its_file(farm: Farm) -> None:
    padding = "x" * 2000
    chunks = [
        {
            "start": index,
            "count": 1,
            "output": f"{index}.txt",
            "command": ["sh", "-c", f"echo {index} > $1; : {padding}", "sh", "{output}"],
        }
        for index in range(150)
    ]
    path = farm.store / "long.json"
    path.write_text(json.dumps({"name": "long", "chunks": chunks}))
    job = load_job(path)
    assert job.chunk_list is not None
    assert len(json.dumps(job.to_wire())) < 4000

    status = await farm.run(job)

    assert status.state is JobState.COMPLETED, status.error
    assert status.completed_chunks == 150
    assert (farm.store / "149.txt").read_text() == "149\n"


async def test_a_command_decides_about_files_of_its_own_kind(farm: Farm) -> None:
    check = ("sh", "-c", 'grep -q "chunk 0" "$1"', "sh", "{output}")
    status = await farm.run(farm.job(chunks=2, check=check, max_parallel=1))

    assert status.state is JobState.FAILED
    assert status.completed_chunks == 1
    assert "chunk 1 failed" in (status.error or "")


async def test_short_chunks_share_an_activity(farm: Farm) -> None:
    status = await farm.run(farm.job(chunks=24, max_parallel=2))

    assert status.state is JobState.COMPLETED, status.error
    assert sorted(farm.ledger.started) == list(range(24))
    description = await farm.client.get_workflow_handle(status.id).describe()
    # 170 and more for an activity each.
    assert description.history_length < 120


async def test_the_environment_of_a_render_holds_no_credential(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("sh", "-c", 'env > "$1"', "sh", "{output}")
    status = await farm.run(farm.job(chunks=1, command=command, env={"SCENE": "7"}))

    assert status.state is JobState.COMPLETED, status.error
    seen = dict(line.split("=", 1) for line in (farm.store / "out/000000.txt").read_text().splitlines())
    assert seen["SCENE"] == "7"
    assert seen["LONGTAKE_JOB"] == status.id
    assert not [name for name in seen if name.startswith(("AWS_", "TEMPORAL_", "PYTEST"))]


async def test_replacing_is_refused_for_folders(farm: Farm) -> None:
    (farm.store / "out/000000.txt").mkdir(parents=True)
    status = await farm.run(farm.job(chunks=1, if_exists=IfExists.REPLACE))

    assert status.state is JobState.FAILED
    assert "is a folder" in (status.error or "")


async def test_what_only_the_worker_can_know_is_refused_before_anything_starts(farm: Farm) -> None:
    (farm.store / "link").symlink_to("/tmp")
    (farm.store / "file").touch()
    outside = "lies outside the folders that jobs may use"
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"chunk_output": "../outside/{chunk}.txt"}, outside),
        ({"chunk_output": "/etc/{chunk}.txt"}, outside),
        ({"chunk_output": "link/{chunk}.txt"}, outside),
        ({"base_dir": "/etc"}, "base_dir: /etc"),
        ({"chunk_output": "file/{chunk}.txt"}, "store/file is a file, and outputs need a folder there"),
        ({"command": ("no-such-renderer", "{output}")}, "there is no program 'no-such-renderer'"),
    )
    for fields, sentence in refused:
        status = await farm.run(farm.job(chunks=2, **fields))

        assert status.state is JobState.FAILED, fields
        assert sentence in (status.error or ""), fields
        assert not (farm.store / ".longtake").exists(), fields
        assert farm.ledger.started == [], fields

"""Jobs whose store is a bucket: the same films, the same promises, and nothing on the worker's disk afterwards."""

import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any

import av
import pytest
from support.farm import Farm, alive, eventually, serving, until, until_state, worker_settings
from support.jobs.images import png
from temporalio.client import Client

from longtake import FrameRange, JobState, PauseMode, RenderClient, RenderJobSpec, Retry
from longtake.models.job_fields import IfExists
from longtake.stores.store import Store

pytestmark = pytest.mark.integration

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25")
PICK = ("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}")
VIDEO = (*FFMPEG, *PICK, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "{output}")
IMAGES = (*FFMPEG, *PICK, "-start_number", "{start}", "{output}")
FRAME_RENDERER = Path(__file__).parents[1] / "support" / "renderers" / "frame_renderer.py"


def job(bucket: str, **fields: Any) -> RenderJobSpec:
    return RenderJobSpec.model_validate(
        {
            "frames": FrameRange(count=20, per_chunk=10),
            "fps": 25,
            "command": VIDEO,
            "chunk_output": "chunks/{chunk:06}.mp4",
            "output": "film.mp4",
            "store": bucket,
            "retry": Retry(attempts=2, initial_seconds=0.1),
            **fields,
        }
    )


def sequence(farm: Farm, bucket: str, *options: str, **fields: Any) -> RenderJobSpec:
    """A job of images by the renderer that does as it is told."""
    program = (sys.executable, "-S", "-E", str(FRAME_RENDERER), "{output}", "--start", "{start}", "--count", "{count}")
    command = (*program, "--ledger", str(farm.ledger.path), *options)
    base = {"frames": FrameRange(count=8, per_chunk=4), "command": command, "fps": None, "output": None}
    return job(bucket, **{**base, "chunk_output": "frames/f_{frame:06}.png", **fields})


def names(store: Store, folder: str) -> list[str]:
    return store.names(f"{store.url}/{folder}")


def left_behind(scratch: Path) -> list[Path]:
    """Return what attempts have left on the worker's disk."""
    return [path for path in scratch.rglob("*") if path.is_file() and "inputs" not in path.parts]


async def test_a_film_is_made_in_the_bucket(cloud: Farm, bucket: str, films: Store, scratch: Path) -> None:
    status = await cloud.run(job(bucket))

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    assert status.result.output == f"{bucket}/film.mp4"
    film = films.download(f"{bucket}/film.mp4", scratch.parent / "film.mp4", sha256=status.result.sha256)
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
    assert names(films, "chunks") == [f"{number:06}.mp4" for number in range(2)]
    bookkeeping = f".longtake/{status.id}"
    assert names(films, f"{bookkeeping}/chunks") == [f"{number:06}.json" for number in range(2)]
    assert list(films.folders(f"{films.url}/{bookkeeping}/attempts")) == []
    assert left_behind(scratch) == []
    assert list(cloud.store.iterdir()) == []


async def test_images_become_a_film_in_the_bucket(cloud: Farm, bucket: str, films: Store) -> None:
    wanted = job(bucket, command=IMAGES, chunk_output="frames/f_{frame:06}.png", output="film.mp4")
    status = await cloud.run(wanted)

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    assert status.result.frames == 20
    assert names(films, "frames") == [f"f_{number:06}.png" for number in range(20)]


async def test_the_log_of_a_failed_chunk_is_in_the_bucket(cloud: Farm, bucket: str, films: Store) -> None:
    broken = ("sh", "-c", "echo the texture is missing >&2; exit 3", "{output}")
    status = await cloud.run(job(bucket, command=broken, retry=Retry(attempts=1)))

    assert status.state is JobState.FAILED
    assert "the texture is missing" in (status.error or "")
    (log, *_) = [failure.log for failure in status.failures]
    assert log.startswith(bucket)
    assert b"the texture is missing" in films.read(log)


async def test_finished_frames_are_kept_in_the_bucket(cloud: Farm, bucket: str, films: Store, scratch: Path) -> None:
    gate = ("--gate", str(cloud.gate), "--gate-at", "7")
    running = await cloud.submit(sequence(cloud, bucket, *gate, frames=FrameRange(count=12, per_chunk=12)))
    await eventually(lambda: bool(cloud.ledger.lines("waiting")), "frame 7 is begun")
    await running.pause(mode=PauseMode.NOW)
    await until_state(running, JobState.PAUSED)
    assert left_behind(scratch) == []
    cloud.open_gate()
    await running.resume()
    status = await until(running, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error
    rendered = sorted(int(line[1]) for line in cloud.ledger.lines("frame"))
    assert rendered == list(range(12))
    assert [films.read(f"{bucket}/frames/f_{n:06}.png") for n in range(12)] == [png(n) for n in range(12)]
    assert names(films, f".longtake/{status.id}/frames/000000") == []


async def test_a_damaged_frame_alone_is_rendered_again(cloud: Farm, bucket: str, films: Store) -> None:
    first = await cloud.run(sequence(cloud, bucket))
    assert first.state is JobState.COMPLETED, first.error
    films.replace(f"{bucket}/frames/f_000003.png", b"cut")

    again = await cloud.submit(sequence(cloud, bucket, if_exists=IfExists.REUSE))
    status = await until(again, lambda status: status.state.has_ended)

    # Another job's damaged file is no proven output: it is refused, and nothing is rendered.
    assert status.state is JobState.FAILED
    assert "if_exists" in (status.error or "")
    assert len(cloud.ledger.lines("frame")) == 8


async def test_what_another_job_has_made_is_reused(cloud: Farm, bucket: str) -> None:
    first = await cloud.run(sequence(cloud, bucket))
    second = await cloud.run(sequence(cloud, bucket, if_exists=IfExists.REUSE))

    assert (first.state, second.state) == (JobState.COMPLETED, JobState.COMPLETED), second.error
    assert second.skipped_chunks == 2
    assert len(cloud.ledger.lines("frame")) == 8


async def test_a_bucket_that_jobs_may_not_use_is_refused(cloud: Farm, bucket: str, films: Store) -> None:
    status = await cloud.run(job(bucket.replace("one", "two")))

    assert status.state is JobState.FAILED
    assert "LONGTAKE_STORES" in (status.error or "")
    assert list(films.folders(f"{films.url}/.longtake")) == []


async def test_a_bucket_that_is_not_there_is_one_sentence(
    client: Client, server: str, store: Path, bucket: str
) -> None:
    missing = "s3://no-such-bucket-here/films"
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    settings = worker_settings(task_queue, store, slots=1).model_copy(update={"stores": (missing,)})
    async with serving(client, settings):
        farm = Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)
        status = await farm.run(job(missing))

    assert status.state is JobState.FAILED
    assert (status.error or "").startswith("store: ")
    assert "no-such-bucket-here" in (status.error or "")


async def test_cancel_leaves_no_process_and_no_file(cloud: Farm, bucket: str, films: Store, scratch: Path) -> None:
    gate = ("--gate", str(cloud.gate), "--gate-at", "3")
    running = await cloud.submit(sequence(cloud, bucket, *gate, frames=FrameRange(count=12, per_chunk=12)))
    await eventually(lambda: bool(cloud.ledger.lines("waiting")), "a frame is begun")
    await running.cancel()
    status = await until_state(running, JobState.CANCELLED)

    assert not any(map(alive, cloud.ledger.pids))
    assert left_behind(scratch) == []
    assert names(films, "frames") == []
    assert status.completed_chunks == 0


async def test_two_jobs_of_one_bucket_do_not_touch_each_other(cloud: Farm, bucket: str, films: Store) -> None:
    jobs = [
        sequence(cloud, bucket, chunk_output=f"{show}/f_{{frame:06}}.png", frames=FrameRange(count=4, per_chunk=2))
        for show in ("a", "b")
    ]
    ended = await asyncio.gather(*map(cloud.run, jobs))

    assert [status.state for status in ended] == [JobState.COMPLETED] * 2
    assert names(films, "a") == names(films, "b") == [f"f_{number:06}.png" for number in range(4)]


async def test_a_merge_command_finds_chunks_and_inputs_by_name(cloud: Farm, bucket: str, films: Store) -> None:
    script = cloud.store / "join.sh"
    script.write_text('#!/bin/sh\nset -e\ncat out/000000.txt out/000001.txt > "$1"\n')
    script.chmod(0o755)
    write = ("sh", "-c", "echo chunk {chunk} > {output}")
    fields = {"command": write, "chunk_output": "out/{chunk:06}.txt", "fps": None, "base_dir": str(cloud.store)}
    wanted = job(
        bucket,
        frames=FrameRange(count=2, per_chunk=1),
        output="joined.txt",
        merge_command=("./join.sh", "{output}"),
        inputs=("join.sh",),
        **fields,
    )
    status = await cloud.run(wanted)

    assert status.state is JobState.COMPLETED, status.error
    assert films.read(f"{bucket}/joined.txt") == b"chunk 0\nchunk 1\n"

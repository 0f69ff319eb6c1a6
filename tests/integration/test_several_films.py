"""Several films of one job: each of an output, with settings of its own, tried, proven, listed, and made once."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import av
import pytest
from support.command_line import command_line
from support.farm import Farm, eventually, until, until_state
from support.jobs.images import png
from support.processes.workers import worker_process

from longtake import JobHandle, JobState, JobStatus, PauseMode, RenderJobSpec

pytestmark = pytest.mark.integration

# A line for each run of the renderer, and two pictures of each frame.
SCRIPT = """
echo {chunk} >> rendered.txt
for f in $(seq -f %04g {start} {last}); do
  cp beauty.png "$1/f_$f.png"
  cp depth.png "$2/f_$f.png"
done
"""
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
PRORES = ("-c:v", "prores_ks", "-profile:v", "3")
BEAUTY: dict[str, Any] = {"from": "beauty", "output": "beauty.mp4", "verify": "full"}
DEPTH: dict[str, Any] = {"from": "depth", "output": "films/depth.mov", "encode": PRORES}


def passes(farm: Farm, *films: dict[str, Any], before: str = "", **fields: Any) -> RenderJobSpec:
    """A job of three chunks of two frames with two pictures each, of 32 and of 16 pixels.

    Args:
        farm: Whose folder is the store.
        films: The films.
        before: A line of shell before each chunk.
        fields: More of the job.
    """
    (farm.store / "beauty.png").write_bytes(png(1, size=32))
    (farm.store / "depth.png").write_bytes(png(2, size=16))
    return RenderJobSpec.model_validate(
        {
            "name": "shot",
            "frames": {"first": 1, "count": 6, "per_chunk": 2},
            "fps": "24",
            "command": ("sh", "-c", before + SCRIPT, "sh", "{output_dir.beauty}", "{output_dir.depth}"),
            "outputs": {"beauty": "b/f_{frame:04}.png", "depth": "d/f_{frame:04}.png"},
            "film": films,
            "encode": H264,
            "base_dir": str(farm.store),
            "retry": {"attempts": 1},
            **fields,
        }
    )


def rendered(farm: Farm) -> list[str]:
    return sorted((farm.store / "rendered.txt").read_text().split())


def record(farm: Farm, job_id: str, key: str) -> Path:
    return farm.store / ".longtake" / job_id / f"{key}.json"


def describe(film: Path) -> str:
    """Return codec, width and number of the frames that a film decodes to."""
    with av.open(film) as opened:
        (video,) = opened.streams.video
        return f"{video.codec_context.name} {video.width} {sum(1 for _ in opened.decode(video))}"


async def ended(job: JobHandle) -> JobStatus:
    return await until(job, lambda status: status.state.has_ended)


async def test_two_films_of_two_outputs_are_made_listed_fetched_and_deleted(farm: Farm, tmp_path: Path) -> None:
    job = await farm.submit(passes(farm, BEAUTY, DEPTH))
    status = await ended(job)

    assert (status.state, status.error) == (JobState.COMPLETED, None)
    assert describe(farm.store / "beauty.mp4") == "h264 32 6"
    assert describe(farm.store / "films/depth.mov") == "prores 16 6"
    assert rendered(farm) == ["0", "1", "2"]
    assert status.result is not None
    beauty, depth = status.result.films
    assert (beauty.output, depth.output) == (str(farm.store / "beauty.mp4"), str(farm.store / "films/depth.mov"))
    assert (status.result.output, status.result.sha256) == (beauty.output, beauty.sha256)
    assert (beauty.proof, depth.proof) == ("all 6 frames decoded", "first and last frame decoded")
    assert (beauty.frames, depth.frames, depth.duration_seconds) == (6, 6, 0.25)
    assert depth.size_bytes == (farm.store / "films/depth.mov").stat().st_size
    async with command_line(farm) as cli:
        shown = await cli("status", job.id)
        told = await cli("status", job.id, "--json")
        logs = await cli("logs", job.id)
        films = await cli("fetch", job.id, str(tmp_path / "films"), "--film-only")
        everything = await cli("fetch", job.id, str(tmp_path / "all"))
        deleted = await cli("delete", job.id, "--yes")
    assert all(f"{name} (6 frames" in shown.out for name in ("beauty.mp4", "films/depth.mov")), shown.out
    assert [film["output"] for film in json.loads(told.out)["result"]["films"]] == [beauty.output, depth.output]
    assert {"==> film", "==> film[1]"} <= {line.partition(",")[0] for line in logs.err.splitlines()}
    fetched = {str(path.relative_to(tmp_path / "films")) for path in (tmp_path / "films").rglob("*") if path.is_file()}
    assert fetched == {"beauty.mp4", "films/depth.mov"}
    assert (films.code, everything.code, deleted.code) == (0, 0, 0)
    assert (tmp_path / "all/films/depth.mov").exists()
    assert deleted.out.startswith("deleted 14 outputs")
    assert not (farm.store / ".longtake").exists()
    assert not (farm.store / "films").exists()


async def test_two_films_are_joined_of_two_videos_of_each_chunk(farm: Farm, ffmpeg: str) -> None:
    made = 'for f in "$3 64" "$4 32"; do set -- "$1" "$2" "$3" "$4" $f; "$1" -nostdin -v error -f lavfi -i '
    made += 'testsrc2=s="$6x$6":r=24 -frames:v "$2" -c:v libx264 "$5"; done'
    status = await farm.run(
        passes(
            farm,
            {},
            {"from": "small", "output": "small.mkv", "verify": "full"},
            command=("sh", "-c", made, "sh", ffmpeg, "{count}", "{output.wide}", "{output.small}"),
            outputs={"wide": "w/{chunk}.mp4", "small": "s/{chunk}.mp4"},
            output="wide.mp4",
            encode=(),
        )
    )

    assert (status.state, status.error) == (JobState.COMPLETED, None)
    assert describe(farm.store / "wide.mp4") == "h264 64 6"
    assert describe(farm.store / "small.mkv") == "h264 32 6"
    assert status.result is not None
    assert status.result.films[1].proof == "all 6 frames decoded and compared with the chunks"


async def test_a_film_that_cannot_be_made_is_named_with_the_first_chunk(farm: Farm) -> None:
    """The third chunk waits for a gate that nobody opens."""
    wait = f"[ {{chunk}} = 2 ] && until [ -e {farm.gate} ]; do sleep 0.05; done; "
    odd = {**DEPTH, "encode": (*H264, "-profile:v", "nonsense")}
    status = await farm.run(passes(farm, BEAUTY, odd, before=wait))

    assert status.state is JobState.FAILED
    assert status.needs_change
    assert (status.error or "").startswith("film[1] (films/depth.mov) cannot be made of the chunks: ffmpeg")
    assert "if_exists: reuse" in (status.error or "")
    assert not (farm.store / "beauty.mp4").exists()


async def test_a_film_that_is_in_the_way_is_named_by_its_field(farm: Farm) -> None:
    (farm.store / "films").mkdir()
    (farm.store / "films/depth.mov").write_bytes(b"somebody's")
    status = await farm.run(passes(farm, BEAUTY, DEPTH))

    assert status.state is JobState.FAILED
    assert "films/depth.mov is there already; choose another film[1].output, remove the file" in (status.error or "")
    assert (farm.store / "films/depth.mov").read_bytes() == b"somebody's"


@pytest.mark.slow
async def test_films_of_other_outputs_and_lists_are_made_of_what_is_there(farm: Farm) -> None:
    first = await farm.run(passes(farm, BEAUTY, DEPTH))
    whole = {path: path.stat().st_mtime_ns for path in (farm.store / "beauty.mp4", farm.store / "films/depth.mov")}
    async with command_line(farm) as cli:
        single = await cli(
            *("film", first.id, "--set", "film={from: depth}", "--set", "output=one.mov"),
            *("--set", "encode=[-c:v, prores_ks]", "--watch"),
        )
        again = await cli(
            "film", single.out.split()[0], "--set", "film.from=beauty", "--set", "output=two.mov", "--watch"
        )
        # The first two are those of the first job, counted otherwise.
        three = "film=[{from: beauty, output: c.mp4}, {from: depth, output: films/depth.mov, encode: ["
        three += f"{', '.join(PRORES)}]}}, {{from: beauty, output: beauty.mp4, verify: full}}]"
        several = await cli("film", first.id, "--set", three, "--id", "three", "--watch")
        useless = await cli("film", first.id, "--set", "output=x.mp4")

    assert (single.code, again.code, several.code) == (0, 0, 0), single.err + again.err + several.err
    assert rendered(farm) == ["0", "1", "2"]
    assert describe(farm.store / "one.mov") == "prores 16 6"
    assert describe(farm.store / "two.mov") == "prores 32 6"
    assert describe(farm.store / "c.mp4") == "h264 32 6"
    assert {path: path.stat().st_mtime_ns for path in whole} == whole
    assert not (farm.store / ".longtake/three/aside").exists()
    result = (await farm.render.job("three").status()).result
    assert result is not None
    assert [film.output for film in result.films] == [
        str(farm.store / name) for name in ("c.mp4", "films/depth.mov", "beauty.mp4")
    ]
    assert "output: is of no use, because each item of film has its own; leave it out" in useless.err


@pytest.mark.slow
async def test_a_retry_makes_the_film_alone_that_failed(farm: Farm) -> None:
    """Where the first film must be published, a folder comes to stand once all chunks are planned."""
    wait = f"until [ -e {farm.gate} ]; do sleep 0.05; done; "
    handle = await farm.submit(passes(farm, DEPTH, BEAUTY, before=wait))
    await until_state(handle, JobState.RUNNING)
    (farm.store / "films/depth.mov/in").mkdir(parents=True)
    farm.open_gate()
    status = await ended(handle)

    assert status.state is JobState.FAILED
    assert (status.error or "").startswith("film[0] (films/depth.mov) could not be made: ")
    stands = record(farm, handle.id, "film-1").read_bytes()
    made_at = (farm.store / "beauty.mp4").stat().st_mtime_ns
    (farm.store / "films/depth.mov/in").rmdir()
    (farm.store / "films/depth.mov").rmdir()
    await farm.render.retry(handle.id)
    again = await ended(handle)

    assert (again.state, again.error) == (JobState.COMPLETED, None)
    assert record(farm, handle.id, "film-1").read_bytes() == stands
    assert (farm.store / "beauty.mp4").stat().st_mtime_ns == made_at
    assert describe(farm.store / "films/depth.mov") == "prores 16 6"
    assert rendered(farm) == ["0", "1", "2"]
    anew = await farm.render.retry(handle.id, frames="3")
    assert (await ended(anew)).state is JobState.COMPLETED
    assert record(farm, handle.id, "film-1").read_bytes() != stands
    assert rendered(farm) == ["0", "1", "1", "2"]


@pytest.mark.slow
async def test_a_film_that_stands_is_not_made_again_by_pauses_kills_and_cancels(
    bare: Farm, ffmpeg: str, tmp_path: Path
) -> None:
    """An encoder that waits for a gate before films of one name holds the second film up."""
    programs = tmp_path / "programs"
    programs.mkdir()
    waits = f'#!/bin/sh\ncase "$*" in *held.mov*) echo $$ >> {tmp_path}/held; until [ -e {bare.gate} ]; do sleep 0.05; '
    waits += f'done;; esac\nexec {ffmpeg} "$@"\n'
    (programs / "ffmpeg").write_text(waits)
    (programs / "ffmpeg").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    def worker() -> Any:
        return worker_process(bare.address, bare.task_queue, bare.store, PATH=path)

    held = tmp_path / "held"

    async def until_held(times: int) -> None:
        await eventually(lambda: held.exists() and len(held.read_text().split()) >= times, f"the encoder waits {times}")

    # One chunk alone is not tried before.
    films = (BEAUTY, {**DEPTH, "output": "held.mov"}, {"from": "depth", "output": "third.mp4"})
    job = await bare.submit(passes(bare, *films, frames={"first": 1, "count": 2, "per_chunk": 2}))
    async with worker() as first:
        await until_held(1)
        stands = record(bare, job.id, "film").read_bytes()
        await job.pause(mode=PauseMode.NOW, wait=True)
        await job.resume()
        await until_held(2)
        first.kill()
        await first.wait()
    async with worker():
        await until_held(3)
        await job.cancel(wait=True)
        assert (await job.status()).state is JobState.CANCELLED
        await bare.render.retry(job.id)
        await until_held(4)
        assert not record(bare, job.id, "film-2").exists()
        bare.open_gate()
        status = await ended(job)

    assert (status.state, status.error) == (JobState.COMPLETED, None)
    assert record(bare, job.id, "film").read_bytes() == stands
    assert [describe(bare.store / name) for name in ("beauty.mp4", "held.mov", "third.mp4")] == [
        "h264 32 2", "prores 16 2", "h264 16 2"
    ]  # fmt: skip
    assert rendered(bare) == ["0"]


@pytest.mark.slow
async def test_a_bucket_takes_the_films_and_their_own_sounds(
    cloud: Farm, bucket: str, ffmpeg: str, tmp_path: Path
) -> None:
    sound = (ffmpeg, "-nostdin", "-v", "error", "-f", "lavfi", "-i", "sine=r=48000", "-t", "1", "tone.wav")
    job = passes(cloud, {**BEAUTY, "audio": {"file": "tone.wav", "language": "deu"}}, DEPTH, store=bucket)
    process = await asyncio.create_subprocess_exec(*sound, cwd=cloud.store)
    assert await process.wait() == 0
    handle = await cloud.submit(job.model_copy(update={"inputs": ("beauty.png", "depth.png")}))
    status = await ended(handle)

    assert (status.state, status.error) == (JobState.COMPLETED, None)
    new = (cloud.store / "tone.wav").rename(tmp_path / "new.wav")
    async with command_line(cloud) as cli:
        fetched = await cli("fetch", handle.id, str(tmp_path / "here"), "--film-only")
        # The first sound lies with the inputs of the job, the second one on this host.
        more = f"film=[{{from: depth, output: e.mp4, audio: tone.wav}}, {{output: f.mkv, audio: {new}}}]"
        other = await cli("film", handle.id, "--set", more, "--id", "more", "--watch")
        home = await cli("fetch", "more", str(tmp_path / "more"), "--film-only")
        deleted = await cli("delete", handle.id, "--yes")
    assert (fetched.code, other.code, deleted.code) == (0, 0, 0), fetched.err + other.err + deleted.err
    assert home.code == 0, home.err
    for name in ("here/beauty.mp4", "more/e.mp4", "more/f.mkv"):
        with av.open(tmp_path / name) as film:
            assert [stream.type for stream in film.streams] == ["video", "audio"], name
    assert describe(tmp_path / "here/films/depth.mov") == "prores 16 6"

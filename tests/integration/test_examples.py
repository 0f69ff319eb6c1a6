"""Examples: each job file renders for real, scaled down, and so do those that the documents begin with."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
import pytest_asyncio
import yaml
from support.farm import Farm, serving, worker_settings
from support.jobs.films import frame_digests
from temporalio.client import Client

from activities.media.decoder import hash_picture
from activities.media.video import inspect_video
from longtake import JobState, JobStatus, RenderJobSpec, load_job
from longtake.chunks import ChunkPlan
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.stores.factory import open_store

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def completed(status: JobStatus) -> JobStatus:
    assert status.state is JobState.COMPLETED, status.error
    return status


async def test_the_chunks_of_plasma_meet_without_a_seam(farm: Farm, ffmpeg: str) -> None:
    small = {"base_dir": str(farm.store), "frames.count": 7, "frames.per_chunk": 3}
    job = load_job(EXAMPLES / "plasma.yaml", overrides=small)
    command = list(job.command or ())
    command[command.index("-crf") : command.index("-crf") + 2] = ["-qp", "0"]

    status = completed(await farm.run(job.model_copy(update={"command": tuple(command)})))

    assert status.total_chunks == 3
    picture = command[command.index("-i") + 1].replace("{start}", "0")
    unchunked = frame_digests(ffmpeg, "-f", "lavfi", "-i", picture, "-frames:v", "7")
    assert len(set(unchunked)) == 7
    assert frame_digests(ffmpeg, "-i", str(farm.store / "plasma/plasma.mp4")) == unchunked


def test_plasma_ends_where_it_begins(ffmpeg: str) -> None:
    job = load_job(EXAMPLES / "plasma.yaml")
    assert job.frames is not None
    assert job.command is not None
    picture = job.command[job.command.index("-i") + 1]
    after, first = (
        frame_digests(ffmpeg, "-f", "lavfi", "-i", picture.replace("{start}", str(number)), "-frames:v", "1")
        for number in (job.frames.count, 0)
    )
    assert after == first


@pytest.mark.parametrize("name", ["plasma.yaml", "helios/job.json", "anywhere/job.yaml"])
def test_chunks_of_examples_are_tagged_with_the_matrix_that_they_are_converted_by(
    name: str, ffmpeg: str, tmp_path: Path
) -> None:
    job = load_job(EXAMPLES / name, overrides={"base_dir": str(EXAMPLES / "anywhere")})
    command = list(job.command or job.inline_chunks[0].command or ())
    picture = command[command.index("-i") + 1].replace("{start}", "0")
    size = ("-s", "64x36") if name == "helios/job.json" else ()
    words = ("-f", "lavfi", "-i", picture, "-frames:v", "1", "-c:v", "libx264", *size, str(tmp_path / "one.mp4"))
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *words], check=True, cwd=EXAMPLES / "anywhere")

    facts = inspect_video(tmp_path / "one.mp4", fps=job.rate)
    assert (facts.pixel_format, facts.colour_range) == ("yuv420p", "limited")
    assert (facts.colour_space, facts.colour_primaries, facts.colour_transfer) == ("1", "1", "1")


async def test_the_sequence_renders_into_files_and_a_film(farm: Farm) -> None:
    small = {"base_dir": str(farm.store), "frames.count": 2, "frames.per_chunk": 1}
    status = completed(await farm.run(load_job(EXAMPLES / "sequence.yaml", overrides=small)))

    assert status.result is not None
    assert status.result.frames == 2
    assert Path(str(status.result.output)).name == "julia.mp4"
    names = sorted(path.name for path in (farm.store / "sequence/frames").iterdir())
    assert names == [f"julia_{number:05}.png" for number in range(1001, 1003)]


def smaller(name: str, folder: Path, frames: int, **overrides: object) -> RenderJobSpec:
    """Return the job of an example with pictures of a tenth of the width, in a folder of its own."""
    kept = {"base_dir": str(folder), "frames.per_chunk": 3, **overrides}
    if frames:
        kept["frames.count"] = frames
    job = load_job(EXAMPLES / name, overrides=kept)
    return job.model_copy(
        update={"command": tuple(word.replace("640x360", "64x36") for word in job.command or ()), "max_parallel": 4}
    )


async def test_films_for_editors_displays_and_browsers_are_what_their_job_files_say(farm: Farm) -> None:
    folders = {name: farm.store / name for name in ("sound", "hdr10", "alpha", "stepped")}
    for name in ("hdr10", "alpha", "stepped"):
        folders[name].mkdir()
    shutil.copytree(EXAMPLES / "sound", folders["sound"], ignore=shutil.ignore_patterns("out", ".longtake"))
    jobs = [
        smaller("sound/job.yaml", folders["sound"], 30),
        smaller("hdr10.yaml", folders["hdr10"], 4),
        smaller("alpha.yaml", folders["alpha"], 4),
        smaller("stepped.yaml", folders["stepped"], 0, **{"frames.range": "1001-1008x2"}),
    ]

    for status in await asyncio.gather(*map(farm.run, jobs)):
        completed(status)
        assert status.notices == ()

    clock = folders["sound"] / "out/clock.mov"
    with av.open(str(clock)) as film:
        (video,), (sound,) = film.streams.video, film.streams.audio
        assert (video.codec_context.name, video.metadata["timecode"]) == ("prores", "10:00:00:00")
        assert (film.metadata["title"], sound.codec_context.name) == ("Clock", "pcm_s24le")
        assert sound.metadata["language"] == "eng"
    facts = inspect_video(clock, fps=Fraction(24))
    assert (facts.frames, facts.colour_space, facts.colour_primaries, facts.colour_transfer) == (30, "1", "1", "1")

    facts = inspect_video(folders["hdr10"] / "hdr10/cloud.mp4", fps=Fraction(24))
    assert (facts.frames, facts.codec, facts.pixel_format) == (4, "hevc", "yuv420p10le")
    assert (facts.colour_space, facts.colour_primaries, facts.colour_transfer) == ("9", "9", "16")
    assert facts.content_light == "400 and 200 cd/m2"
    assert (facts.mastering_display or "").endswith("0.005 to 1000 cd/m2")
    with av.open(str(folders["hdr10"] / "hdr10/cloud.mp4")) as film:
        picture = next(film.decode(video=0))
    brightest = max(memoryview(bytes(picture.planes[0])).cast("H"))
    # By PQ white of 100 cd/m2 is 509 of 1023 here; the clouds are brighter, and at most 400: 636.
    assert 520 < brightest < 645

    assert inspect_video(folders["alpha"] / "alpha/drop.webm", fps=Fraction(24)).alpha == "1"

    stepped = folders["stepped"] / "stepped"
    assert sorted(path.name for path in (stepped / "frames").iterdir()) == [
        f"f_{n}.png" for n in ("01001", "01003", "01005", "01007")
    ]
    assert inspect_video(stepped / "preview.mp4", fps=Fraction(12)).frames == 4


async def test_the_helios_file_renders_with_its_own_merge_command(farm: Farm) -> None:
    shutil.copytree(EXAMPLES / "helios", farm.store / "helios", ignore=shutil.ignore_patterns("out", ".longtake"))
    job_file = farm.store / "helios/job.json"
    text = job_file.read_text()
    for full, small in (
        ("-frames:v 45", "-frames:v 6"),
        ('"frameCount": 45', '"frameCount": 6'),
        ("1280:720", "64:36"),
    ):
        assert full in text
        text = text.replace(full, small)
    job_file.write_text(text)

    status = completed(await farm.run(load_job(job_file)))

    assert status.result is not None
    assert status.result.output == str(farm.store / "helios/out/ripples.mp4")
    assert status.result.frames == 24


def test_the_helios_file_has_helios_keys_only_and_needs_no_quoting() -> None:
    document = json.loads((EXAMPLES / "helios/job.json").read_text())

    assert set(document) <= {"id", "assetsUrl", "metadata", "chunks", "mergeCommand"}
    for chunk in document["chunks"]:
        assert set(chunk) == {"id", "startFrame", "frameCount", "outputFile", "command"}
        assert f"(N+{chunk['startFrame']})" in chunk["command"]
        assert not set(chunk["command"]) & set("'\"\\$;|<>`")
    assert sum(chunk["frameCount"] for chunk in document["chunks"]) == document["metadata"]["totalFrames"]


async def test_the_blender_job_plans_and_renders_where_blender_is(farm: Farm) -> None:
    shutil.copytree(EXAMPLES / "blender", farm.store / "blender", ignore=shutil.ignore_patterns("out", ".longtake"))
    job = load_job(farm.store / "blender/job.yaml", overrides={"frames.count": 3, "frames.per_chunk": 2})
    command = list(job.command or ())
    assert command.index("--python-exit-code") < command.index("--python")
    assert command.index("--render-output") < command.index("--render-anim")
    assert [chunk.outputs()[0] for chunk in ChunkPlan(job)] == [f"out/frames/ring_0000{n}.png" for n in (1, 3)]
    if shutil.which("blender") is None:
        return

    command[command.index("--") + 1 :] = ["48", "28", "1"]
    status = completed(await farm.run(job.model_copy(update={"command": tuple(command)})))

    assert status.result is not None
    assert status.result.frames == 3


async def test_the_blender_session_renders_the_frames_that_blender_renders_chunk_by_chunk(farm: Farm) -> None:
    shutil.copytree(EXAMPLES / "blender", farm.store / "blender", ignore=shutil.ignore_patterns("out", ".longtake"))
    small = {"frames.count": 3, "frames.per_chunk": 1}
    jobs = [load_job(farm.store / f"blender/{name}.yaml", overrides=small) for name in ("job", "session")]
    alone, together = (
        job.model_copy(update={"command": shrink(job.command), "session": shrink(job.session)}) for job in jobs
    )
    assert ChunkPlan(together)[1].expand_command(together.command or (), ChunkPlan(together)[1].place_outputs(str))
    if shutil.which("blender") is None:
        return
    completed(await farm.run(alone))

    status = completed(await farm.run(together))

    assert status.total_chunks == 3
    for frame in range(1, 4):
        folder, name = farm.store / "blender/out", f"ring_{frame:05}.png"
        assert picture(folder / "session" / name) == picture(folder / "frames" / name)
    # Blender says its version when it starts.
    logs = "".join(path.read_text() for path in (farm.store / f"blender/.longtake/{status.id}/logs").iterdir())
    assert (logs.count("longtake: done"), logs.count("Blender ")) == (3, 1)


def shrink(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return a command of the Blender examples that renders small pictures."""
    return words and tuple({"480": "32", "270": "18", "16": "1"}.get(word, word) for word in words)


def picture(file: Path) -> str:
    """Return the digest of a decoded picture; PNG files tell when they were rendered."""
    with av.open(str(file)) as container:
        return hash_picture(next(container.decode(video=0)))


async def test_the_passes_of_the_blender_job_are_published_and_one_makes_the_film(farm: Farm) -> None:
    shutil.copytree(EXAMPLES / "blender", farm.store / "blender", ignore=shutil.ignore_patterns("out", ".longtake"))
    job = load_job(farm.store / "blender/passes.yaml", overrides={"frames.count": 3, "frames.per_chunk": 2})
    command = list(job.command or ())
    chunk = ChunkPlan(job)[0]
    assert chunk.first_outputs == ("out/beauty/ring_00001.png", "out/depth/ring_00001.exr")
    expanded = chunk.expand_command(job.command or (), chunk.place_outputs(lambda path: f"/try/{path}"))
    assert "/try/out/beauty/ring_#####.png" in expanded
    assert expanded[-1] == "/try/out/depth"
    if shutil.which("blender") is None:
        return

    command[-4:-1] = ["48", "28", "1"]
    status = completed(await farm.run(job.model_copy(update={"command": tuple(command)})))

    assert status.result is not None
    assert status.result.frames == 3
    assert status.notices == ()
    assert len(list((farm.store / "blender/out/depth").glob("*.exr"))) == 3


async def test_one_job_makes_the_same_film_in_a_folder_and_in_a_bucket(cloud: Farm, bucket: str, ffmpeg: str) -> None:
    shutil.copytree(EXAMPLES / "anywhere", cloud.store / "anywhere", ignore=shutil.ignore_patterns("out", ".longtake"))
    small = {"frames.count": 10, "frames.per_chunk": 4}
    in_folder = load_job(cloud.store / "anywhere/job.yaml", overrides=small)
    in_bucket = load_job(EXAMPLES / "anywhere/job.yaml", overrides={**small, "store": bucket})

    films = [completed(await cloud.run(job)).result for job in (in_folder, in_bucket)]

    assert [film and film.frames for film in films] == [10, 10]
    there = open_store(bucket, scratch=cloud.store)
    downloaded = there.download(f"{bucket}/out/anywhere.mp4", cloud.store / "downloaded.mp4")
    pictures = frame_digests(ffmpeg, "-i", str(downloaded))
    assert len(set(pictures)) == 10
    assert pictures == frame_digests(ffmpeg, "-i", str(cloud.store / "anywhere/out/anywhere.mp4"))


@pytest_asyncio.fixture
async def workers_on_the_default_queue(client: Client, store: Path) -> AsyncIterator[None]:
    settings = worker_settings(DEFAULT_TASK_QUEUE, store, slots=2)
    async with serving(client, settings):
        yield


async def test_the_python_example_pauses_and_prints_the_film(
    workers_on_the_default_queue: None, server: str, store: Path
) -> None:
    document = yaml.safe_load((EXAMPLES / "plasma.yaml").read_text())
    # One after the other, so that the job cannot end before the example pauses it.
    document |= {"frames": {"count": 8, "per_chunk": 1}, "max_parallel": 1}
    (store / "small.yaml").write_text(yaml.safe_dump(document))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "python_api.py"), str(store / "small.yaml")),
        env={**os.environ, "TEMPORAL_ADDRESS": server},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    assert "paused at" in out.decode()
    assert ", 0 chunks running" in out.decode()
    assert str(store / "plasma/plasma.mp4") in out.decode()


def test_the_demo_puts_all_outputs_into_its_own_folder(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    job: RenderJobSpec = demo.load_film_job(tmp_path)

    assert job.base_dir == str(tmp_path)
    assert job.output == "plasma.mp4"
    assert job.chunk_count >= 12
    assert demo.find_processes("no-such-job") == []


def test_each_example_is_listed_with_its_command() -> None:
    listed = (EXAMPLES / "README.md").read_text()

    kinds = {".yaml", ".json", ".py"}
    assert "(typescript/README.md)" in listed
    # What Blender runs for jobs.
    scripts = {"scene.py", "passes.py"}
    names = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*")
        if path.suffix in kinds
        and not {"out", ".longtake", "typescript"} & set(path.parts)
        and path.name not in scripts
    }
    assert len(names) >= 11
    for name in names:
        assert f"({name})" in listed
        assert (EXAMPLES / name).is_file()


@pytest.mark.parametrize("page", ["README.md", "docs/job-file.md"])
async def test_the_job_file_that_a_page_begins_with_renders(page: str, farm: Farm) -> None:
    block, *_ = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (farm.store / "bars.yaml").write_text(block)

    status = completed(
        await farm.run(load_job(farm.store / "bars.yaml", overrides={"frames.count": 12, "frames.per_chunk": 5}))
    )

    assert status.result is not None
    assert status.result.output == str(farm.store / "bars/bars.mp4")
    assert status.result.frames == 12

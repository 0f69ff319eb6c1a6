"""Inputs of jobs in a bucket: handed in once, and found by every render."""

import json
import wave
from pathlib import Path

import av
import pytest
from support.command_line import command_line
from support.farm import Farm
from support.jobs.inputs import Project, contents
from support.media.colour_config import ROOTS

from longtake import ChunkSpec, FrameRange, JobState, RenderJobSpec, load_job
from longtake.errors import JobExistsError
from longtake.models.inputs import InputBundle, content_path
from longtake.stores.store import Store
from longtake.transfer.progress import TransferProgress
from longtake.transfer.upload_inputs import measure_inputs, upload_inputs

pytestmark = pytest.mark.integration


@pytest.fixture
def project(bucket: str, tmp_path: Path) -> Project:
    return Project(tmp_path / "project", bucket)


def score(path: Path) -> None:
    """Write two seconds of sound."""
    path.parent.mkdir()
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(range(250)) * 128)


async def test_renders_find_their_inputs_and_nothing_of_each_other(cloud: Farm, project: Project, films: Store) -> None:
    status = await cloud.run(project.job())

    assert status.state is JobState.COMPLETED, status.error
    found = films.read(films.locate("out/0.txt")).decode()
    assert found == films.read(films.locate("out/1.txt")).decode()
    assert [line.split()[0] for line in found.splitlines() if "txt" in line.split()[0]] == [
        "scene/a.txt", "scene/deep/b.txt", "scene/link.txt", "scene/twin.txt"
    ]  # fmt: skip
    assert "scene/link.txt o False" in found
    assert found.splitlines()[-1] != "x"
    assert "render.sh #!/bin/sh" in found
    assert len(contents(films)) == 4


async def test_the_same_files_are_sent_once_and_make_the_same_job(cloud: Farm, project: Project) -> None:
    told: list[TransferProgress] = []
    first = await cloud.render.submit(project.job(), id="same", on_progress=told.append)
    assert (told[-1].files, told[-1].sent_files) == (5, 4)
    again = await cloud.render.submit(project.job(), id="same", on_progress=told.append)

    assert first.id == again.id
    assert (told[-1].sent_files, told[-1].done_bytes) == (0, told[-1].size_bytes)
    (project.base / "scene" / "a.txt").write_text("changed")
    with pytest.raises(JobExistsError):
        await cloud.render.submit(project.job(), id="same", on_progress=told.append)
    await first.cancel(wait=True)


async def test_a_job_on_the_wire_may_carry_a_bundle_and_a_program_in_it_runs(
    cloud: Farm, project: Project, films: Store
) -> None:
    sent = upload_inputs(project.job(command=("./render.sh", "{output}")))
    assert isinstance(sent.inputs, InputBundle)
    assert sent.base_dir is None
    received = RenderJobSpec.model_validate_json(json.dumps(sent.to_wire()))

    assert received.digest() == sent.digest()
    status = await cloud.run(received)
    assert status.state is JobState.COMPLETED, status.error
    assert films.read(films.locate("out/1.txt")) == b"a"


async def test_sound_travels_with_the_inputs(cloud: Farm, project: Project) -> None:
    score(project.base / "sound" / "score.wav")
    source = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=25")
    command = (*source, "-frames:v", "{count}", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "{output}")
    fields = {"command": command, "fps": 25, "chunk_output": "{chunk}.mp4", "output": "film.mp4"}
    frames = FrameRange(count=50, per_chunk=25)
    wanted = project.job(inputs=(), audio=str(project.base / "sound" / "score.wav"), frames=frames, **fields)

    assert upload_inputs(wanted).audio == "sound/score.wav"
    status = await cloud.run(wanted)
    assert status.state is JobState.COMPLETED, status.error


async def test_a_configuration_of_colours_travels_with_the_inputs(cloud: Farm, project: Project, films: Store) -> None:
    (project.base / "colours").mkdir()
    (project.base / "colours/roots.ocio").write_text(ROOTS)
    source = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=0x404040:s=64x64,format=rgb24")
    fields = {
        "command": (*source, "-frames:v", "{count}", "-start_number", "{start}", "{output}"),
        "fps": 25,
        "chunk_output": "f_{frame:04}.png",
        "output": "film.mp4",
        "colour": {"input": "light", "output": "roots", "config": str(project.base / "colours/roots.ocio")},
    }

    status = await cloud.run(project.job(inputs=(), frames=FrameRange(count=2, per_chunk=2), **fields))

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    film = films.download(str(status.result.output), project.base / "film.mp4")
    with av.open(str(film)) as container:
        picture = next(container.decode(video=0))
    # A quarter of the light of white is half of the samples.
    assert abs(bytes(picture.planes[0])[0] - (16 + 219 / 2)) <= 1


@pytest.mark.slow
async def test_a_long_chunk_list_travels_as_a_file(cloud: Farm, project: Project, films: Store) -> None:
    listed = [{"start": n, "count": 1, "output": f"out/{'long' * 20}-{n}.txt"} for n in range(3000)]
    document = project.job(frames=None, chunks=(ChunkSpec(start=0, count=1),)).to_wire() | {
        "chunks": listed,
        "name": "listed",
    }
    del document["contract"], document["base_dir"], document["chunk_output"]
    document["command"] = ["cp", "scene/a.txt", "{output}"]
    path = project.base / "job.json"
    path.write_text(json.dumps(document))
    job_of_file = load_job(path)
    assert job_of_file.chunk_list is not None

    handle = await cloud.render.submit(job_of_file, id="listed")
    while (await handle.status()).completed_chunks < 4:
        pass
    await handle.cancel(wait=True)

    assert films.stat(films.locate(content_path(job_of_file.chunk_list.sha256))) is not None
    assert films.stat(films.locate(".longtake/listed/list.json")) is not None


async def test_the_command_line_hands_in_and_says_so(cloud: Farm, project: Project) -> None:
    file = project.job_file()
    async with command_line(cloud) as cli:
        first = await cli("submit", file, "--id", "told", "--watch")
        again = await cli("submit", file, "--id", "told")
        (project.base / "render.sh").unlink()
        bad = await cli("submit", file, "--id", "other")

    assert (first.code, first.out) == (0, "told\n"), first.err
    assert "5 input files (35 B) are in the store; 4 of them (34 B) were sent" in first.err
    assert (again.code, again.out) == (0, "told\n")
    assert "5 input files (35 B) were in the store already" in again.err
    assert (bad.code, bad.out) == (2, "")
    assert bad.err == f"longtake: inputs[1]: there is no {project.base}/render.sh; put it there, or leave it out\n"


def test_inputs_are_measured_without_being_sent(project: Project, films: Store) -> None:
    assert measure_inputs(project.job()) == (5, 35)
    assert contents(films) == []

"""Chunks and film have digests of their own: another film is made of the chunks that are there."""

import asyncio
import json
import struct
import subprocess
import wave
from pathlib import Path
from typing import Any

import av
import pytest
from support.farm import Farm, until_state
from support.jobs.gates import behind_gate

from longtake import BadJobError, JobHandle, JobState, JobStatus, PauseMode, RenderJobSpec
from longtake.names import TRY_FILM
from longtake.stores.store import Store

pytestmark = pytest.mark.integration

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")
PICTURES = (*FFMPEG, "-f", "lavfi", "-i", "color=red:s=64x36:r=24", "-frames:v", "{count}")
# A line for each run of the renderer.
COUNTED = ("sh", "-c", 'echo {chunk} >> rendered.txt; "$@"', "sh")


def sequence(farm: Farm, **fields: Any) -> RenderJobSpec:
    """A film of three chunks of two images."""
    return RenderJobSpec.model_validate(
        {
            "name": "shot",
            "frames": {"first": 1, "count": 6, "per_chunk": 2},
            "fps": "24",
            "command": (*COUNTED, *PICTURES, "-start_number", "{start}", "{output}"),
            "chunk_output": "f/f_{frame:04}.png",
            "output": "film.mp4",
            "encode": ("-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p"),
            "base_dir": str(farm.store),
            **fields,
        }
    )


def rendered(farm: Farm) -> list[str]:
    return sorted((farm.store / "rendered.txt").read_text().split())


async def completed(farm: Farm, job: RenderJobSpec) -> JobStatus:
    status = await farm.run(job)
    assert status.state is JobState.COMPLETED, status.error
    return status


def forget_chunk_digests(farm: Farm, job_id: str) -> None:
    """Make the records of a job those of a version before chunks had digests of their own."""
    for path in (farm.store / ".longtake" / job_id / "chunks").iterdir():
        record = json.loads(path.read_text())
        del record["chunk_digest"]
        path.write_text(json.dumps(record))


async def test_another_film_renders_no_chunk(farm: Farm) -> None:
    first = await completed(farm, sequence(farm))
    old_film = (farm.store / "film.mp4").read_bytes()
    forget_chunk_digests(farm, first.id)

    crf = ("-c:v", "libx264", "-crf", "40", "-pix_fmt", "yuv420p")
    other = await completed(farm, sequence(farm, encode=crf, if_exists="reuse"))
    prores = ("-c:v", "prores_ks", "-vf", "scale=32:18")
    third = await completed(farm, sequence(farm, encode=prores, output="film.mov", fps="12", if_exists="reuse"))
    longer = sequence(farm, frames={"first": 1, "count": 8, "per_chunk": 2}, output="longer.mp4", if_exists="reuse")
    fourth = await completed(farm, longer)

    assert (other.skipped_chunks, third.skipped_chunks, fourth.skipped_chunks) == (3, 3, 3)
    assert rendered(farm) == ["0", "1", "2", "3"]
    assert (farm.store / "film.mp4").read_bytes() != old_film
    assert [path.read_bytes() for path in (farm.store / ".longtake" / other.id / "aside").iterdir()] == [old_film]
    with av.open(farm.store / "film.mov") as film:
        assert [f"{each.width} {each.average_rate}" for each in film.streams.video] == ["32 12"]
    assert fourth.result is not None
    assert fourth.result.frames == 8


async def test_films_and_chunks_of_other_work_are_refused(farm: Farm) -> None:
    await completed(farm, sequence(farm))

    other = sequence(farm, command=(*PICTURES, "-start_number", "{start}", "-y", "{output}"), if_exists="reuse")
    chunks = await farm.run(other)
    film = await farm.run(other.model_copy(update={"chunk_output": "g/g_{frame:04}.png"}))

    assert "f_0001.png is there already" in (chunks.error or "")
    assert "film.mp4 is there already" in (film.error or "")
    assert "g" not in {path.name for path in farm.store.iterdir()}


def gated(farm: Farm, *command: str) -> tuple[str, ...]:
    """Return a command whose third chunk waits for the gate."""
    return behind_gate(farm.gate, command, from_chunk=2)


async def tries(farm: Farm, job: JobHandle) -> list[str]:
    """Return what became of the trials of a job's film."""
    history = await farm.client.get_workflow_handle(job.id).fetch_history()
    scheduled = {
        event.event_id
        for event in history.events
        if event.activity_task_scheduled_event_attributes.activity_type.name == TRY_FILM
    }
    ends = {
        event.activity_task_completed_event_attributes.scheduled_event_id: "completed" for event in history.events
    } | {event.activity_task_failed_event_attributes.scheduled_event_id: "failed" for event in history.events}
    return [ends.get(event, "running") for event in sorted(scheduled)]


@pytest.mark.slow
async def test_a_film_that_cannot_be_made_fails_with_the_first_chunk(farm: Farm) -> None:
    """The third chunks wait for a gate that nobody opens."""
    odd = (*FFMPEG, "-f", "lavfi", "-i", "testsrc2=s=65x37:r=24,format=rgb24", "-frames:v", "{count}")
    images = ("-start_number", "{start}", "{output}")
    video = (*FFMPEG, "-f", "lavfi", "-i", "testsrc2=s=64x36:r=24", "-frames:v", "{count}")
    jobs = {
        "width not divisible by 2": {"command": gated(farm, *odd, *images), "chunk_output": "odd/f_{frame:04}.png"},
        "cannot hold prores": {
            "command": gated(farm, *video, "-c:v", "prores_ks", "{output}"),
            "chunk_output": "prores/{chunk}.mov",
            "encode": (),
        },
        "exited with code": {
            "command": gated(farm, *PICTURES, *images),
            "chunk_output": "red/f_{frame:04}.png",
            "encode": ("-c:v", "libx264", "-profile:v", "nonsense"),
        },
    }

    ends = await asyncio.gather(
        *(farm.run(sequence(farm, output=f"{number}.mp4", **fields)) for number, fields in enumerate(jobs.values()))
    )

    for said, status in zip(jobs, ends, strict=True):
        assert status.state is JobState.FAILED
        assert "no film can be made of the chunks" in (status.error or "")
        assert said in (status.error or "")
        assert "if_exists: reuse" in (status.error or "")
        assert status.needs_change
        assert status.completed_chunks in (1, 2)


@pytest.mark.slow
async def test_films_that_can_be_made_pass_the_trial_and_a_pause(farm: Farm, ffmpeg: str) -> None:
    tone_of_film = [ffmpeg, *FFMPEG[1:], "-f", "lavfi", "-i", "sine", "-t", "1", str(farm.store / "tone.wav")]
    await asyncio.to_thread(subprocess.run, tone_of_film, check=True)
    odd = (*FFMPEG, "-f", "lavfi", "-i", "testsrc2=s=65x37:r=24,format=rgb24", "-frames:v", "{count}")
    images = ("-start_number", "{start}", "{output}")
    video = (*FFMPEG, "-f", "lavfi", "-i", "testsrc2=s=64x36:r=24")
    tone = ("-f", "lavfi", "-i", "sine=r=48000", "-t", "1")
    long: dict[str, Any] = {"frames": {"count": 72, "per_chunk": 24}, "encode": (), "verify": "full"}
    short: dict[str, Any] = {"frames": {"count": 3, "per_chunk": 1}, "encode": ()}
    of_pcm = (*video, *tone, "-bf", "3", "-c:a", "pcm_s16le", "{output}")
    of_video = (*video, "-bf", "3", "-frames:v", "{count}", "{output}")
    jobs: list[dict[str, Any]] = [
        {"command": (*odd, *images), "chunk_output": "odd/f_{frame:04}.png", "output": "odd.mp4", "encode": ()},
        {
            "command": (*odd, *images),
            "chunk_output": "one/{frame}.png",
            "output": "1.webm",
            "audio": "tone.wav",
            **short,
        },
        {"command": of_pcm, "chunk_output": "pcm/{chunk}.mov", "output": "pcm.mov", **long},
        {"command": of_video, "chunk_output": "bf/{chunk}.mkv", "output": "bf.mp4", "audio": "tone.wav", **long},
    ]
    commands = [gated(farm, *fields.pop("command")) for fields in jobs]
    films = [
        sequence(farm, command=command, max_parallel=1, **fields)
        for command, fields in zip(commands, jobs, strict=True)
    ]
    handles = [await farm.submit(film) for film in films]
    for job in handles:
        while await tries(farm, job) != ["completed"]:
            assert not (status := await job.status()).state.has_ended, status.error
    await handles[0].pause(wait=True, mode=PauseMode.NOW)
    await handles[0].resume()
    farm.open_gate()

    for job in handles:
        await until_state(job, JobState.COMPLETED)
        assert await tries(farm, job) == ["completed"]
        assert not [
            path.name for path in (farm.store / ".longtake" / job.id / "logs").iterdir() if "trial" in path.name
        ]
        assert not (farm.store / ".longtake" / job.id / "attempts" / "film").exists()


async def test_another_film_is_made_of_what_is_there(farm: Farm) -> None:
    first = await completed(farm, sequence(farm, name="{job}", chunk_output="{job}/f_{frame:04}.png"))
    gap = gated(farm, "sh", "-c", '[ {chunk} = 1 ] && exit 1; "$@"', "sh", *PICTURES, "-start_number", "{start}")
    holey = sequence(farm, command=(*gap, "{output}"), chunk_output="g/f_{frame:04}.png", output="g.mp4", encode=())
    retry = {"retry": {"attempts": 1}, "on_chunk_failure": "continue", "allow_gaps": True}
    running = await farm.submit(sequence(farm, **{**holey.to_wire(), **retry}))
    values = {"output": "other.mov", "encode": ["-c:v", "prores_ks"], "fps": 12}

    with pytest.raises(BadJobError, match="'command': decides the chunks"):
        await farm.render.film(first.id, {"command": ["true"]})
    with pytest.raises(BadJobError, match="wait for that, or cancel it"):
        await farm.render.film(running.id, {"output": "g.mov"})
    with pytest.raises(BadJobError, match="codec: is not a key"):
        await farm.render.film(first.id, {"codec": "h264"})
    farm.open_gate()
    await until_state(running, JobState.COMPLETED)
    film = await farm.render.film(first.id, values, new_id="another")
    gaps = await farm.render.film(running.id, {"output": "g.mov", "encode": ["-c:v", "prores_ks"]})
    await until_state(film, JobState.COMPLETED)
    (farm.store / first.id / "f_0003.png").unlink()
    late = await farm.render.film(first.id, {"output": "late.mov"})

    status = await film.status()
    assert (film.id, status.skipped_chunks) == ("another", 3)
    assert status.result is not None
    assert (status.result.output, status.result.frames) == (str(farm.store / "other.mov"), 6)
    with_gaps = (await until_state(gaps, JobState.COMPLETED)).result
    assert with_gaps is not None
    assert (with_gaps.frames, with_gaps.missing_chunks) == (4, ((1, 2),))
    refused = await until_state(late, JobState.FAILED)
    assert "film_only: chunk 1 " in (refused.error or "")
    assert rendered(farm) == ["0", "1", "2"]
    assert not (farm.store / "late.mov").exists()


def tone(path: Path, level: int) -> None:
    """Write one second of a sound of one level."""
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(struct.pack("<h", level) * 8000)


def levels(film: Path) -> set[int]:
    with av.open(str(film)) as container:
        return {int(sample) for frame in container.decode(audio=0) for sample in frame.to_ndarray().flat[:100]}


@pytest.mark.slow
async def test_another_sound_is_uploaded_beside_the_inputs_of_a_job_in_a_bucket(
    cloud: Farm, bucket: str, films: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks are reused, by the job of another film and by a job that is submitted anew."""
    home = tmp_path / "project"
    (home / "scene").mkdir(parents=True)
    (home / "scene/a.txt").write_text("a")
    for name, level in (("first.wav", 100), ("second.wav", 200), ("third.wav", 300)):
        tone(home / name, level)
    tone(tmp_path / "elsewhere/first.wav", 400)
    ledger = tmp_path / "rendered.txt"
    counted = ("sh", "-c", f'test -e scene/a.txt && echo {{chunk}} >> {ledger}; "$@"', "sh", *PICTURES)
    place = {"base_dir": str(home), "store": bucket, "inputs": ["scene"], "encode": (), "output": "film.mkv"}
    fields = {"command": (*counted, "-start_number", "{start}", "{output}"), **place}

    async def heard(job: JobHandle, output: str) -> set[int]:
        status = await until_state(job, JobState.COMPLETED)
        assert status.skipped_chunks == 3
        return levels(films.download(films.locate(output), tmp_path / f"{job.id}.mkv"))

    track = {"file": "first.wav", "codec": "pcm"}
    first = await completed(cloud, sequence(cloud, audio=track, **fields))
    monkeypatch.chdir(home)

    other = await cloud.render.film(first.id, {"audio.file": "second.wav", "output": "2.mkv"})
    again = await cloud.submit(
        sequence(cloud, audio={**track, "file": "third.wav"}, if_exists="reuse", **{**fields, "output": "3.mkv"})
    )
    assert await heard(other, "2.mkv") == {200}
    assert await heard(again, "3.mkv") == {300}
    # Of that name another sound is there, which the film of this film still has.
    outside = await cloud.render.film(other.id, {"audio.file": "../elsewhere/first.wav", "output": "4.mkv"})
    late = await cloud.render.film(other.id, {"audio.offset_seconds": 0.01, "output": "5.mkv"})
    assert await heard(outside, "4.mkv") == {400}
    assert await heard(late, "5.mkv") == {0, 200}
    # Without inputs, too, and back to a sound that is uploaded and was removed here.
    (home / "first.wav").unlink()
    back = await cloud.render.film(late.id, {"audio": {"file": "first.wav", "codec": "pcm"}, "output": "6.mkv"})
    assert await heard(back, "6.mkv") == {100}
    with pytest.raises(BadJobError, match=r"^audio\[1\].file: .* is another file of the name second.wav; rename one"):
        await cloud.render.film(first.id, {"audio": ["second.wav", str(tmp_path / "other/second.wav")]})
    with pytest.raises(BadJobError, match=r"^audio.file: there is no .*/project/fourth.wav; put it there"):
        await cloud.render.film(first.id, {"audio.file": "fourth.wav"})
    assert sorted(ledger.read_text().split()) == ["0", "1", "2"]


# Samples are light.
PLAIN = """\
ocio_profile_version: 1
roles: {default: light, scene_linear: light}
displays:
  screen:
    - !<View> {name: plain, colorspace: light}
colorspaces:
  - !<ColorSpace> {name: light}
"""


@pytest.mark.slow
async def test_a_job_without_inputs_in_a_bucket_gets_sound_and_colours(
    cloud: Farm, bucket: str, films: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tone(tmp_path / "home/new.wav", 300)
    (tmp_path / "home/plain.ocio").write_text(PLAIN)
    command = (*PICTURES, "-start_number", "{start}", "{output}")
    silent = sequence(cloud, command=command, store=bucket, base_dir=None, encode=(), output="film.mkv")
    first = await completed(cloud, silent)
    monkeypatch.chdir(tmp_path / "home")

    colour = {"input": "light", "output": "light", "config": "plain.ocio"}
    values = {"audio.file": "new.wav", "audio.codec": "pcm", "colour": colour, "output": "with.mkv"}
    job = await cloud.render.film(first.id, values)

    assert (await until_state(job, JobState.COMPLETED)).skipped_chunks == 3
    assert levels(films.download(films.locate("with.mkv"), tmp_path / "with.mkv")) == {300}

"""The growing preview is heard as the film will be: sounds of chunks, and that of the whole film."""

import io
import subprocess
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy
import numpy.typing
import pytest
from av.audio.resampler import AudioResampler
from support.farm import Farm
from support.jobs.stored_jobs import Place
from support.previews import connected, read_playlist

from longtake import FrameRange, JobState, RenderJobSpec, Retry
from longtake.concurrency import run_in_thread

pytestmark = pytest.mark.integration

RATE = Fraction(30000, 1001)
SAMPLES = 44100
FRAMES = 150
Samples = numpy.typing.NDArray[numpy.int16]

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30000/1001")
PICK = ("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}")
# A sound whose samples differ everywhere.
SWEEP = f"aevalsrc=0.6*sin(600*t+200*t*t)|0.4*cos(900*t+90*t*t):s={SAMPLES}"
OF_CHUNK = SWEEP.replace("t*t", "t").replace("*t", "*(t+{start}*1001/30000)")
SOUNDING = (
    *(*FFMPEG, "-f", "lavfi", "-i", OF_CHUNK, *PICK),
    *("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", "-shortest"),
    "{output}",
)
IMAGES = (*FFMPEG, *PICK, "-start_number", "{start}", "{output}")


def make_job(**fields: object) -> RenderJobSpec:
    usual = {"frames": FrameRange(count=FRAMES, per_chunk=30), "fps": "30000/1001", "retry": Retry(attempts=1)}
    return RenderJobSpec.model_validate(usual | fields)


def make_sound(ffmpeg: str, path: Path) -> None:
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", SWEEP, "-t", "4", str(path)]
    subprocess.run(command, check=True)


def read_sound(source: Path | bytes) -> Samples:
    resampler = AudioResampler(format="s16", layout="stereo")
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r") as container:
        made = [each for frame in container.decode(audio=0) for each in resampler.resample(frame)]
    return numpy.concatenate([each.to_ndarray().reshape(-1, 2) for each in made])


def count_samples(frames: int) -> int:
    return round(frames * SAMPLES / RATE)


async def test_sounds_of_chunks_are_those_of_the_film(farm: Farm) -> None:
    status = await farm.run(
        make_job(command=SOUNDING, chunk_output="c/{chunk:06}.mov", output="film.mov", base_dir=str(farm.store))
    )
    assert status.state is JobState.COMPLETED, status.error
    wanted = read_sound(farm.store / "film.mov")

    async with connected(farm) as web:
        whole = await (await read_playlist(web, status.id)).fetch(web)
        rest = await (await read_playlist(web, status.id, **{"from": 3})).fetch(web)
        small = await (await read_playlist(web, status.id, proxy=1)).fetch(web)

    assert numpy.array_equal(read_sound(whole), wanted)
    assert numpy.array_equal(read_sound(rest), wanted[count_samples(90) :])
    assert numpy.array_equal(read_sound(small), wanted)


async def test_a_film_that_drops_sound_has_a_silent_preview(farm: Farm) -> None:
    status = await farm.run(
        make_job(
            command=SOUNDING,
            chunk_output="c/{chunk:06}.mov",
            output="film.mov",
            drop=["audio"],
            base_dir=str(farm.store),
        )
    )
    assert status.state is JobState.COMPLETED, status.error

    async with connected(farm) as web:
        film = await (await read_playlist(web, status.id)).fetch(web)

    with av.open(io.BytesIO(film), "r") as container:
        assert not container.streams.audio


@pytest.mark.parametrize("offset", [0.5, -0.25])
async def test_the_sound_of_the_film_is_heard_in_its_place(
    place: Place, ffmpeg: str, tmp_path: Path, offset: float
) -> None:
    base = tmp_path / "project" if place.is_bucket else Path(place.url)
    (base / "sound").mkdir(parents=True)
    await run_in_thread(partial(make_sound, ffmpeg, base / "sound/score.wav"))
    audio = {"file": "sound/score.wav", "codec": "pcm", "offset_seconds": offset}
    where = {"store": place.url} if place.is_bucket else {}
    job = make_job(
        command=IMAGES, chunk_output="f/{frame:04}.png", output="film.mkv", audio=audio, base_dir=str(base), **where
    )
    status = await place.farm.run(job)
    assert status.state is JobState.COMPLETED, status.error

    async with connected(place.farm) as web:
        film = await web.get(f"jobs/{status.id}/outputs/file", params={"path": "film.mkv"})
        wanted = read_sound(film.content)
        whole = await (await read_playlist(web, status.id, proxy=1)).fetch(web)
        rest = await (await read_playlist(web, status.id, proxy=1, **{"from": 2})).fetch(web)

    assert numpy.array_equal(read_sound(whole), wanted)
    assert numpy.array_equal(read_sound(rest), wanted[count_samples(60) :])


async def test_a_sound_elsewhere_is_not_read(farm: Farm, ffmpeg: str, tmp_path: Path) -> None:
    sound, elsewhere = farm.store / "score.wav", tmp_path / "elsewhere.wav"
    await run_in_thread(partial(make_sound, ffmpeg, sound))
    status = await farm.run(
        make_job(
            command=IMAGES,
            chunk_output="f/{frame:04}.png",
            output="film.mkv",
            audio="score.wav",
            base_dir=str(farm.store),
        )
    )
    assert status.state is JobState.COMPLETED, status.error

    async with connected(farm) as web:
        before = await read_playlist(web, status.id, proxy=1)
        sound.rename(elsewhere)
        sound.symlink_to(elsewhere)
        behind = await read_playlist(web, status.id, proxy=1)

    assert "sound=44100x2" in before.text
    assert "sound" not in behind.text

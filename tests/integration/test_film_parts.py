"""Films of thousands of chunks are made of parts; a stitch that is killed goes on with those that are finished."""

import os
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from support.farm import Farm, eventually, until_state
from support.jobs.films import frame_digests
from support.jobs.stored_jobs import Place
from support.processes.workers import worker_process

from activities.attempts import film_parts
from activities.attempts.film_parts import PART_CHUNKS, FilmParts
from activities.media.facts import ChunkFile
from activities.media.video import inspect_video
from activities.stores.job_folder import JobFolder, Sidecar
from longtake import FrameRange, JobState, RenderJobSpec
from longtake.stores.directory import DirectoryStore, file_digest
from longtake.stores.job_layout import chunk_key
from longtake.stores.publications import PublishedFile

pytestmark = pytest.mark.integration

CHUNKS = 4 * PART_CHUNKS
FRAMES = 2
# No divisor of a part's chunks, so that each part holds others.
DIFFERENT = 7


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven chunks make three parts."""
    monkeypatch.setattr(film_parts, "PART_CHUNKS", 3)
    monkeypatch.setattr(film_parts, "_LEAST_PARTS", 2)


def small_job(place: Place, **fields: object) -> RenderJobSpec:
    """Return a job of seven chunks with a score."""
    picture = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25", "-vf", "trim=start_frame={start},setpts=PTS-STARTPTS")
    encode = ("-frames:v", "{count}", "-c:v", "libx264", "-qp", "0", "-bf", "2", "-pix_fmt", "yuv420p", "{output}")
    store = {"store": place.url} if place.is_bucket else {}
    fields = {
        "name": "small",
        "frames": FrameRange(count=28, per_chunk=4),
        "fps": "25",
        "command": ("ffmpeg", "-nostdin", "-v", "error", *picture, *encode),
        "chunk_output": "chunks/{chunk:06}.mp4",
        "output": "film.mov",
        "base_dir": str(place.farm.store),
        **store,
        **fields,
    }
    return RenderJobSpec.model_validate(fields)


def write_score(path: Path, ffmpeg: str) -> None:
    score = ("-f", "lavfi", "-i", "sine=f=440:r=48000", "-t", "2")
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *score, str(path)], check=True)


@pytest.mark.usefixtures("_small_parts")
async def test_a_film_of_parts_has_its_sound_and_all_frames(place: Place, ffmpeg: str, tmp_path: Path) -> None:
    write_score(place.farm.store / "score.wav", ffmpeg)

    status = await place.farm.run(small_job(place, audio="score.wav", verify="full"))

    assert status.state is JobState.COMPLETED, status.error
    assert status.result is not None
    assert status.result.proof.startswith("all 28 frames decoded and compared with the chunks; they are 3 parts")
    film = place.store.download(str(status.result.output), tmp_path / "film.mov", sha256=status.result.sha256)
    whole = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25", "-frames:v", "28", "-pix_fmt", "yuv420p")
    assert frame_digests(ffmpeg, "-i", str(film)) == frame_digests(ffmpeg, *whole)
    assert not any("/parts" in name for name in place.files())


@pytest.mark.usefixtures("_small_parts")
async def test_a_part_that_is_damaged_on_the_way_costs_one_try(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    make_all = FilmParts.make_all
    tries: list[int] = []

    def damage(parts: FilmParts, *wanted: object) -> list[ChunkFile]:
        made: list[ChunkFile] = make_all(parts, *wanted)  # type: ignore[arg-type]
        tries.append(len(made))
        if len(tries) == 1:
            # In place, so that the part in the store is damaged, too.
            with made[1].path.open("r+b") as file:
                file.truncate(1000)
        return made

    monkeypatch.setattr(FilmParts, "make_all", damage)
    place = Place(farm, str(farm.store), None, farm.store)  # type: ignore[arg-type]  # no bucket
    status = await farm.run(small_job(place))

    assert status.state is JobState.COMPLETED, status.error
    assert tries == [3, 3]
    assert status.completed_chunks == 7


def rendered_job(store: Path, ffmpeg: str) -> RenderJobSpec:
    """Return a job of thousands of chunks, all of which another job has rendered: copies of a few."""
    job = RenderJobSpec(
        name="many",
        frames=FrameRange(count=CHUNKS * FRAMES, per_chunk=FRAMES),
        fps="25",
        command=("sh", "-c", "exit 1", "{output}"),
        chunk_output="chunks/{chunk:06}.mp4",
        output="film.mp4",
        base_dir=str(store),
        if_exists="reuse",
    )
    folder = JobFolder(DirectoryStore(store), "rendered")
    folder.create(job, None)
    sources = [source(store.parent / f"source{number}.mp4", ffmpeg, number) for number in range(DIFFERENT)]
    known = [(inspect_video(path, fps=Fraction(25), frames=FRAMES), file_digest(path)) for path in sources]
    (store / "chunks").mkdir()
    Path(folder.sidecar_path("000000")).parent.mkdir()
    for chunk in range(CHUNKS):
        key, path = chunk_key(chunk), store / f"chunks/{chunk:06}.mp4"
        shutil.copyfile(sources[chunk % DIFFERENT], path)
        status, (facts, digest) = path.stat(), known[chunk % DIFFERENT]
        file = PublishedFile(
            path=str(path),
            size_bytes=status.st_size,
            sha256=digest,
            modified_ns=status.st_mtime_ns,
            attempt_path=f"{path}.gone",
        )
        sidecar = Sidecar(
            key=key, digest=job.digest(), attempt="a", frames=FRAMES, files=(file,), video=facts, width=64, height=64
        )
        Path(folder.sidecar_path(key)).write_text(sidecar.model_dump_json(exclude_defaults=True))
    return job


def source(path: Path, ffmpeg: str, number: int) -> Path:
    picture = f"testsrc2=s=64x64:r=25,trim=start_frame={number * FRAMES},setpts=PTS-STARTPTS"
    words = ("-f", "lavfi", "-i", picture, "-frames:v", str(FRAMES), "-c:v", "libx264", "-pix_fmt", "yuv420p")
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *words, str(path)], check=True)
    return path


def spoil(path: Path) -> None:
    """Write something else into a file, which looks as if nobody had touched it."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.slow
async def test_a_killed_stitch_goes_on_with_its_finished_parts(bare: Farm, ffmpeg: str) -> None:
    job_spec = rendered_job(bare.store, ffmpeg)
    async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
        job = await bare.submit(job_spec)
        parts = Path(JobFolder(DirectoryStore(bare.store), job.id).attempts_dir("film")) / "parts"
        await eventually(lambda: any(parts.glob("*.json")), "a part is finished")
        worker.kill()
        await worker.wait()
    finished = len(list(parts.glob("*.json")))
    assert not (bare.store / "film.mp4").exists()
    shown = [frame_digests(ffmpeg, "-i", str(bare.store / f"chunks/{chunk:06}.mp4")) for chunk in range(DIFFERENT)]
    wanted = [digest for chunk in range(CHUNKS) for digest in shown[chunk % DIFFERENT]]
    # Who makes a finished part again meets chunks that are damaged. The first one is looked at in any case.
    for chunk in range(1, finished * PART_CHUNKS):
        spoil(bare.store / f"chunks/{chunk:06}.mp4")

    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(job, JobState.COMPLETED)

    assert status.result is not None
    assert "they are 4 parts, each compared with its chunks likewise" in status.result.proof
    assert status.result.frames == CHUNKS * FRAMES
    assert frame_digests(ffmpeg, "-i", str(bare.store / "film.mp4")) == wanted
    assert not parts.exists()

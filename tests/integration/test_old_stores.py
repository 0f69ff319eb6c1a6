"""Stores that earlier versions wrote are read, fetched, deleted and rendered to their end by this one."""

import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from support.command_line import Ran, command_line
from support.farm import Farm, serving, until, worker_settings
from support.jobs.films import frame_digests
from support.jobs.old_stores import FOLDER, VERSIONS, OldStore, job_files, recorded
from support.jobs.stored_jobs import here, read_all_files
from support.remote.agent_farm import services
from support.s3.server import S3Server

from longtake import JobHandle, JobState, JobStatus, RenderJobSpec
from longtake.models.backends import BackendKind

pytestmark = pytest.mark.integration

# What differs in a bucket, other tests show there.
directory_first = pytest.mark.parametrize(
    "idle", ["directory", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True
)

FRAMES_SCRIPT = FOLDER / "scripts" / "frames.sh"


class Old:
    """An old store, and a farm of this version that may use it."""

    def __init__(self, farm: Farm, store: OldStore, s3_server: S3Server, tmp_path: Path) -> None:
        self.farm = farm
        self.store = store
        self._minio = s3_server
        self._tmp_path = tmp_path
        self._prefix = "bucket-" if store.url.startswith("s3://") else ""

    def name(self, job: str) -> str:
        return f"{self._prefix}{job}"

    def id(self, job: str) -> str:
        return self.store.ids[self.name(job)]

    def files(self) -> dict[str, bytes]:
        """Return all files that are in the store now."""
        return {
            path: content for path, content in read_all_files(self.store.url, self._minio).items() if path[-1] != "/"
        }

    def made_by(self, job: str) -> set[str]:
        return self.store.of(self.name(job))

    def new_logs(self) -> list[str]:
        """Return what was printed by renderers that this version has started for chunks, in the order of these."""
        logs = {path: content for path, content in self.files().items() if re.search(r"/logs/\d", path)}
        return [logs[path].decode().strip() for path in sorted(logs.keys() - self.store.files.keys())]

    async def go_on(self, job: str, *, id: str = "", **fields: object) -> tuple[JobHandle, JobStatus]:
        """Submit a job of the store as it was submitted then, and return it when it has ended."""
        self.store.go.touch()
        spec = self.store.job(self.name(job)).to_wire() | fields
        handle = await self.farm.render.submit(RenderJobSpec.model_validate(spec), id=id or self.id(job))
        status = await until(handle, lambda status: status.state.has_ended)
        assert status.state is JobState.COMPLETED, status.error
        return handle, status

    async def cli(self, *arguments: str) -> Ran:
        async with command_line(self.farm) as cli:
            return await cli(*arguments)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["directory", "bucket"])
def idle(
    request: pytest.FixtureRequest, version: str, bare: Farm, bucket: str, s3_server: S3Server, tmp_path: Path
) -> Old:
    """A store and a farm without workers."""
    found = OldStore.moved(version, bucket if request.param == "bucket" else str(bare.store), bare.store.parent)
    found.write(s3_server, version)
    return Old(bare, found, s3_server, tmp_path)


@pytest_asyncio.fixture
async def old(idle: Old, bucket: str, scratch: Path) -> AsyncIterator[Old]:
    """A store and a farm with workers."""
    settings = worker_settings(idle.farm.task_queue, idle.farm.store, slots=4)
    settings = settings.model_copy(update={"stores": (bucket,), "scratch": scratch})
    async with serving(idle.farm.client, settings):
        yield idle


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[int, bytes]:
    """The frames of the recorded image sequences, as their renderer makes them when nothing happens."""
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    pattern, go = folder / "f_%04d.bmp", folder / "go"
    go.touch()
    subprocess.run(["sh", str(FRAMES_SCRIPT), str(pattern), "0", "12", "6", str(go)], check=True, capture_output=True)
    return {frame: (folder / f"f_{frame:04}.bmp").read_bytes() for frame in range(12)}


def sequence(files: dict[str, bytes], folder: str) -> dict[int, bytes]:
    return {frame: files[f"{folder}/f_{frame:04}.bmp"] for frame in range(12)}


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_a_recorded_job_is_the_same_work_as_ever(version: str, kind: str) -> None:
    files = recorded(version, kind)
    records = {path: json.loads(content) for path, content in files.items() if re.search(r"/chunks/\d+\.json$", path)}
    assert len(list(job_files(files))) == (4 if kind == "directory" else 2)
    for id, job in job_files(files):
        known = {record["digest"] for path, record in records.items() if f"/{id}/" in path}
        assert known == {RenderJobSpec.model_validate_json(job).digest()}


@directory_first
async def test_an_interrupted_sequence_renders_what_is_missing_and_nothing_else(
    old: Old, undisturbed: dict[int, bytes], ffmpeg: str, tmp_path: Path
) -> None:
    _, status = await old.go_on("frames")

    assert old.new_logs() == ["frames 6 2", "frames 8 4"]
    assert (status.skipped_chunks, status.completed_chunks, status.completed_frames) == (1, 3, 12)
    files = old.files()
    assert sequence(files, "frames") == undisturbed
    left = {path for path in files if f"/{old.id('frames')}/" in path}
    assert not [path for path in left if "/attempts/" in path or "/frames/" in path or "/aside/" in path]
    film, same = tmp_path / "film.mp4", tmp_path / "same.mp4"
    film.write_bytes(files["frames.mp4"])
    whole = old.store.job(old.name("frames")).model_copy(
        update={"chunk_output": "again/f_{frame:04}.bmp", "output": "again.mp4"}
    )
    assert (await old.farm.run(whole)).state is JobState.COMPLETED
    same.write_bytes(old.files()["again.mp4"])
    digests = frame_digests(ffmpeg, "-i", str(film))
    assert len(digests) == 12
    assert digests == frame_digests(ffmpeg, "-i", str(same))


@directory_first
async def test_a_damaged_frame_of_a_proven_chunk_is_rendered_again_alone(
    old: Old, undisturbed: dict[int, bytes], s3_server: S3Server
) -> None:
    damaged = undisturbed[2][:-1] + b"\0"
    old.store.damage(s3_server, "frames/f_0002.bmp", damaged)

    await old.go_on("frames")

    assert old.new_logs() == ["frames 2 1", "frames 6 2", "frames 8 4"]
    files = old.files()
    assert sequence(files, "frames") == undisturbed
    assert damaged in [content for path, content in files.items() if "/aside/" in path]


async def test_proven_chunks_are_taken_over_by_a_job_of_another_id(old: Old, undisturbed: dict[int, bytes]) -> None:
    _, status = await old.go_on("frames", id=f"again-{old.id('frames')}", if_exists="reuse")

    assert old.new_logs() == ["frames 4 4", "frames 8 4"]
    assert status.skipped_chunks == 1
    assert sequence(old.files(), "frames") == undisturbed


@pytest.mark.parametrize("who", ["itself", "another"])
async def test_a_completed_film_is_taken_over_as_it_is(old: Old, who: str) -> None:
    before = {path: old.store.files[path] for path in old.made_by("film")}
    fields = {"if_exists": "reuse", "id": f"again-{old.id('film')}"} if who == "another" else {}

    handle, status = await old.go_on("film", **fields)

    assert old.new_logs() == []
    assert status.skipped_chunks == 3
    after = old.files()
    record = f".longtake/{old.id('film')}/job.json"
    told, tells = (json.loads(files.pop(record)) for files in (before, after))
    # Of the start that took it over, which versions before did not write down.
    tells.pop("started_at", None)
    assert tells == told
    assert before.items() <= after.items()
    assert (await handle.result()).output == f"{old.store.url}/film.mp4"


async def test_a_claim_without_a_sidecar_is_published_to_its_end(old: Old, s3_server: S3Server, version: str) -> None:
    sidecar, output = f".longtake/{old.id('film')}/chunks/000001.json", "film/000001.mp4"
    remove(old.store, sidecar, s3_server)

    await old.go_on("film")

    assert old.new_logs() == []
    files = old.files()
    assert sidecar in files
    assert files[output] == old.store.files[output]


async def test_what_jobs_have_made_comes_home(idle: Old, tmp_path: Path) -> None:
    film, frames = tmp_path / "film", tmp_path / "frames"
    completed = await idle.cli("fetch", idle.id("film"), str(film), "--store", idle.store.url)
    interrupted = await idle.cli("fetch", idle.id("frames"), str(frames), "--store", idle.store.url, "--no-logs")

    assert (completed.code, completed.err) == (interrupted.code, interrupted.err) == (0, "")
    made = {path: idle.store.files[path] for path in idle.made_by("film")}
    outputs = {path: content for path, content in made.items() if not path.startswith(".longtake/")}
    logs = {path.partition(f"{idle.id('film')}/")[2]: content for path, content in made.items() if "/logs/" in path}
    assert (len(outputs), len(logs)) == (4, 3)
    assert here(film) == outputs | logs
    assert here(frames) == {path: idle.store.files[path] for path in (f"frames/f_{frame:04}.bmp" for frame in range(4))}


async def test_deleted_jobs_are_gone_and_nothing_else(idle: Old) -> None:
    left = idle.files()
    for job in ("film", "frames"):
        ran = await idle.cli("delete", idle.id(job), "--yes", "--store", idle.store.url)

        assert ran.code == 0, ran.err
        assert idle.made_by(job) <= left.keys()
        left = {path: content for path, content in left.items() if path not in idle.made_by(job)}
        assert idle.files() == left


async def test_a_failed_job_is_mended_and_its_old_logs_are_read(
    version: str, farm: Farm, store: Path, s3_server: S3Server, tmp_path: Path
) -> None:
    found = OldStore.moved(version, str(store), store.parent)
    found.write(s3_server, version)
    old = Old(farm, found, s3_server, tmp_path)

    _, status = await old.go_on("texts")

    assert status.skipped_chunks == 1
    assert old.new_logs() == ["chunk 1", "chunk 2"]
    assert (store / "texts.txt").read_text() == "text of chunk 0\ntext of chunk 1\ntext of chunk 2\n"
    tries = [await old.cli("logs", old.id("texts"), "--chunk", "1", "--attempt", number) for number in ("1", "2", "3")]
    assert [ran.out for ran in tries] == ["chunk 1\nchunk 1 has no ink\n"] * 2 + ["chunk 1\n"]
    assert (await old.cli("delete", old.id("texts"), "--yes")).code == 0
    assert {path for path in old.files() if "texts" in path} == set()


async def test_a_chunk_that_a_lost_function_has_begun_goes_on_where_it_was(
    version: str, bare: Farm, store: Path, s3_server: S3Server, tmp_path: Path, undisturbed: dict[int, bytes]
) -> None:
    found = OldStore.moved(version, str(store), store.parent)
    found.write(s3_server, version)
    old = Old(bare, found, s3_server, tmp_path)
    kind = BackendKind.LAMBDA

    async with services(kind, (str(store),), tmp_path) as running, serving(bare.client, running.settings(bare)):
        _, status = await old.go_on("service")

    assert status.skipped_chunks == 1
    assert old.new_logs() == ["frames 6 2", "frames 8 4"]
    assert sequence(old.files(), "service") == undisturbed
    assert status.metrics.billed_seconds > 0


def remove(store: OldStore, path: str, s3_server: S3Server) -> None:
    """Take a file out of a store."""
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    remover: Callable[[], object] = (
        (lambda: s3_server.client().delete_object(Bucket=bucket, Key=f"{prefix}/{path}"))
        if store.url.startswith("s3://")
        else (Path(store.url) / path).unlink
    )
    remover()

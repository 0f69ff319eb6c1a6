"""The stitch: a share that has vanished is no missing chunk and no finished job; tries at a film, and lost workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from support.s3.server import S3Server
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import stitch
from activities.attempts.film_attempt import FilmAttempt
from activities.attempts.host import Host
from activities.attempts.proven_chunks import ProvenChunks
from activities.errors import AttemptError
from activities.job_watch import JobWatches
from activities.processes.programs import Programs
from activities.stitch import StitchActivities
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_job
from activities.stores.publish import publish, stage_files
from longtake import Retry
from longtake.errors import ErrorType
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.messages import Heartbeat, JobRef, StitchOrder
from longtake.models.status import RenderJobResult
from longtake.ranges import RangeSet
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import compute_integrity
from longtake.stores.store import Store

FILM = {"output": "film.mp4", "fps": "25"}
OWN_FILM = {"output": "film.bin", "merge_command": ("true", "{output}")}


@pytest.fixture
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process needs to open the bucket of `any_store` by its URL."""
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


class NoWatches:
    """A job that nobody steers."""

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        yield


class Scene:
    """A job of two published chunks in a store."""

    def __init__(self, store: Store, tmp_path: Path, **fields: object) -> None:
        place = {"base_dir": store.url} if store.is_local else {"store": store.url}
        self.job = RenderJobSpec.model_validate(
            {
                "frames": FrameRange(count=2, per_chunk=1),
                "command": ("true", "{output}"),
                "chunk_output": "{chunk}.bin" if "fps" not in fields else "{chunk}.mp4",
                **place,
                **fields,
            }
        )
        self.store = store
        self.folder = JobFolder(store, "job")
        self.folder.create(self.job, None)
        self.ref = JobRef(
            id="job",
            base_dir=store.url if store.is_local else "",
            store="" if store.is_local else store.url,
            digest=self.job.digest(),
            integrity=compute_integrity(encode_job(self.job), None),
        )
        self.host = Host(None, Programs(None, "ffmpeg"), {}, InputCache(tmp_path, 0), tmp_path)  # type: ignore[arg-type]
        self.opened = OpenJob.read(self.ref, scratch=tmp_path)
        for chunk in self.opened.chunks:
            self._publish(chunk.index, self.opened.target(chunk.first_output))

    def _publish(self, chunk: int, target: str) -> None:
        key = chunk_key(chunk)
        place = self.folder.attempt_dir(key, "a")
        made = self.store.local(place) / "out"
        made.parent.mkdir(parents=True)
        made.write_text("rendered")
        files = stage_files(self.folder, [made], place, [target])
        publish(self.folder, Sidecar(key=key, digest=self.ref.digest, attempt="a", frames=1, files=files))

    async def stitch(self, environment: ActivityEnvironment | None = None) -> RenderJobResult:
        activities = StitchActivities(self.host, cast("JobWatches", NoWatches()))
        return await (environment or ActivityEnvironment()).run(activities.stitch_job, StitchOrder(ref=self.ref))


def vanish(scene: Scene) -> None:
    place = Path(scene.store.url)
    place.rename(place.with_name("share"))
    place.mkdir()


@pytest.mark.usefixtures("credentials")
async def test_a_job_without_a_film_is_done_when_its_chunks_are_proven(any_store: Store, tmp_path: Path) -> None:
    scene = Scene(any_store, tmp_path)

    assert (await scene.stitch()).frames == 2


@pytest.mark.parametrize("fields", [{}, FILM, OWN_FILM], ids=["no film", "film", "merge command"])
async def test_a_share_that_vanished_before_the_stitch_fails_no_job(tmp_path: Path, fields: dict[str, object]) -> None:
    (tmp_path / "store").mkdir()
    scene = Scene(DirectoryStore(tmp_path / "store"), tmp_path, **fields)
    vanish(scene)

    with pytest.raises(ApplicationError, match="the store is not there any more") as raised:
        await scene.stitch()

    assert raised.value.type == ErrorType.ATTEMPT_LOST
    assert not list((tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    ("change", "type", "said"),
    [
        ("gone", ErrorType.ATTEMPT_LOST, "(is not there any more|the record of the job is gone)"),
        ("changed", ErrorType.STITCH_REFUSED, "job job is not done: .*job.json is not what was accepted as job job"),
    ],
)
@pytest.mark.usefixtures("credentials")
async def test_a_job_without_a_film_is_not_done_where_its_record_is_not_there_any_more(
    any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, type: str, said: str
) -> None:
    scene = Scene(any_store, tmp_path)
    prove = stitch.prove_chunks

    def prove_and_change(job: OpenJob, missing: RangeSet) -> ProvenChunks:
        proven = prove(job, missing)
        if change == "gone":
            any_store.remove(job.folder.job_file)
        else:
            any_store.replace(job.folder.job_file, encode_job(job.job.model_copy(update={"name": "another"})))
            job.folder.remember_store()
        return proven

    monkeypatch.setattr(stitch, "prove_chunks", prove_and_change)

    with pytest.raises(ApplicationError, match=said) as raised:
        await scene.stitch()

    assert (raised.value.type, raised.value.non_retryable) == (type, change == "changed")


def accepted(store: Path) -> JobRef:
    """Write down a job whose film comes of a merge command."""
    job = RenderJobSpec(
        frames=FrameRange(count=1, per_chunk=1),
        command=("render", "{output}"),
        chunk_output="{chunk}.txt",
        merge_command=("merge", "{output}"),
        output="all.bin",
        base_dir=str(store),
        retry=Retry(lost_workers=3),
    )
    JobFolder(DirectoryStore(store), "job").create(job, None)
    return JobRef(id="job", base_dir=str(store), digest=job.digest())


async def failure_of(store: Path, attempt: int, **before: object) -> tuple[ApplicationError, Heartbeat]:
    """Return how an attempt fails, and its last heartbeat."""
    sent: list[Heartbeat] = []
    environment = ActivityEnvironment()
    details = (Heartbeat.model_validate({"chunk": 0, **before}).model_dump(mode="json"),)
    environment.info = replace(environment.info, attempt=attempt, heartbeat_details=details)
    environment.on_heartbeat = lambda beat: sent.append(beat)
    host = Host(None, None, {}, None, store)  # type: ignore[arg-type]  # no film is made
    stitch = StitchActivities(host, cast("JobWatches", NoWatches()))
    with pytest.raises(ApplicationError) as failed:
        await environment.run(stitch.stitch_job, StitchOrder(ref=accepted(store)))
    return failed.value, sent[-1]


@pytest.fixture
def _merges_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(film: FilmAttempt) -> None:
        raise AttemptError("exited with code 1")

    sidecar = Sidecar(key="000000", digest="", attempt="a", frames=1, files=())
    monkeypatch.setattr("activities.stitch.prove_chunks", lambda job, missing: ProvenChunks([sidecar]))
    monkeypatch.setattr(FilmAttempt, "run", fail)


@pytest.mark.usefixtures("_merges_fail")
@pytest.mark.parametrize(("failures", "is_last"), [(0, False), (1, False), (2, True)])
async def test_only_failed_tries_count_as_tries_at_a_film(tmp_path: Path, failures: int, is_last: bool) -> None:
    """A store that was away and workers that were stopped are attempts of Temporal's, and no tries."""
    error, beat = await failure_of(tmp_path, 9, number=8, ended=True, failures=failures)

    assert (error.type, error.non_retryable) == (ErrorType.ATTEMPT_FAILED, is_last)
    assert (beat.failures, beat.losses) == (failures + 1, 0)


@pytest.mark.usefixtures("_merges_fail")
async def test_a_film_that_takes_its_workers_down_fails_its_job(tmp_path: Path) -> None:
    error, _ = await failure_of(tmp_path, 4, number=3, losses=2)

    assert (error.type, error.non_retryable) == (ErrorType.JOB_FAILED, True)
    assert error.message.startswith("3 workers were lost while they made the film, so no other one gets it")

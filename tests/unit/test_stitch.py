"""The stitch: a share that has vanished is no chunk that is missing, and no job that is done."""

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
from activities.attempts.host import Host
from activities.backends.backend import RenderTask, RenderWatcher
from activities.errors import AttemptError
from activities.job_watch import JobWatches
from activities.processes.programs import Programs
from activities.processes.render_process import Usage
from activities.stitch import StitchActivities
from activities.stores.input_cache import InputCache
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_job
from activities.stores.publish import publish, stage_files
from longtake.errors import ErrorType
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import FrameRange
from longtake.models.messages import Heartbeat, JobRef, StitchOrder
from longtake.models.status import RenderJobResult
from longtake.ranges import RangeSet
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import chunk_key, compute_integrity
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
    async def watch(self, *, parallel: int) -> AsyncIterator[None]:
        yield


class Fails:
    """A backend whose commands fail."""

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        raise AttemptError("merge exited with code 1")


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
        self.host = Host(Fails(), Programs(None, "ffmpeg"), {}, InputCache(tmp_path, 0), tmp_path)
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

    def prove_and_change(job: OpenJob, missing: RangeSet) -> list[Sidecar]:
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


async def test_tries_that_were_lost_do_not_count(tmp_path: Path) -> None:
    """The film of three tries fails the job; however often the store was away before."""
    scene = Scene(DirectoryStore(tmp_path / "store"), tmp_path, **OWN_FILM)
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=7, heartbeat_details=[Heartbeat(chunk=0, failures=1)])
    sent: list[Heartbeat] = []
    environment.on_heartbeat = sent.append

    with pytest.raises(ApplicationError) as raised:
        await scene.stitch(environment)

    assert not raised.value.non_retryable
    assert sent[-1].failures == 2

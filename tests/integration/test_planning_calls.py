"""Planning asks a bucket by the folder: calls grow with chunks and pages of a listing, never with frames."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.farm import worker_settings
from support.s3.faulty_proxy import FaultyStore, faulty
from support.s3.server import S3Server

from activities.acceptance import Acceptance
from activities.allowed_stores import AllowedStores
from activities.attempts.host import build_host
from activities.processes.supervisor import Supervisor
from activities.stores.job_folder import JobFolder, Sidecar
from longtake import FrameRange, RenderJobSpec
from longtake.errors import BadJobError
from longtake.models.job_fields import IfExists
from longtake.models.messages import PlanOrder
from longtake.stores.factory import open_store
from longtake.stores.job_records import PublishedFile, chunk_key
from longtake.stores.store import map_parallel

pytestmark = pytest.mark.integration

CHUNKS = 3
FRAMES = 200
CONTENT = b"a frame"

# A few for the job's own records; then one a chunk for its sidecar, and one a folder for each listing.
MOST_CALLS = 12 + 2 * CHUNKS


@pytest.fixture
def way(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    with faulty(s3_server.url) as way:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, way.url if name.startswith("AWS_ENDPOINT_URL") else value)
        yield way


class Planner:
    """Jobs of image sequences in one bucket, and a worker that plans them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.store = open_store(url, scratch=folder / "look")
        settings = worker_settings("plan", folder, slots=1).model_copy(update={"scratch": folder / "scratch"})
        (folder / "tools").mkdir(parents=True)
        self.host = build_host(settings, Supervisor(), tools=folder / "tools")

    def job(self, **fields: object) -> RenderJobSpec:
        known = {
            "name": "frames",
            "frames": FrameRange(count=CHUNKS * FRAMES, per_chunk=FRAMES),
            "command": (sys.executable, "-c", "", "{output}", "{start}", "{count}"),
            "chunk_output": "frames/{frame:06}.png",
            "store": self.url,
        }
        return RenderJobSpec.model_validate(known | fields)

    def acceptance(self, job: RenderJobSpec, id: str) -> Acceptance:
        return Acceptance(PlanOrder(id=id, job=job), self.host, AllowedStores((), (self.url,)))

    def publish_all(self, job: RenderJobSpec, id: str) -> None:
        """Write all that a job leaves that has rendered all of its chunks."""
        accepted = self.acceptance(job, id)
        opened = accepted.run()
        digest = hashlib.sha256(CONTENT).hexdigest()
        for chunk in opened.chunks:
            targets = [opened.target(path) for path in chunk.outputs()]
            map_parallel(self.store, lambda target: self.store.create(target, CONTENT), targets)
            files = tuple(
                PublishedFile(path=target, size_bytes=len(CONTENT), sha256=digest, attempt_path=f"{target}.gone")
                for target in targets
            )
            key = chunk_key(chunk.index)
            sidecar = Sidecar(key=key, digest=accepted.ref.digest, attempt="a", frames=FRAMES, files=files)
            content = sidecar.model_dump_json(exclude_defaults=True).encode()
            folder = JobFolder(self.store, id)
            self.store.create(folder.claim_path(key), content)
            self.store.create(folder.sidecar_path(key), content)


@pytest.fixture
def planner(way: FaultyStore, s3_server: S3Server, tmp_path: Path) -> Planner:
    return Planner(f"s3://{s3_server.bucket()}/show", tmp_path)


def test_a_job_that_is_published_is_planned_again_in_a_few_calls(planner: Planner, way: FaultyStore) -> None:
    planner.publish_all(planner.job(), "job")
    way.calls.clear()

    acceptance = planner.acceptance(planner.job(), "job")
    done = acceptance.find_finished_chunks(acceptance.run())

    assert done == ((0, CHUNKS),)
    assert len(way.calls) <= MOST_CALLS, way.calls


def test_frames_that_another_job_has_published_are_reused_in_a_few_calls(planner: Planner, way: FaultyStore) -> None:
    planner.publish_all(planner.job(), "first")
    way.calls.clear()

    acceptance = planner.acceptance(planner.job(if_exists=IfExists.REUSE), "second")
    done = acceptance.find_finished_chunks(acceptance.run())

    assert done == ((0, CHUNKS),)
    # The records of the other job are read, and copied, once a chunk.
    assert len(way.calls) <= MOST_CALLS + 8 * CHUNKS, way.calls


def test_frames_of_another_job_refuse_one_that_goes_on_after_one_look_at_records(
    planner: Planner, way: FaultyStore
) -> None:
    planner.acceptance(planner.job(), "second").run()
    planner.publish_all(planner.job(name="other", if_exists=IfExists.REPLACE), "first")
    way.calls.clear()

    with pytest.raises(BadJobError, match="made by job first"):
        planner.acceptance(planner.job(), "second").run()

    # All sidecars and claims of both jobs are read: once to find the maker, and once to name it.
    assert len(way.calls) <= MOST_CALLS + 16 * CHUNKS, way.calls


def test_a_frame_that_was_exchanged_since_is_found(planner: Planner, way: FaultyStore) -> None:
    planner.publish_all(planner.job(), "job")
    target = planner.store.locate("frames/000150.png")
    planner.store.replace(target, b"another frame")

    acceptance = planner.acceptance(planner.job(), "job")
    done = acceptance.find_finished_chunks(acceptance.run())

    assert done == ((1, CHUNKS),)

"""Planning asks a bucket by the folder: calls grow with pages of a listing, never with frames or finished chunks."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.jobs.published_frames import FramePlanner
from support.s3.faulty_proxy import FaultyStore, faulty
from support.s3.server import S3Server

from longtake.errors import BadJobError
from longtake.models.job_fields import IfExists
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import JobRecords
from longtake.stores.store import FolderListings

pytestmark = pytest.mark.integration

FRAMES = 84

# For the job's own records, and one for each page of a listing: of the chunks' records, and of the frames.
MOST_CALLS = 14


@pytest.fixture
def way(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    with faulty(s3_server.url) as way:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, way.url if name.startswith("AWS_ENDPOINT_URL") else value)
        yield way


@pytest.fixture(params=[28, 4], ids=lambda per_chunk: f"{per_chunk} a chunk")
def planner(way: FaultyStore, s3_server: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> FramePlanner:
    return FramePlanner(f"s3://{s3_server.bucket()}/show", tmp_path, frames=FRAMES, per_chunk=request.param)


def chunks_of(planner: FramePlanner) -> int:
    return FRAMES // planner.frames.per_chunk


def test_a_job_that_is_published_is_planned_again_in_a_few_calls(planner: FramePlanner, way: FaultyStore) -> None:
    planner.publish_all(planner.job(), "job")
    way.calls.clear()

    assert planner.plan(planner.job(), "job") == ((0, chunks_of(planner)),)
    assert len(way.calls) <= MOST_CALLS, way.calls


def test_frames_that_another_job_has_published_are_reused_in_a_call_a_chunk(
    planner: FramePlanner, way: FaultyStore
) -> None:
    planner.publish_all(planner.job(), "first")
    for number in range(5):
        # Jobs of other work, whose records are no concern of this one.
        planner.acceptance(planner.job(chunk_output=f"{number}/{{frame}}.png"), f"other-{number}").run()
    way.calls.clear()

    done = planner.plan(planner.job(if_exists=IfExists.REUSE), "second")

    assert done == ((0, chunks_of(planner)),)
    # One sidecar of the other job is read for each chunk; each job of the store is looked at once. What is taken over
    # is written in one file, which is listed and read.
    assert len(way.calls) <= MOST_CALLS + 6 * 3 + 4 + chunks_of(planner), way.calls


def test_frames_of_another_job_refuse_one_that_goes_on_after_one_look_at_records(
    planner: FramePlanner, way: FaultyStore
) -> None:
    planner.acceptance(planner.job(), "second").run()
    planner.publish_all(planner.job(name="other", if_exists=IfExists.REPLACE), "first")
    way.calls.clear()

    with pytest.raises(BadJobError, match="made by job first"):
        planner.acceptance(planner.job(), "second").run()

    # All sidecars and claims of both jobs are read: once to find the maker, and once to name it.
    assert len(way.calls) <= 2 * MOST_CALLS + 10 + 4 * chunks_of(planner), way.calls


def test_a_frame_that_was_exchanged_since_is_found(planner: FramePlanner) -> None:
    planner.publish_all(planner.job(), "job")
    target = planner.store.locate("frames/000030.png")
    record = planner.store.stat(
        JobRecords(planner.store, "job").sidecar_path(chunk_key(30 // planner.frames.per_chunk))
    )
    end = time.monotonic() + 30
    # The times of a bucket are seconds.
    while FolderListings(planner.store).is_untouched(target, record):
        assert time.monotonic() < end
        planner.store.replace(target, b"another frame")

    missing = 30 // planner.frames.per_chunk
    done = planner.plan(planner.job(), "job")

    assert done == ((0, missing), (missing + 1, chunks_of(planner)))

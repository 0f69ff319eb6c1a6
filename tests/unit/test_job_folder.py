"""The record of a job: what is rendered is what was accepted, all of it, by every reader."""

import hashlib
import json
from pathlib import Path

import pytest

from activities.allowed_stores import AllowedStores
from activities.attempts.host import Host
from activities.errors import StoreNotSharedError
from activities.stores.job_folder import JobFolder, OpenJob, encode_job
from longtake.errors import BadJobError
from longtake.models.frames import ChunkList, FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.messages import JobRef
from longtake.models.policies import FailurePolicy, ProgressSpec, ResumeUnit, Retry, Timeouts
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import ChangedJobError, JobRecords, compute_integrity

LIST = json.dumps({"chunks": [{"start": 0, "count": 5}, {"start": 5, "count": 5}]}).encode()
OTHER_LIST = json.dumps({"chunks": [{"start": 0, "count": 5}, {"start": 5, "count": 9}]}).encode()


def make_job(folder: Path, **fields: object) -> RenderJobSpec:
    given = {"frames": FrameRange(count=4, per_chunk=2), **fields}
    return RenderJobSpec.model_validate(
        {"command": ("sh", "{output}"), "chunk_output": "out/{chunk}.txt", "base_dir": str(folder), **given}
    )


def make_listed(folder: Path) -> RenderJobSpec:
    digest = hashlib.sha256(LIST).hexdigest()
    reference = ChunkList(path=str(folder / "job.json"), sha256=digest, count=2)
    return make_job(folder, frames=None, chunks=reference)


def accept(folder: Path, job: RenderJobSpec, chunk_list: bytes | None = None) -> tuple[JobFolder, JobRef]:
    records = JobFolder(DirectoryStore(folder), "job-1")
    records.create(job, chunk_list)
    integrity = compute_integrity(encode_job(job), chunk_list)
    return records, JobRef(id="job-1", base_dir=str(folder), digest=job.digest(), integrity=integrity)


def test_a_job_is_read_as_it_was_accepted(tmp_path: Path) -> None:
    _, ref = accept(tmp_path, make_listed(tmp_path), LIST)

    opened = OpenJob.read(ref, scratch=tmp_path / "scratch")

    assert [chunk.count for chunk in opened.chunks] == [5, 5]


@pytest.mark.parametrize("has_integrity", [True, False], ids=["by a newer worker", "by an older worker"])
def test_a_chunk_list_that_was_swapped_is_not_rendered(tmp_path: Path, has_integrity: bool) -> None:
    folder, ref = accept(tmp_path, make_listed(tmp_path), LIST)
    Path(folder.list_file).write_bytes(OTHER_LIST)
    ref = ref if has_integrity else ref.model_copy(update={"integrity": ""})

    with pytest.raises(StoreNotSharedError, match=r"list.json is not what was accepted as job job-1.*submit it again"):
        OpenJob.read(ref, scratch=tmp_path / "scratch")
    # Clients that fetch or delete what a job has made read by the same rule.
    assert JobRecords(DirectoryStore(tmp_path), "job-1").find_job() is None
    with pytest.raises(ChangedJobError):
        JobRecords(DirectoryStore(tmp_path), "job-1").read_accepted()


CHANGES: list[dict[str, object]] = [
    {"retry": Retry(attempts=50)},
    {"timeouts": Timeouts(chunk_seconds=1)},
    {"progress": ProgressSpec(fatal_patterns=("a",))},
    {"max_parallel": 100},
    {"on_chunk_failure": FailurePolicy.CONTINUE},
    {"resume": ResumeUnit.CHUNK},
    {"name": "other"},
    {"backend": "lambda"},
    {"command": ("sh", "-c", "id", "{output}")},
    {"env": {"A": "1"}},
]


@pytest.mark.parametrize("change", CHANGES, ids=[next(iter(change)) for change in CHANGES])
def test_a_job_file_that_was_changed_is_not_rendered(tmp_path: Path, change: dict[str, object]) -> None:
    job = make_job(tmp_path)
    folder, ref = accept(tmp_path, job)
    Path(folder.job_file).write_bytes(encode_job(make_job(tmp_path, **change)))

    with pytest.raises(StoreNotSharedError, match="is not what was accepted"):
        OpenJob.read(ref, scratch=tmp_path / "scratch")


def test_the_same_work_with_other_settings_is_accepted_anew(tmp_path: Path) -> None:
    """The second run would else be rendered with the retries of the first."""
    _, first = accept(tmp_path, make_job(tmp_path))
    folder, second = accept(tmp_path, make_job(tmp_path, retry=Retry(attempts=9)))

    assert OpenJob.read(second, scratch=tmp_path / "scratch").job.retry.attempts == 9
    assert first.integrity != second.integrity
    with pytest.raises(BadJobError, match="belongs to a different job"):
        folder.create(make_job(tmp_path, env={"A": "1"}), None)


def make_host(root: Path, tmp_path: Path) -> Host:
    # Backend, programs and inputs take no part in what is asked here.
    return Host(None, None, {}, None, tmp_path, make_allowed=lambda: AllowedStores([root]))  # type: ignore[arg-type]


def test_places_are_looked_at_again_when_a_job_is_opened(tmp_path: Path) -> None:
    """An order to render may come from somebody else than the workflow that has planned the job."""
    root, outside = tmp_path / "films", tmp_path / "elsewhere"
    root.mkdir()
    outside.mkdir()
    host = make_host(root, tmp_path)
    _, ref = accept(outside, make_job(outside))
    with pytest.raises(BadJobError, match=r"base_dir: .*elsewhere lies outside"):
        host.check_store(ref)

    film = {"output": "a.mp4", "chunk_output": "{chunk}.mp4", "fps": "25"}
    _, ref = accept(root, make_job(root, audio=str(outside / "a.wav"), **film))
    host.check_store(ref)
    opened = OpenJob.read(ref, scratch=tmp_path / "scratch")
    with pytest.raises(BadJobError, match=r"audio: .*elsewhere/a.wav lies outside"):
        host.check_job(opened)

    (root / "out").symlink_to(outside)
    with pytest.raises(BadJobError, match=r"chunk_output: .* lies outside"):
        host.check_targets(opened, [str(root / "out" / "0.txt")])

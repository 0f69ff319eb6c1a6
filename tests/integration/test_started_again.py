"""Jobs that are started again: by a schedule, by a cron, under the same id, by a retry and by a reset."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.command_line import command_line
from support.farm import Farm, until, until_state
from support.temporal_cli import Temporal, document

from activities.stores.job_folder import JobFolder
from longtake import JobHandle, JobState, JobStatus
from longtake.chunk_history import read_chunk_history
from longtake.names import RENDER_JOB_WORKFLOW, find_job_values, job_folder_name
from longtake.stores.directory import DirectoryStore
from longtake.stores.factory import open_store
from longtake.stores.job_records import JobRecords, list_jobs

pytestmark = pytest.mark.integration

# Chunks of a run lie in a folder of its own.
BY_START = "out/{date}/{time}/{job}/{chunk:06}.txt"


def new_id() -> str:
    return f"again-{uuid.uuid4().hex[:12]}"


async def next_run(job: JobHandle, before: str | None = None) -> JobStatus:
    """Return how the run of a job ended that comes after another one."""
    return await until(job, lambda status: status.state.has_ended and f"{status.started_at}" != before)


def outputs(farm: Farm, status: JobStatus) -> list[str]:
    """Return the outputs of a run, which are named after its start."""
    values = find_job_values(status.id, status.started_at)
    folder = farm.store / "out" / values["date"] / values["time"] / values["job"]
    return sorted(path.name for path in folder.iterdir())


async def test_each_start_of_a_schedule_has_files_of_its_own(farm: Farm, temporal: Temporal) -> None:
    job = document(farm.job(chunks=2, name="night {date}", chunk_output=BY_START))
    path = farm.store.parent / "job.json"
    path.write_text(json.dumps(job))
    name = f"nightly/{farm.task_queue}"
    await temporal(
        *("schedule", "create", "--schedule-id", farm.task_queue, "--interval", "1000h", "--type", "RenderJob"),
        *("--task-queue", farm.task_queue, "--workflow-id", name, "--input-file", str(path)),
    )
    # Intervals are counted from the epoch.
    nights = [datetime.fromtimestamp(3600 * 1000 * number, UTC) for number in (480, 481)]
    await temporal(
        *("schedule", "backfill", "--schedule-id", farm.task_queue, "--overlap-policy", "AllowAll"),
        *("--start-time", f"{nights[0] - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"),
        *("--end-time", f"{nights[1] + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"),
    )
    await farm.ledger.until_ended(4)
    await temporal("schedule", "delete", "--schedule-id", farm.task_queue)

    for night in nights:
        # Temporal appends the time for which it was due.
        status = await until_state(farm.render.job(f"{name}-{night:%Y-%m-%dT%H:%M:%SZ}"), JobState.COMPLETED)
        assert status.started_at == night
        assert status.name == f"night {night:%Y-%m-%d}"
        assert outputs(farm, status) == ["000000.txt", "000001.txt"]
        assert status.result is not None
        assert status.result.note == ""


async def start(farm: Farm, job_id: str, keys: dict[str, Any]) -> JobHandle:
    """Start a job as any client may, also under an id that has ended."""
    await farm.client.start_workflow(RENDER_JOB_WORKFLOW, keys, id=job_id, task_queue=farm.task_queue)
    return farm.render.job(job_id)


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest) -> tuple[Farm, dict[str, Any]]:
    """A farm, and the keys of a job in a folder or in a bucket."""
    if request.param == "directory":
        farm: Farm = request.getfixturevalue("farm")
        return farm, document(farm.job(chunks=3))
    bucket: str = request.getfixturevalue("bucket")
    cloud: Farm = request.getfixturevalue("cloud")
    return cloud, document(cloud.job(chunks=3, store=bucket))


@pytest.mark.parametrize("place", ["directory", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True)
async def test_the_same_id_again_renders_nothing_and_says_so_or_renders_anew(
    place: tuple[Farm, dict[str, Any]], temporal: Temporal, tmp_path: Any
) -> None:
    farm, keys = place
    job_id = new_id()
    first = await next_run(await start(farm, job_id, keys))
    assert first.state is JobState.COMPLETED, first.error
    store = open_store(first.base_dir or "", scratch=tmp_path / "look")

    again = await next_run(await start(farm, job_id, keys), f"{first.started_at}")
    async with command_line(farm) as cli:
        watched, shown = await cli("watch", job_id), await cli("status", job_id)
        submitted = None if "store" in keys else await cli("submit", cli_file(farm, keys), "--id", job_id)
    assert sorted(farm.ledger.started) == [0, 1, 2]
    assert again.result is not None
    assert again.result.note == "nothing was rendered: all 3 chunks were there already"
    assert watched.out.rstrip().endswith("; nothing was rendered: all 3 chunks were there already")
    assert again.result.note in shown.out
    # In a bucket, a submit uploads inputs too, and so is another job than one that is started raw.
    if submitted is not None:
        assert (submitted.code, submitted.out) == (0, f"{job_id}\n")
        assert f"{job_id} has completed before, and nothing was started; to render it anew" in submitted.err

    anew = await next_run(await start(farm, job_id, keys | {"if_exists": "replace"}), f"{again.started_at}")
    assert anew.state is JobState.COMPLETED, anew.error
    assert sorted(farm.ledger.started) == [0, 0, 1, 1, 2, 2]
    assert (anew.completed_chunks, anew.skipped_chunks) == (3, 0)
    assert anew.result is not None
    assert anew.result.note == ""
    records = JobRecords(store, job_id)
    assert len([name for name in store.names(records.aside_dir) if name.startswith("replaced.")]) == 3
    assert len(list(records.finished_records())) == 3
    (earlier,) = list_jobs(store, exclude=job_id)
    assert earlier.job_id.startswith(f"{job_id}-2")
    assert len(list(earlier.finished_records())) == 3, "the records of the start before are kept"

    await temporal(
        *("workflow", "reset", "--workflow-id", job_id, "--type", "FirstWorkflowTask", "--reason", "once more")
    )
    reset = await until(farm.render.job(job_id), lambda status: status.state.has_ended and status.skipped_chunks == 3)
    assert reset.started_at == anew.started_at, "a reset is the same start"
    assert len(farm.ledger.started) == 6


def cli_file(farm: Farm, keys: dict[str, Any]) -> str:
    path = farm.store.parent / "again.json"
    path.write_text(json.dumps(keys))
    return str(path)


@pytest.mark.parametrize("fields", [{"chunk_output": BY_START}, {"if_exists": "replace"}], ids=["times", "replace"])
@pytest.mark.slow
async def test_each_run_of_a_cron_renders_anew_where_its_job_says_so(
    farm: Farm, temporal: Temporal, fields: dict[str, Any]
) -> None:
    job_id = new_id()
    path = farm.store.parent / "cron.json"
    path.write_text(json.dumps(document(farm.job(chunks=1)) | fields))
    await temporal(
        *("workflow", "start", "--type", "RenderJob", "--task-queue", farm.task_queue, "--workflow-id", job_id),
        *("--input-file", str(path), "--cron", "@every 1s"),
    )
    await farm.ledger.until_ended(3)
    await temporal("workflow", "terminate", "--workflow-id", job_id)

    store = open_store(str(farm.store), scratch=farm.store)
    finished = {records.job_id for records in list_jobs(store) if list(records.finished_records())}
    assert len(finished) >= 2
    if "chunk_output" in fields:
        folders = list((farm.store / "out").glob(f"*/*/{job_folder_name(job_id)}/000000.txt"))
        assert len(folders) >= 2


async def test_a_retry_keeps_the_time_of_the_first_start(farm: Farm) -> None:
    options = ("--fail-times", "1", "--only", "1")
    failed = await farm.run(farm.job(chunks=3, chunk_output=BY_START, options=options, on_chunk_failure="continue"))
    assert failed.state is JobState.FAILED

    done = await until_state(await farm.render.retry(failed.id), JobState.COMPLETED)
    assert (done.started_at, done.skipped_chunks) == (failed.started_at, 2)
    assert outputs(farm, done) == ["000000.txt", "000001.txt", "000002.txt"]
    assert sorted(farm.ledger.started) == [0, 1, 1, 2]


async def test_a_retry_of_a_job_that_replaces_renders_only_what_is_missing(farm: Farm) -> None:
    options = ("--fail-times", "1", "--only", "1")
    fields: dict[str, Any] = {"if_exists": "replace", "on_chunk_failure": "continue"}
    failed = await farm.run(farm.job(chunks=3, options=options, **fields))

    done = await until_state(await farm.render.retry(failed.id), JobState.COMPLETED)
    assert done.skipped_chunks == 2
    assert sorted(farm.ledger.started) == [0, 1, 1, 2]


async def test_a_retry_of_one_chunk_renders_it_alone_and_the_last_one_completes_the_job(farm: Farm) -> None:
    options = ("--fail-times", "1", "--only", "1", "--only", "2")
    failed = await farm.run(farm.job(chunks=4, options=options, on_chunk_failure="continue", max_failed_chunks=4))
    assert (failed.completed_chunks, failed.failed_chunks) == (2, 2)

    job = await farm.render.retry(failed.id, chunks=[(1, 2)])
    lacking = await until(job, lambda status: status.state.has_ended and status.completed_chunks == 3)
    assert lacking.state is JobState.FAILED
    assert lacking.error == (
        f"what was asked for is rendered, and 1 other is missing (2); `longtake retry {job.id}` renders all"
    )
    assert (lacking.left_out_chunks, lacking.left_out) == (0, ())
    records = JobFolder(DirectoryStore(farm.store), job.id)
    record = records.find_job()
    assert record is not None
    history = read_chunk_history(records, record, lacking)
    assert [history.state(chunk) for chunk in range(4)] == ["done", "done", "failed", "done"]

    done = await until_state(await farm.render.retry(failed.id, chunks=[(2, 3)]), JobState.COMPLETED)
    assert done.result is not None
    assert sorted(farm.ledger.started) == [0, 1, 1, 2, 2, 3]


async def test_listed_chunks_of_a_file_know_job_and_time(farm: Farm) -> None:
    command = document(farm.job())["command"]
    chunks = [{"start": n, "count": 1, "output": f"{{date}}/{{job}}/{n}.txt", "command": command} for n in range(1200)]
    path = farm.store / "list.json"
    path.write_text(json.dumps({"name": "listed", "chunks": chunks, "start_paused": True}))
    async with command_line(farm) as cli:
        submitted = await cli("submit", str(path))
    assert submitted.code == 0, submitted.err
    job = farm.render.job(submitted.out.strip())
    status = await until_state(job, JobState.PAUSED)
    await job.skip_chunks([(1, 1200)])
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)

    values = find_job_values(status.id, status.started_at)
    assert (farm.store / values["date"] / values["job"] / "0.txt").read_text() == "chunk 0\n"

"""Operators with nothing but the `temporal` command: start, query, signal, cancel, list."""

import asyncio
import json

import pytest
from support.farm import Farm, alive, eventually, until, until_state
from support.temporal_cli import Temporal, document

from longtake import BadJobError, JobFailedError, JobPhase, JobState, PauseMode
from longtake.jobfile.loader import read_job
from longtake.names import job_folder_name

pytestmark = pytest.mark.integration


async def test_a_job_started_by_the_temporal_cli_renders_like_a_submitted_one(farm: Farm, temporal: Temporal) -> None:
    await temporal.start(farm, f"raw-{farm.task_queue}", document(farm.job(chunks=3)))

    status = await until_state(farm.render.job(f"raw-{farm.task_queue}"), JobState.COMPLETED)

    assert status.completed_chunks == 3
    assert sorted(path.name for path in (farm.store / "out").iterdir()) == ["000000.txt", "000001.txt", "000002.txt"]


async def test_a_job_without_base_dir_renders_into_the_workers_first_folder(farm: Farm, temporal: Temporal) -> None:
    job = document(farm.job(chunks=1))
    del job["base_dir"]
    await temporal.start(farm, f"raw-{farm.task_queue}", job)

    await until_state(farm.render.job(f"raw-{farm.task_queue}"), JobState.COMPLETED)

    assert (farm.store / "out/000000.txt").exists()


@pytest.mark.parametrize(
    "change",
    [{"frmaes": {"count": 3}}, {"command": ""}, {"max_parallel": 0}, {"chunk_output": "same.txt"}, {"frames": {}}],
    ids=["unknown key", "empty command", "zero", "one output for all", "missing count"],
)
async def test_a_bad_job_fails_at_once_with_the_sentence_of_submit(
    farm: Farm, temporal: Temporal, change: dict[str, object]
) -> None:
    bad = document(farm.job(chunks=3)) | change
    with pytest.raises(BadJobError) as refused:
        read_job(bad)

    await temporal.start(farm, f"raw-{farm.task_queue}", bad)
    status = await until_state(farm.render.job(f"raw-{farm.task_queue}"), JobState.FAILED)

    assert status.error == str(refused.value)
    assert farm.ledger.started == []


async def test_a_scheduled_job_renders_and_tells_its_folder(farm: Farm, temporal: Temporal) -> None:
    path = farm.store.parent / "job.json"
    path.write_text(json.dumps(document(farm.job(chunks=2))))
    # Temporal appends the time to the id.
    await temporal(
        *("schedule", "create", "--schedule-id", farm.task_queue, "--interval", "1000h", "--type", "RenderJob"),
        *("--task-queue", farm.task_queue, "--workflow-id", f"nightly/{farm.task_queue}", "--input-file", str(path)),
    )
    await temporal("schedule", "trigger", "--schedule-id", farm.task_queue)
    started: list[str] = []
    for _ in range(200):
        started = [job.id for job in await farm.render.list() if job.id.startswith(f"nightly/{farm.task_queue}")]
        if started:
            break
        await asyncio.sleep(0.1)
    (job_id,) = started

    status = await until(farm.render.job(job_id), lambda status: status.state.has_ended)
    await temporal("schedule", "delete", "--schedule-id", farm.task_queue)

    assert ":" in job_id
    assert status.state is JobState.COMPLETED, status.error
    assert status.folder == job_folder_name(job_id) != job_id
    assert len(list((farm.store / ".longtake" / status.folder / "chunks").iterdir())) == 2


async def test_signals_query_and_cancel_of_the_temporal_cli_steer_a_job(farm: Farm, temporal: Temporal) -> None:
    job = await farm.submit(farm.job(chunks=6, options=("--gate", str(farm.gate)), max_parallel=2))
    await farm.ledger.until_started(2)

    await temporal("workflow", "signal", "--workflow-id", job.id, "--name", "pause")
    await until(job, lambda status: status.phase is JobPhase.PAUSING)
    farm.open_gate()
    await until_state(job, JobState.PAUSED)
    answer = await temporal("workflow", "query", "--workflow-id", job.id, "--type", "status", "--output", "json")
    assert '"paused"' in answer

    farm.close_gate()
    await temporal("workflow", "signal", "--workflow-id", job.id, "--name", "resume")
    await farm.ledger.until_started(4)
    await temporal("workflow", "signal", "--workflow-id", job.id, "--name", "pause", "--input", '{"mode": "drain"}')
    await until(job, lambda status: status.phase is JobPhase.PAUSING)
    await temporal("workflow", "signal", "--workflow-id", job.id, "--name", "pause", "--input", '"freeze"')
    await until(job, lambda status: status.pause_mode is PauseMode.FREEZE)

    await temporal("workflow", "cancel", "--workflow-id", job.id)
    status = await until_state(job, JobState.CANCELLED)
    assert status.completed_chunks == 2
    described = await temporal("workflow", "describe", "--workflow-id", job.id)
    assert "Canceled" in described or "CANCELED" in described


async def test_lists_find_jobs_by_their_state(farm: Farm, temporal: Temporal) -> None:
    job = await farm.submit(farm.job(chunks=2, options=("--gate", str(farm.gate)), max_parallel=1))
    await farm.ledger.until_started(1)
    await job.pause()
    farm.open_gate()
    await until_state(job, JobState.PAUSED)

    # Visibility is written a moment after the workflow.
    query = ("workflow", "list", "--query", f'LongtakeState="paused" AND WorkflowId="{job.id}"', "--output", "json")
    found = json.loads(await temporal(*query))
    for _ in range(100):
        if found:
            break
        await asyncio.sleep(0.05)
        found = json.loads(await temporal(*query))
    assert [execution["execution"]["workflowId"] for execution in found] == [job.id]
    assert job.id in [status.id for status in await farm.render.list(state=JobState.PAUSED)]

    await job.resume()
    await until_state(job, JobState.COMPLETED)
    assert job.id not in [status.id for status in await farm.render.list(state=JobState.PAUSED)]


async def test_a_terminated_job_is_told_to_have_failed_and_can_be_retried(farm: Farm, temporal: Temporal) -> None:
    job = await farm.submit(farm.job(chunks=3, options=("--gate", str(farm.gate), "--only", "1"), max_parallel=1))
    await farm.ledger.until_started(2)

    await temporal("workflow", "terminate", "--workflow-id", job.id)
    status = await until_state(job, JobState.FAILED)
    assert "terminated in Temporal" in (status.error or "")
    await eventually(lambda: not any(map(alive, farm.ledger.pids)), "the worker hears of it and stops the render")

    farm.open_gate()
    status = await until_state(await farm.render.retry(job.id), JobState.COMPLETED)
    assert status.skipped_chunks == 1


async def test_a_result_is_waited_for_across_resets_in_temporal(farm: Farm, temporal: Temporal) -> None:
    job = await farm.started(chunks=3, running=1)
    waiting = asyncio.create_task(job.result())

    for reason in ("once", "twice"):
        await temporal(
            *("workflow", "reset", "--workflow-id", job.id, "--type", "FirstWorkflowTask", "--reason", reason)
        )
    await until(job, lambda status: not status.state.has_ended and status.running_chunks == 1)
    assert not waiting.done()
    farm.open_gate()

    assert (await waiting).frames == 3


async def test_a_terminated_job_has_no_result(farm: Farm, temporal: Temporal) -> None:
    job = await farm.started(chunks=3, running=1)
    waiting = asyncio.create_task(job.result())

    await temporal("workflow", "terminate", "--workflow-id", job.id)

    with pytest.raises(JobFailedError):
        await waiting
    farm.open_gate()


FOREIGN_MEMOS = ('status="urgent"', "status={}", 'longtake_status="urgent"', "digest=7", 'status={"progress": "half"}')


async def test_foreign_memos_and_foreign_workflows_break_no_list(farm: Farm, temporal: Temporal) -> None:
    path = farm.store.parent / "job.json"
    path.write_text(json.dumps(document(farm.job(chunks=1))))
    mine = [f"memo-{number}-{farm.task_queue}" for number in range(len(FOREIGN_MEMOS))]
    start = ("workflow", "start", "--type", "RenderJob", "--input-file", str(path))
    for job_id, memo in zip(mine, FOREIGN_MEMOS, strict=True):
        await temporal(*start, "--task-queue", farm.task_queue, "--workflow-id", job_id, "--memo", memo)
    # The same type in the same namespace, on a queue of its own.
    foreign = f"foreign-{farm.task_queue}"
    await temporal(*start, "--task-queue", foreign, "--workflow-id", foreign, "--memo", 'status="urgent"')

    for job_id in mine:
        status = await until(farm.render.job(job_id), lambda status: status.state.has_ended)
        assert status.id == job_id
    # Visibility is written a moment after the workflow.
    for _ in range(100):
        listed = {status.id for status in await farm.render.list(limit=1000)}
        if set(mine) <= listed:
            break
        await asyncio.sleep(0.1)

    assert set(mine) <= listed
    assert foreign not in listed
    assert foreign not in {status.id for status in await farm.render.list(state=JobState.PENDING, limit=1000)}
    await temporal("workflow", "terminate", "--workflow-id", foreign)

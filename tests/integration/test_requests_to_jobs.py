"""Limits and pauses that come before a job renders or while its chunks stand in a queue, and numbers that agree."""

import asyncio
import json
import uuid

import pytest
from support.command_line import command_line
from support.farm import Farm, serving, until, until_state, worker_settings
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer

from longtake import JobFailedError, JobHandle, JobPhase, JobState
from longtake.data_converter import data_converter
from longtake.describe import read_status
from longtake.names import RENDER_JOB_WORKFLOW, STATE
from workflows.render_job import RenderJob
from workflows.spans import SpanRunner

pytestmark = pytest.mark.integration


def workflow_of(farm: Farm, job: JobHandle) -> WorkflowHandle[object, object]:
    return farm.client.get_workflow_handle(job.id)


async def event_types(farm: Farm, job: JobHandle) -> list[int]:
    return [event.event_type async for event in workflow_of(farm, job).fetch_history_events()]


async def test_a_job_can_start_paused(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=2, start_paused=True))

    status = await until_state(job, JobState.PAUSED)

    assert status.total_chunks == 2
    assert status.phase is JobPhase.RENDERING
    assert farm.ledger.started == []
    await job.resume()
    await until_state(job, JobState.COMPLETED)


async def test_a_limit_that_is_set_before_the_job_is_planned_holds(bare: Farm) -> None:
    """The request waits with the job for a worker, and is taken before anything is planned."""
    options = ("--gate", str(bare.gate))
    job = await bare.submit(bare.job(chunks=6, max_parallel=6, options=options))
    setting = asyncio.create_task(job.set_max_parallel(2))
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=6)):
        assert await setting == 2
        await bare.ledger.until_started(2)
        status = await until(job, lambda status: status.running_chunks == 2)
        assert (status.max_parallel, len(status.running)) == (2, 2)
        bare.open_gate()
        await until_state(job, JobState.COMPLETED)


async def test_a_lower_limit_takes_chunks_back_that_no_worker_has(farm: Farm) -> None:
    """The farm has four slots: two of the six chunks stand in its queue, and those that render go on."""
    job = await farm.submit(farm.job(chunks=8, max_parallel=6, options=("--gate", str(farm.gate))))
    await farm.ledger.until_started(4)
    await until(job, lambda status: sum(chunk.waiting for chunk in status.running) == 2)

    await job.set_max_parallel(1)

    status = await until(job, lambda status: len(status.running) == 4)
    assert not any(chunk.waiting for chunk in status.running)
    assert len(farm.ledger.started) == 4
    farm.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 8
    assert sorted(farm.ledger.started) == list(range(8)), "none was stopped"


@pytest.mark.slow
async def test_pause_and_resume_are_answered_where_a_worker_is_there_and_left_as_signals_elsewhere(
    bare: Farm,
) -> None:
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        job = await bare.started(chunks=2, running=1)
        await job.pause()
        bare.open_gate()
        await until_state(job, JobState.PAUSED)
        types = await event_types(bare, job)
        assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED not in types
        assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED in types
    await job.resume()
    # A workflow task that a worker which left had taken keeps the signal out of the history until it has timed out.
    async with asyncio.timeout(30):
        async for event in workflow_of(bare, job).fetch_history_events(wait_new_event=True):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                break
        else:
            pytest.fail("the job has ended without the signal")
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        await until_state(job, JobState.COMPLETED)


async def test_progress_is_one_number_with_the_frames_of_running_chunks(farm: Farm) -> None:
    """Two frames of the one chunk are written, of four: the job itself has counted none."""
    script = f'echo Fra:1; echo Fra:2; until [ -e {farm.gate} ]; do sleep 0.05; done; echo done > "$1"'
    job = await farm.submit(
        farm.job(
            frames={"count": 4, "per_chunk": 4},
            command=("sh", "-c", script, "sh", "{output}"),
            progress={"patterns": ["Fra:(?P<frame>[0-9]+)"]},
        )
    )
    status = await until(job, lambda status: any(chunk.frames_done == 2 for chunk in status.running))

    assert status.progress == 50.0
    assert status.progress_at is not None
    async with command_line(farm) as cli:
        told = json.loads((await cli("status", job.id, "--json")).out)
        shown = (await cli("status", job.id)).out
    assert told["progress"] == 50.0
    assert "50.0 %, 2 of 4 frames" in shown
    listed = next(each for each in await farm.render.list() if each.id == job.id)
    assert listed.progress_at is not None
    assert listed.progress_at < status.progress_at, "what the job wrote down is older, and says so"
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)


@pytest.mark.parametrize("keys", [{"name": 1}, {"frames": 7}], ids=["of no kind", "broken"])
async def test_a_job_that_fails_before_it_is_planned_is_found_by_its_state(farm: Farm, keys: object) -> None:
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    await farm.client.start_workflow(RENDER_JOB_WORKFLOW, keys, id=job_id, task_queue=farm.task_queue)
    with pytest.raises(JobFailedError):
        await farm.render.job(job_id).result()

    description = await farm.client.get_workflow_handle(job_id).describe()

    assert description.typed_search_attributes.get(STATE) == "failed"
    assert (await read_status(description)).state is JobState.FAILED


@pytest.mark.slow
async def test_a_bug_in_settling_fails_the_workflow_task_and_is_retried_after_the_fix(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in a callback of the activity it would be logged, and the chunk would run for ever."""
    sound = SpanRunner._settle_span
    monkeypatch.setattr(SpanRunner, "_settle_span", lambda *_: 1 / 0)
    job = await farm.submit(farm.job(chunks=2))

    async with asyncio.timeout(60):
        async for status in job.watch(interval_seconds=0.1):
            assert not status.state.has_ended
            if await pending_attempt(farm, job) >= 2:
                break

    monkeypatch.setattr(SpanRunner, "_settle_span", sound)
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 2
    history = await workflow_of(farm, job).fetch_history()
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED in {event.event_type for event in history.events}
    await Replayer(workflows=[RenderJob], data_converter=data_converter()).replay_workflow(history)
    assert sorted(farm.ledger.started) == [0, 1]


async def pending_attempt(farm: Farm, job: JobHandle) -> int:
    description = await workflow_of(farm, job).describe()
    return description.raw_description.pending_workflow_task.attempt

"""Who has paused a job: requests land in its status with the name of whoever asked, and older peers are understood."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from support.command_line import command_line
from support.farm import Farm, serving, until, until_state, worker_settings
from temporalio import workflow
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from longtake import JobHandle, JobState, JobStatus, PauseMode, RenderClient, handle
from longtake.describe import read_status
from longtake.handle import user_identity
from longtake.models.status import MOST_BY
from longtake.names import RENDER_JOB_WORKFLOW
from workflows import history

pytestmark = pytest.mark.integration


def told(status: JobStatus) -> list[tuple[str, str, str]]:
    return [(request.what, request.detail, request.by) for request in status.requests]


async def test_each_request_is_told_with_who_asked_and_when(farm: Farm) -> None:
    began = datetime.now(UTC)
    job = await farm.started(chunks=6, running=2)

    await job.set_max_parallel(3, by="ada")
    await job.pause(by="grace")
    await job.pause(mode=PauseMode.FREEZE)
    await job.resume(by="ada")
    await job.skip_chunks([(4, 6)], by="")
    farm.open_gate()
    status = await until_state(job, JobState.COMPLETED)

    me = user_identity()
    assert told(status) == [
        ("set_max_parallel", "3", "ada"), ("pause", "drain", "grace"), ("pause", "freeze", me), ("resume", "", "ada"),
        ("skip", "chunks 4-5", ""),
    ]  # fmt: skip
    times = [request.at for request in status.requests]
    assert times == sorted(times)
    assert began <= times[0] <= times[-1] <= datetime.now(UTC)


async def test_a_cancel_names_who_cancelled_and_one_by_hand_its_reason(farm: Farm) -> None:
    ours, other = await farm.started(chunks=2, running=1), await farm.submit(farm.job(start_paused=True))

    await ours.cancel(wait=True, by="ada@tower")
    await farm.client.get_workflow_handle(other.id).cancel(reason="the shot is cut")

    assert told(await ours.status()) == [("cancel", "", "ada@tower")]
    assert told(await until_state(other, JobState.CANCELLED)) == [("cancel", "the shot is cut", "")]


async def test_a_client_may_have_a_name_and_a_status_shows_names(farm: Farm) -> None:
    named = RenderClient(farm.client, task_queue=farm.task_queue, identity="pipeline of show one")
    job = named.job((await farm.started(chunks=2, running=1)).id)
    await job.pause(mode=PauseMode.FREEZE)

    async with command_line(farm) as cli:
        shown = (await cli("status", job.id)).out

    assert "asked" in shown
    assert "pause (freeze) by pipeline of show one, " in shown
    await job.cancel(wait=True)


async def test_requests_without_a_name_and_odd_resumes_are_followed(farm: Farm) -> None:
    """As clients of before send them, and people by hand."""
    job = await farm.submit(farm.job(start_paused=True))
    handle = farm.client.get_workflow_handle(job.id)

    await handle.execute_update("pause", {"mode": "freeze"})
    await handle.signal("pause", "now")
    await handle.signal("resume", ["what", 1])

    status = await until_state(job, JobState.COMPLETED)
    assert told(status) == [("pause", "freeze", ""), ("pause", "now", ""), ("resume", "", "")]


async def test_a_retry_of_failed_chunks_is_told(farm: Farm) -> None:
    job = await farm.held(0, 1, chunks=2)

    await farm.render.retry(job.id, chunks=[(1, 2)], by="ada")

    assert told(await job.status()) == [("retry", "chunks 1", "ada")]
    await job.cancel(wait=True)


async def test_the_last_twenty_requests_stay_and_go_on_into_the_next_run(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FULL", "_DRAIN", "_REFUSE", "_STOP", "_WORTHWHILE"):
        monkeypatch.setattr(history, name, getattr(history, name) // 20)
    job = await farm.submit(farm.job(chunks=3, start_paused=True))
    run = (await farm.client.get_workflow_handle(job.id).describe()).run_id
    for limit in range(1, 31):
        await ask_again(job, limit)

    status = await job.status()
    assert told(status) == [("set_max_parallel", f"{limit}", limit * "x") for limit in range(11, 31)]
    description = await farm.client.get_workflow_handle(job.id).describe()
    assert description.run_id != run
    assert len((await read_status(description)).requests) <= 10
    await job.resume(by=1000 * "é")
    ended = await until_state(job, JobState.COMPLETED)
    assert len(ended.requests) == 10
    assert len(ended.requests[-1].by) <= MOST_BY


async def ask_again(job: JobHandle, limit: int) -> None:
    """Set a limit, again where the job goes on in a new run just then."""
    while True:
        with suppress(Exception):
            await job.set_max_parallel(limit, by=limit * "x")
            return


async def test_a_signal_that_waits_for_a_worker_brings_the_name(bare: Farm) -> None:
    job = await bare.submit(bare.job(chunks=1))
    await job.pause(by="ada")
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)):
        assert ("pause", "drain", "ada") in told(await until_state(job, JobState.PAUSED))
        await job.cancel(wait=True)


@pytest.mark.parametrize(("left", "sent"), [("resume", "pause"), ("pause", "resume")])
async def test_a_request_that_is_left_to_the_next_worker_is_followed_once_and_in_its_turn(
    left: str, sent: str, bare: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent as an update first, which the worker gets as well, and after all signals."""
    monkeypatch.setattr(handle, "_REQUEST_PATIENCE_SECONDS", 0.5)
    settings = worker_settings(bare.task_queue, bare.store, slots=2)
    async with serving(bare.client, settings):
        job = await bare.submit(bare.job(options=("--gate", str(bare.gate)), start_paused=left == "resume"))
        await until(job, lambda status: status.total_chunks > 0)
    await (job.resume(by="ada") if left == "resume" else job.pause(by="ada"))
    await bare.client.get_workflow_handle(job.id).signal(sent)

    async with serving(bare.client, settings):
        status = await until(job, lambda status: len(status.requests) >= 2)
        assert [(request.what, request.by) for request in status.requests] == [(left, "ada"), (sent, "")]
        assert status.pause_mode is (PauseMode.DRAIN if sent == "pause" else None)
        await job.cancel(wait=True)


@workflow.defn(name=RENDER_JOB_WORKFLOW, sandboxed=False)
class OlderJob:
    """A job whose worker is of before requests had a `by`: it refuses keys that it does not know."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    @workflow.run
    async def run(self, document: Any) -> None:
        await asyncio.Event().wait()

    @workflow.query
    def requests(self) -> list[Any]:
        return self.asked

    @workflow.update
    def set_max_parallel(self, request: dict[str, Any]) -> int:
        self.asked.append(request)
        return int(request["max_parallel"])

    @set_max_parallel.validator
    def refuse(self, request: dict[str, Any]) -> None:
        if "by" in request:
            raise ValueError("by: is not a key of this request; its keys are max_parallel")

    @workflow.signal
    def pause(self, request: dict[str, Any]) -> None:
        self.asked.append(request)


async def test_a_job_of_an_older_worker_is_asked_without_a_name(bare: Farm) -> None:
    worker = Worker(
        bare.client, task_queue=bare.task_queue, workflows=[OlderJob], workflow_runner=UnsandboxedWorkflowRunner()
    )
    async with worker:
        job = await bare.submit(bare.job())
        assert await job.set_max_parallel(3, by="ada") == 3
        await job.pause(mode=PauseMode.NOW, by="ada")
        handle = bare.client.get_workflow_handle(job.id)
        assert await handle.query("requests") == [{"max_parallel": 3}, {"mode": "now"}]
        await handle.terminate()


async def test_a_job_is_that_of_who_has_submitted_it_also_when_somebody_else_retries_it(farm: Farm) -> None:
    options = ("--gate", str(farm.gate), "--fail-times", "1")
    mine = await farm.render.submit(farm.job(chunks=1, options=options), id=f"hers-{farm.task_queue}", by="ada@tower")
    await farm.ledger.until_started(1)
    assert (await mine.status()).submitted_by == "ada@tower"

    farm.open_gate()
    await until_state(mine, JobState.FAILED)
    await farm.render.retry(mine.id, by="grace")
    assert (await until_state(mine, JobState.COMPLETED)).submitted_by == "ada@tower"
    # Temporal's list lags behind, but has had the job since it was submitted.
    listed = {job.id: job for job in await farm.render.list()}
    assert listed[mine.id].submitted_by == "ada@tower"


async def test_a_job_that_temporal_itself_has_started_names_nobody(farm: Farm) -> None:
    document, job_id = farm.job(chunks=1).to_wire(), f"by-hand-{farm.task_queue}"
    await farm.client.start_workflow(RENDER_JOB_WORKFLOW, document, id=job_id, task_queue=farm.task_queue)

    assert (await until_state(farm.render.job(job_id), JobState.COMPLETED)).submitted_by == ""

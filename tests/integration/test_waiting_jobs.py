"""A job that does not go on says why, in `status`, `watch`, `list`, `doctor` and in everything that waits for it."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.command_line import Cli, command_line, until_exit, until_line
from support.farm import Farm, serving, until, until_state, worker_settings
from temporalio import workflow
from temporalio.client import Client, Interceptor, OutboundInterceptor, WorkflowExecutionDescription
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.processes.supervisor import Supervisor
from longtake import BadJobError, JobHandle, JobState, JobStatus, RenderClient
from longtake.names import RENDER_JOB_WORKFLOW, job_folder_name
from worker import build_workers

pytestmark = pytest.mark.integration


@workflow.defn(name=RENDER_JOB_WORKFLOW)
class BrokenJob:
    """A workflow with a bug: each of its tasks fails."""

    @workflow.run
    async def run(self, *inputs: object) -> None:
        raise RuntimeError("no attribute 'spans'")


@asynccontextmanager
async def broken_worker(farm: Farm) -> AsyncIterator[None]:
    runner = UnsandboxedWorkflowRunner()
    async with Worker(
        farm.client, task_queue=farm.task_queue, workflows=[BrokenJob], workflow_runner=runner, debug_mode=True
    ):
        yield


async def checks_of_doctor(cli: Cli) -> dict[str, Any]:
    ran = await cli("doctor", "--json")
    return {check["name"]: check for check in json.loads(ran.out)["checks"]}


@pytest.mark.slow
async def test_a_job_without_a_worker_says_so_everywhere(bare: Farm) -> None:
    job = await bare.submit(bare.job())
    reason = f"no worker serves the queue {bare.task_queue}; start `python worker.py`"

    async with command_line(bare) as cli:
        shown, listed = await cli("status", job.id), await cli.until_listed(job.id, "--json")
        plain = await cli("list", "--state", "pending")
        watching = await cli.start("watch", job.id)
        await until_line(watching, f"{job.id} waits: {reason}")
        cancelling = await cli.start("cancel", job.id, "--wait")
        await until_line(cancelling, f"waiting: {reason}")
        checks = await checks_of_doctor(cli)
        async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)):
            cancelled, watched = await until_exit(cancelling), await until_exit(watching)

    assert reason in shown.out
    (mine,) = [status for status in json.loads(listed.out) if status["id"] == job.id]
    assert mine["waiting_for"].startswith(reason)
    assert reason in plain.err
    assert not checks["jobs"]["ok"]
    assert checks["jobs"]["found"] == "1 of 1 job cannot go on"
    assert checks["jobs"]["fix"].startswith(f"{job.id}: {reason}")
    assert (cancelled.code, watched.code) == (0, 3)
    assert (await job.status()).waiting_for is None


async def until_lists_tell(farm: Farm, job: JobHandle) -> JobStatus:
    """Return the job as lists have it, when they tell what it waits for: by what the server marks."""

    async def listed() -> JobStatus | None:
        return next((each for each in await farm.render.list(limit=1000) if each.id == job.id), None)

    # The server marks a job after some tries, between which it waits longer and longer.
    async with asyncio.timeout(120):
        while True:
            if (status := await listed()) and status.waiting_for:
                return status
            await asyncio.sleep(0.5)


@pytest.mark.slow
async def test_a_workflow_task_that_keeps_failing_is_told_with_its_error_and_a_way_out(bare: Farm) -> None:
    async with broken_worker(bare), command_line(bare) as cli:
        job = await bare.submit(bare.job())
        status = await until(job, lambda status: "can run" in (status.waiting_for or ""))
        shown = await cli("status", job.id)
        cancelling = await cli.start("cancel", job.id, "--wait")
        await until_line(
            cancelling, f"`temporal workflow terminate --workflow-id {job.id}` ends it without its workers"
        )
        await until_lists_tell(bare, job)
        checks = await checks_of_doctor(cli)
        await bare.client.get_workflow_handle(job.id).terminate()
        cancelled = await until_exit(cancelling)

    reason = r"no worker can run this job's workflow \(no attribute 'spans'; try \d+\); the logs of the workers"
    assert re.match(reason, status.waiting_for or "")
    assert "no attribute 'spans'" in shown.out
    assert checks["jobs"]["fix"].startswith(f"{job.id}: no worker can run this job's workflow")
    assert cancelled.code == 0
    assert "was terminated in Temporal" in cancelled.out


@pytest.mark.slow
async def test_lists_tell_workflow_tasks_that_keep_failing_by_what_the_server_marks(bare: Farm) -> None:
    async with broken_worker(bare):
        job = await bare.submit(bare.job())
        status = await until_lists_tell(bare, job)
        await bare.client.get_workflow_handle(job.id).terminate()

    assert status.waiting_for == f"no worker can run this job's workflow; `longtake status {job.id}` tells why"


async def test_a_queue_of_renders_without_workers_is_told(bare: Farm) -> None:
    settings = worker_settings(bare.task_queue, bare.store, slots=1)
    async with Supervisor() as supervisor:
        orchestration, *renders = build_workers(bare.client, settings, supervisor, search_attributes=True)
        assert [worker.task_queue for worker in renders] == [f"{bare.task_queue}-local"]
        async with orchestration:
            job = await bare.submit(bare.job(chunks=2))
            status = await until(job, lambda status: status.waiting_for is not None and status.phase == "rendering")
            await job.cancel(wait=True)

    assert (status.waiting_for or "").startswith(f"no worker serves the queue {bare.task_queue}-local; start")


async def test_a_job_that_waits_for_its_turn_says_so_and_is_no_fault(bare: Farm) -> None:
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)), command_line(bare) as cli:
        busy = await bare.started(chunks=1, running=1)
        job = await bare.submit(bare.job(chunks=1, chunk_output="other/{chunk}.txt"))
        status = await until(job, lambda status: status.waiting_for is not None)
        checks = await checks_of_doctor(cli)
        bare.open_gate()
        for each in (busy, job):
            await until_state(each, JobState.COMPLETED)

    assert "it waits for its turn: " in (status.waiting_for or "")
    assert "have no room; start more workers" in (status.waiting_for or "")
    assert checks["jobs"]["ok"]


@pytest.mark.slow
async def test_doctor_names_workers_that_do_not_see_a_store(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=1, start_paused=True))
    await until_state(job, JobState.PAUSED)
    records = farm.store / ".longtake" / job_folder_name(job.id)
    records.rename(farm.store / "away")
    await job.resume()
    await until(job, lambda status: any("does not see" in chunk.error for chunk in status.running))
    async with command_line(farm) as cli:
        checks = await checks_of_doctor(cli)
    (farm.store / "away").rename(records)
    await until_state(job, JobState.COMPLETED)

    assert f"this worker does not see {records}; share {farm.store}" in checks["stores of workers"]["found"]


class Counter(Interceptor):
    """Counts the descriptions that a client asks for."""

    def __init__(self) -> None:
        self.descriptions = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        counter = self

        class Counting(OutboundInterceptor):
            async def describe_workflow(self, input: Any) -> WorkflowExecutionDescription:
                counter.descriptions += 1
                return await super().describe_workflow(input)

        return Counting(next)


async def retried(farm: Farm, job_id: str) -> str:
    """Run a job that fails, and completes when it is retried."""
    job = farm.job(chunks=1, chunk_output=f"{uuid.uuid4().hex}/{{chunk}}.txt", options=("--fail-times", "1"))
    await until_state(await farm.render.submit(job, id=job_id), JobState.FAILED)
    await until_state(await farm.render.retry(job_id), JobState.COMPLETED)
    (farm.store.parent / "ledger.txt.tries.0").unlink()
    return job_id


async def test_a_list_by_state_describes_no_job_and_knows_runs_that_were_retried(farm: Farm) -> None:
    failing = (await farm.run(farm.job(chunks=1, options=("--exit", "3")))).id
    plain = await retried(farm, f"plain/{farm.task_queue}:1")
    counter = Counter()
    config = farm.client.config()
    config["interceptors"] = [counter]
    render = RenderClient(Client(**config), task_queue=farm.task_queue)

    async def listed(state: JobState, of: RenderClient) -> set[str]:
        return {status.id for status in await of.list(state=state, limit=1000)}

    async def until_listed(job_id: str, of: RenderClient) -> None:
        async with asyncio.timeout(30):
            while True:
                if job_id in await listed(JobState.COMPLETED, of):
                    return
                await asyncio.sleep(0.1)

    await until_listed(plain, render)
    failed = await listed(JobState.FAILED, render)
    assert failing in failed
    assert plain not in failed, "its failed run is an earlier one"
    assert counter.descriptions == 0

    # No query can name this one.
    odd = await retried(farm, f'odd "{farm.task_queue}" \\ it\'s')
    await until_listed(odd, farm.render)
    assert odd not in await listed(JobState.FAILED, farm.render)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda job: job.set_max_parallel("many"), "max_parallel: is 'many'; write a whole number"),
        (lambda job: job.set_max_parallel(0), "max_parallel: is 0; make it at least 1"),
        (lambda job: job.pause(mode="freze"), "mode: is 'freze'; choose 'drain', 'freeze' or 'now'"),
        (lambda job: job.retry_failed([("a", 1)]), "chunks[0][0]: is 'a'; write a whole number"),
        (lambda job: job.skip_chunks([]), "chunks: "),
    ],
    ids=["text", "zero", "a mode", "chunks", "none"],
)
async def test_wrong_types_of_callers_in_python_get_one_sentence(bare: Farm, call: Any, sentence: str) -> None:
    with pytest.raises(BadJobError) as refused:
        await call(bare.render.job("nobody"))

    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


async def test_submit_paused_renders_nothing_until_it_is_resumed(farm: Farm) -> None:
    async with command_line(farm) as cli:
        submitted = await cli("submit", cli.job_file(chunks=1), "--paused")
        job = farm.render.job(submitted.out.strip())
        await until_state(job, JobState.PAUSED)
        assert farm.ledger.started == []
        resumed = await cli("resume", job.id, "--wait")

    assert resumed.code == 0
    await until_state(job, JobState.COMPLETED)


async def test_the_temporal_ui_shows_who_has_submitted_a_job_and_no_limit_of_attempts(farm: Farm) -> None:
    job = await farm.started(chunks=1, running=1, name="[a](b)")
    description = await farm.client.get_workflow_handle(job.id).describe()
    details, attempts = await description.static_details(), description.raw_description.pending_activities
    farm.open_gate()
    await until_state(job, JobState.COMPLETED)
    history = await farm.client.get_workflow_handle(job.id).fetch_history()

    assert details is not None
    assert [line.split(":")[0] for line in details.splitlines()] == ["- submitted by", "- store", "- film"]
    assert [each.maximum_attempts for each in attempts] == [0]
    scheduled = [event for event in history.events if event.HasField("activity_task_scheduled_event_attributes")]
    assert all(event.user_metadata.summary.data for event in scheduled)
    policies = [event.activity_task_scheduled_event_attributes.retry_policy for event in scheduled]
    assert [policy.maximum_attempts for policy in policies] == [0] * len(policies)

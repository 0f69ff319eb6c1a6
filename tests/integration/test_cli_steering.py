"""Pause modes, jobs that hold, single chunks retried and skipped: by the command line, against a real farm."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.command_line import Cli, command_line
from support.farm import Farm, alive, until, until_state
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import PauseActivityRequest, UnpauseActivityRequest

from longtake import BadJobError, JobEndedError, JobState

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def cli(farm: Farm) -> AsyncIterator[Cli]:
    async with command_line(farm) as cli:
        yield cli


async def test_a_job_that_holds_says_what_to_do_and_a_resume_does_it(cli: Cli) -> None:
    job_id = (await cli.farm.held(1)).id

    shown, as_json = await cli("status", job_id), await cli("status", job_id, "--json")
    listed = await cli.until_listed("paused, holding")
    resumed, watched = await cli("resume", job_id, "--wait"), await cli("watch", job_id)

    assert shown.code == resumed.code == watched.code == 0
    assert "paused, holding" in shown.out
    assert "chunk 1 failed for good after 1 try" in shown.out
    assert f"mend the cause, then `longtake resume {job_id}`" in shown.out
    assert f"`longtake skip {job_id} --chunk 1 --allow-gaps`" in shown.out
    status = json.loads(as_json.out)
    assert (status["state"], status["phase"], status["failed_chunks"]) == ("paused", "holding", 1)
    assert (status["failures"][0]["chunk"], status["running"], status["running_chunks"]) == (1, [], 0)
    assert "chunk 1 failed after 1 try" in status["error"]
    assert "paused, holding" in listed.out
    assert sorted(cli.farm.ledger.started) == [0, 1, 1, 2, 3]


async def test_a_failed_chunk_is_retried_alone(cli: Cli) -> None:
    job_id = (await cli.farm.held(1, 2)).id

    not_failed, unknown = await cli("retry", job_id, "--chunk", "0"), await cli("retry", job_id, "--chunk", "1,99")
    one = await cli("retry", job_id, "--chunk", "1")
    still = await until(cli.farm.render.job(job_id), lambda status: status.failed_chunks == 1)
    rest = await cli("retry", job_id, "--watch", "--json")

    assert not_failed.code == unknown.code == 2
    assert not_failed.err.startswith(f"longtake: {job_id}: ")
    assert "neither failed nor skipped; only such chunks can be retried" in not_failed.err
    assert not_failed.out == unknown.out == ""
    assert (one.code, one.out, one.err) == (0, f"{job_id}\n", f"{job_id} takes up 1 chunk again\n")
    assert [failure.chunk for failure in still.failures] == [2]
    assert rest.code == 0
    assert json.loads(rest.out.splitlines()[-1])["state"] == "completed"
    assert sorted(cli.farm.ledger.started) == [0, 1, 1, 2, 2, 3]


async def test_a_chunk_is_skipped_and_the_job_completes_without_it(cli: Cli) -> None:
    job_id = (await cli.farm.held(1)).id

    done, unknown = await cli("skip", job_id, "--chunk", "0"), await cli("skip", job_id, "--chunk", "3-7")
    skipped, watched = await cli("skip", job_id, "--chunk", "1"), await cli("watch", job_id)
    late, single = await cli("skip", job_id, "--chunk", "1"), await cli("retry", job_id, "--chunk", "1")

    assert done.code == unknown.code == late.code == 2
    assert done.err.startswith(f"longtake: {job_id}: ")
    assert "finished already; only others can be skipped" in done.err
    assert "not among the job's 4" in unknown.err
    assert (skipped.code, skipped.out) == (0, f"{job_id} leaves out 1 more chunk; left out now: 1\n")
    assert watched.code == 0
    assert watched.out.rstrip().endswith("3 frames in chunks, no film, without chunks 1")
    assert "is completed and cannot skip chunks any more" in late.err
    assert "there is nothing to retry" in single.err


async def test_chunks_skipped_twice_are_told_so_and_can_be_taken_back_in(cli: Cli) -> None:
    gate = ("--gate", str(cli.farm.gate))
    job_id = (await cli.farm.submit(cli.farm.job(options=gate, max_parallel=1))).id
    await cli.farm.ledger.until_started(1)

    skipped = await cli("skip", job_id, "--chunk", "2-3", "--json")
    again = await cli("skip", job_id, "--chunk", "2-3")
    back = await cli("retry", job_id, "--chunk", "3")
    cli.farm.open_gate()
    end = await until_state(cli.farm.render.job(job_id), JobState.COMPLETED)

    assert json.loads(skipped.out)["left_out_chunks"] == 2
    assert (again.code, again.out) == (0, f"{job_id} goes on without 2-3 already\n")
    assert back.err == f"{job_id} takes up 1 chunk again\n"
    assert cli.farm.ledger.started == [0, 1, 3]
    assert (end.left_out_chunks, end.completed_chunks) == (1, 3)


async def test_single_chunks_of_an_ended_job_are_rendered_alone_and_not_skipped(cli: Cli) -> None:
    fails_once = cli.farm.job(options=("--fail-times", "1"), on_chunk_failure="continue", max_failed_chunks=4)
    job_id = (await cli.farm.run(fails_once)).id
    retried = await cli("retry", job_id, "--chunk", "0", "--chunk", "2", "--watch", "--json")
    lacking, skipped = await cli("retry", job_id, "--chunk", "3-9"), await cli("skip", job_id, "--chunk", "0")

    assert retried.code == 1
    assert sorted(cli.farm.ledger.ended) == [0, 2]
    end = json.loads(retried.out.splitlines()[-1])
    assert (end["completed_chunks"], end["left_out_chunks"]) == (2, 0)
    sentence = f"what was asked for is rendered, and 2 others are missing (1, 3); `longtake retry {job_id}` renders all"
    assert end["error"] == sentence
    assert (lacking.code, lacking.out) == (skipped.code, skipped.out) == (2, "")
    assert "chunks: 3-9 lies outside the 4 of the job, which count from 0" in lacking.err
    assert f"`longtake retry {job_id}` starts it again" in skipped.err
    assert (await cli("retry", job_id, "--watch")).code == 0
    assert sorted(cli.farm.ledger.ended) == [0, 1, 2, 3]


async def test_a_pause_now_ends_what_runs_and_a_resume_renders_it_again(cli: Cli) -> None:
    job_id = (await cli.farm.submit(cli.farm.job(options=("--gate", str(cli.farm.gate))))).id
    await cli.farm.ledger.until_started(4)

    paused = await cli("pause", job_id, "--mode", "now", "--wait")
    left = [pid for pid in cli.farm.ledger.pids if alive(pid)]
    cli.farm.open_gate()
    resumed, watched = await cli("resume", job_id), await cli("watch", job_id)

    assert (paused.code, paused.out) == (0, f"{job_id} is paused at 0 %\n")
    assert left == []
    assert resumed.code == watched.code == 0
    assert sorted(cli.farm.ledger.started) == [0, 0, 1, 1, 2, 2, 3, 3]


async def test_a_freeze_is_told_by_status_list_and_watch_and_goes_on_where_it_stood(cli: Cli) -> None:
    job_id = (await cli.farm.submit(cli.farm.job(chunks=2, options=("--gate", str(cli.farm.gate))))).id
    await cli.farm.ledger.until_started(2)

    paused = await cli("pause", job_id, "--mode", "freeze", "--wait")
    shown, as_json = await cli("status", job_id), json.loads((await cli("status", job_id, "--json")).out)
    cli.farm.open_gate()
    resumed, watched = await cli("resume", job_id), await cli("watch", job_id)

    assert (paused.code, paused.out) == (0, f"{job_id} is paused at 0 %, 2 chunks frozen\n")
    assert "0 running, 2 frozen" in shown.out
    assert (as_json["state"], as_json["running_chunks"], as_json["frozen_chunks"]) == ("paused", 0, 2)
    assert [(chunk["chunk"], chunk["frozen"]) for chunk in as_json["running"]] == [(0, True), (1, True)]
    assert resumed.code == watched.code == 0
    assert sorted(cli.farm.ledger.started) == [0, 1], "the same processes went on"


async def test_an_activity_paused_in_temporal_waits_and_says_how_to_unpause_it(cli: Cli) -> None:
    job = await cli.farm.submit(cli.farm.job(chunks=1, options=("--gate", str(cli.farm.gate))))
    await cli.farm.ledger.until_started(1)
    service, namespace = cli.farm.client.workflow_service, cli.farm.client.namespace
    execution = WorkflowExecution(workflow_id=job.id)
    description = await cli.farm.client.get_workflow_handle(job.id).describe()
    (pending,) = description.raw_description.pending_activities

    await service.pause_activity(
        PauseActivityRequest(
            namespace=namespace, execution=execution, identity="ann@desk", id=pending.activity_id, reason="disk full"
        )
    )
    paused = await until(job, lambda status: status.running_chunks == 0)
    shown = await cli("status", job.id)
    cli.farm.open_gate()
    await service.unpause_activity(
        UnpauseActivityRequest(namespace=namespace, execution=execution, identity="ann@desk", id=pending.activity_id)
    )
    end = await until(job, lambda status: status.state.has_ended)

    (chunk,) = paused.running
    assert chunk.waiting
    assert chunk.error.startswith("paused in Temporal by ann@desk (disk full); unpause it in the Temporal UI, or with")
    assert f"--workflow-id {job.id} --activity-id {pending.activity_id}`" in shown.out
    assert end.state is JobState.COMPLETED


async def test_python_retries_what_failed_of_jobs_that_hold_and_that_have_ended(farm: Farm) -> None:
    job_id = (await farm.held(1)).id
    with pytest.raises(BadJobError, match="neither failed nor skipped"):
        await farm.render.retry(job_id, chunks=[(0, 1)])
    job = await farm.render.retry(job_id, chunks=[(1, 2)])
    await until_state(job, JobState.COMPLETED)

    ended = await farm.run(farm.job(chunk_output="b/{chunk}.txt", options=("--exit", "3")))
    with pytest.raises(BadJobError, match=r"^chunks: 4 lies outside the 4 of the job, which count from 0"):
        await farm.render.retry(ended.id, chunks=[(4, 5)])
    with pytest.raises(JobEndedError, match="is failed and cannot retry single chunks any more; `longtake retry"):
        await farm.render.job(ended.id).retry_failed()

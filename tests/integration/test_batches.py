"""A job with more running spans than one workflow can hold renders them in workflows of their own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from support.farm import Farm, alive, eventually, serving, standing, until, until_state, worker_settings
from support.jobs.gates import behind_gate
from support.processes.workers import worker_process
from temporalio.client import WorkflowExecutionStatus

from longtake import BadJobError, JobHandle, JobPhase, JobState, PauseMode, Retry, Timeouts
from longtake.models.policies import FailurePolicy
from workflows import history, scheduling

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than four spans are batches of two."""
    monkeypatch.setattr(scheduling, "MOST_RUNNING", 4)
    monkeypatch.setattr(scheduling, "BATCH_SLOTS", 2)


@pytest_asyncio.fixture
async def wide(bare: Farm) -> AsyncIterator[Farm]:
    """A farm with a slot for each of eight spans."""
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=8)):
        yield bare


async def batches(farm: Farm, job: JobHandle) -> list[str]:
    """Return the ids of the batches of a job that have not ended."""
    description = await farm.client.get_workflow_handle(job.id).describe()
    return [each.workflow_id for each in description.raw_description.pending_children]


async def all_histories(farm: Farm, job: JobHandle) -> list[int]:
    """Return how many events each workflow of a job has: its own runs, and its batches."""
    found: list[int] = []
    run_id: str | None = None
    while True:
        events = (await farm.client.get_workflow_handle(job.id, run_id=run_id).fetch_history()).events
        found.append(len(events))
        for event in events:
            if event.HasField("child_workflow_execution_started_event_attributes"):
                batch = event.child_workflow_execution_started_event_attributes.workflow_execution
                handle = farm.client.get_workflow_handle(batch.workflow_id, run_id=batch.run_id)
                found.append(len((await handle.fetch_history()).events))
        run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return found


async def test_a_job_in_batches_renders_each_chunk_once(wide: Farm) -> None:
    status = await wide.run(wide.job(chunks=60, max_parallel=8))

    assert status.state is JobState.COMPLETED, status.error
    assert status.completed_chunks == 60
    assert sorted(wide.ledger.started) == list(range(60))
    assert status.metrics.render_seconds > 0


async def test_all_slots_are_used_at_once_and_the_status_shows_them(wide: Farm) -> None:
    job = await wide.started(chunks=20, running=8)
    assert len(await batches(wide, job)) == 4
    status = await until(job, lambda status: len(status.running) == 8 and all(each.host for each in status.running))
    assert status.running_chunks == 8
    assert not set(await batches(wide, job)) & {each.id for each in await wide.render.list()}, "batches are not jobs"

    wide.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 20
    assert sorted(wide.ledger.started) == list(range(20))


async def test_chunks_that_running_batches_have_finished_are_in_the_status(wide: Farm) -> None:
    only = [word for chunk in (5, 15, 25, 35) for word in ("--only", str(chunk))]
    waits = ("--gate", str(wide.gate), *only)
    job = await wide.submit(wide.job(chunks=40, options=waits, max_parallel=8))
    status = await until(job, lambda status: status.completed_chunks >= 20)
    assert status.completed_frames >= 20
    wide.open_gate()
    completed = [status.completed_chunks async for status in job.watch(interval_seconds=0.1)]
    assert completed == sorted(completed)
    assert completed[-1] == 40


@pytest.mark.parametrize("mode", PauseMode)
async def test_a_pause_reaches_all_batches_and_loses_no_chunk(wide: Farm, mode: PauseMode) -> None:
    job = await wide.started(chunks=20, running=8, timeouts=Timeouts(grace_seconds=0.1))
    await job.pause(mode=mode)
    if mode is PauseMode.DRAIN:
        await until(job, lambda status: status.phase is JobPhase.PAUSING)
        wide.open_gate()
    paused = await until_state(job, JobState.PAUSED)

    assert paused.pause_mode is mode
    if mode is PauseMode.FREEZE:
        assert (paused.frozen_chunks, len(paused.running)) == (8, 8)
        assert all(standing(pid) for pid in wide.ledger.pids)
    else:
        assert await batches(wide, job) == []
        assert not any(alive(pid) for pid in wide.ledger.pids)
    started = len(wide.ledger.started)
    assert started < 20

    wide.open_gate()
    await job.resume()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 20
    assert sorted(wide.ledger.ended) == list(range(20))
    assert len(wide.ledger.started) == (28 if mode is PauseMode.NOW else 20)


async def test_a_freeze_is_hardened_and_cancelled(wide: Farm) -> None:
    job = await wide.started(chunks=20, running=8, timeouts=Timeouts(grace_seconds=0.1))
    await job.pause(mode=PauseMode.FREEZE, wait=True)
    await job.pause(mode=PauseMode.NOW)
    status = await until(job, lambda status: status.state is JobState.PAUSED and not status.frozen_chunks)
    assert status.pause_mode is PauseMode.NOW
    assert not any(alive(pid) for pid in wide.ledger.pids)
    assert (await job.cancel(wait=True)).state is JobState.CANCELLED


async def test_a_cancel_is_told_when_the_last_process_has_ended(wide: Farm) -> None:
    job = await wide.started(chunks=20, running=8, timeouts=Timeouts(grace_seconds=0.1))
    ids = await batches(wide, job)
    status = await job.cancel(wait=True)

    assert status.state is JobState.CANCELLED
    assert not any(alive(pid) for pid in wide.ledger.pids)
    ends = [(await wide.client.get_workflow_handle(id).describe()).status for id in ids]
    assert ends == [WorkflowExecutionStatus.COMPLETED] * 4


async def test_a_job_that_is_terminated_takes_its_batches_along(wide: Farm) -> None:
    job = await wide.started(chunks=20, running=8, timeouts=Timeouts(grace_seconds=0.1))
    await wide.client.get_workflow_handle(job.id).terminate()
    await eventually(lambda: not any(alive(pid) for pid in wide.ledger.pids), "all renders end")
    wide.open_gate()
    again = await wide.render.retry(job.id)
    assert (await until_state(again, JobState.COMPLETED)).completed_chunks == 20


async def test_a_failure_ends_a_job_at_once(wide: Farm) -> None:
    waits = ("--exit", "7", "--only", "3")
    job = await wide.submit(wide.job(chunks=2000, options=waits, max_parallel=8))
    status = await until_state(job, JobState.FAILED)

    assert "chunk 3 failed" in (status.error or "")
    assert status.failures[0].chunk == 3
    assert len(wide.ledger.started) < 1000


async def test_failed_chunks_are_rendered_in_passes_and_counted(wide: Farm) -> None:
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.CONTINUE, "retry": Retry(attempts=1, job_attempts=3)}
    status = await wide.run(wide.job(chunks=24, options=("--exit", "7"), max_parallel=8, **fields))

    assert status.state is JobState.FAILED
    assert (status.failed_chunks, len(status.failures)) == (24, 20)
    assert sorted(wide.ledger.started) == sorted(3 * [*range(24)])


async def test_a_job_that_holds_goes_on_with_a_retry_or_a_skip(wide: Farm) -> None:
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.HOLD}
    options = ("--exit", "7", "--only", "3")
    job = await wide.submit(wide.job(chunks=30, options=options, max_parallel=8, **fields))
    await until(job, lambda status: status.phase is JobPhase.HOLDING)
    assert await job.retry_failed([(3, 4)]) == 1
    await until(job, lambda status: status.phase is JobPhase.HOLDING and wide.ledger.started.count(3) == 2)
    with pytest.raises(BadJobError, match="neither failed nor skipped"):
        await job.retry_failed([(4, 5)])
    assert await job.skip_chunks([(3, 4)]) == 1
    status = await until_state(job, JobState.COMPLETED)

    assert (status.completed_chunks, status.left_out_chunks) == (29, 1)


async def test_chunks_of_running_batches_are_skipped(wide: Farm) -> None:
    job = await wide.started(chunks=20, running=8, timeouts=Timeouts(grace_seconds=0.1))
    begun = set(wide.ledger.started)
    later = min(set(range(20)) - begun)
    assert await job.skip_chunks([(later, later + 1)]) == 1
    first = min(begun)
    pid = wide.ledger.pids[wide.ledger.started.index(first)]
    assert await job.skip_chunks([(first, first + 1)]) == 1
    await eventually(lambda: not alive(pid), "its render ends")
    wide.open_gate()
    status = await until_state(job, JobState.COMPLETED)

    assert (status.completed_chunks, status.left_out_chunks) == (18, 2)
    assert first not in wide.ledger.ended
    assert later not in wide.ledger.started


async def test_the_limit_crosses_the_bound_while_a_job_runs(wide: Farm) -> None:
    job = await wide.started(chunks=40, running=4)
    assert await batches(wide, job) == []
    assert await job.set_max_parallel(8) == 8
    await wide.ledger.until_started(8)
    assert len(await batches(wide, job)) == 2

    assert await job.set_max_parallel(2) == 2
    assert (await until(job, lambda status: status.max_parallel == 2)).running_chunks == 8, "what runs goes on"
    wide.open_gate()
    status = await until_state(job, JobState.COMPLETED)
    assert status.completed_chunks == 40
    assert sorted(wide.ledger.started) == list(range(40))


async def test_queued_chunks_of_batches_are_taken_back_where_there_are_too_many(farm: Farm) -> None:
    """Four slots: of eight spans in four batches, four wait in the queue."""
    job = await farm.submit(farm.job(chunks=20, options=("--gate", str(farm.gate)), max_parallel=8))
    await farm.ledger.until_started(4)
    await until(job, lambda status: len(status.running) == 8)
    await job.set_max_parallel(1)
    await until(job, lambda status: len(status.running) <= 4)
    farm.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 20


async def test_failed_tries_go_from_batch_to_batch(wide: Farm) -> None:
    """A chunk fails once, its batch is recalled before the next try, and its tries are not forgotten."""
    fails = ("sh", "-c", '[ "$0" != 3 ] || exit 7; echo > "$1"', "{chunk}", "{output}")
    command = behind_gate(wide.gate, fails, from_chunk=4)
    once_more = Retry(attempts=2, initial_seconds=60)
    job = await wide.submit(wide.job(chunks=20, command=command, max_parallel=8, retry=once_more))
    await until(job, lambda status: any(each.waiting and each.attempt == 2 for each in status.running))
    await job.pause()
    wide.open_gate()
    await until_state(job, JobState.PAUSED)
    await job.resume()
    status = await until_state(job, JobState.FAILED)
    assert "chunk 3 failed after 2 tries" in (status.error or "")


async def test_a_chunk_whose_batch_is_taken_back_waits_as_long_as_before(wide: Farm) -> None:
    """When all other chunks are done, slots idle, and batches give back what they have not begun."""
    script = f'echo "start $1 $$ $(date +%s.%N)" >> {wide.ledger.path}; [ $1 != 3 ] || exit 7; echo > "$2"'
    command = ("sh", "-c", script, "sh", "{chunk}", "{output}")
    once_more = Retry(attempts=2, initial_seconds=4)
    status = await wide.run(wide.job(chunks=20, command=command, max_parallel=8, retry=once_more))

    assert "chunk 3 failed after 2 tries" in (status.error or "")
    first, second = (float(line[3]) for line in wide.ledger.lines("start") if line[1] == "3")
    assert second - first >= 4


async def test_full_histories_end_batches_and_runs_and_nobody_sees_it(
    wide: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FULL", "_DRAIN", "_REFUSE", "_STOP", "_WORTHWHILE"):
        monkeypatch.setattr(history, name, getattr(history, name) // 20)
    monkeypatch.setattr(scheduling, "SPAN_SECONDS", 0.01)
    job = await wide.submit(wide.job(chunks=200, max_parallel=8))
    completed = [status.completed_chunks async for status in job.watch(interval_seconds=0.1)]
    status = await job.status()

    assert status.state is JobState.COMPLETED, status.error
    assert sorted(wide.ledger.started) == list(range(200)), "each was rendered once"
    assert completed == sorted(completed)
    assert max(await all_histories(wide, job)) <= history._STOP + 20


@pytest.mark.slow
async def test_killed_workers_cost_a_job_in_batches_their_running_chunks_alone(bare: Farm) -> None:
    """Workers of their own processes have the true bounds: 250 chunks are three batches, of 100 and 50 at once."""
    job = bare.job(chunks=250, max_parallel=600, retry=Retry(attempts=1, lost_workers=50))
    handle: JobHandle | None = None
    for killed_at in (20, 60):
        async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
            handle = handle or await bare.submit(job)
            await bare.ledger.until_started(killed_at)
            worker.kill()
            await worker.wait()
        known = {int(name[:6]) for name in bare.sidecars(handle.id)}
        again = len(bare.ledger.started)
        async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
            await bare.ledger.until_started(again + 10)
            worker.kill()
            await worker.wait()
        assert not known & set(bare.ledger.started[again:]), "a finished chunk is rendered again"
    assert handle is not None
    async with worker_process(bare.address, bare.task_queue, bare.store, slots=4):
        assert len(await batches(bare, handle)) == 3
        status = await until_state(handle, JobState.COMPLETED)

    assert status.completed_chunks == 250
    assert set(bare.ledger.ended) == set(range(250))


@pytest.mark.slow
async def test_six_hundred_chunks_render_at_once_by_the_true_bounds(
    bare: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    chunk = bare.store / "chunk"
    chunk.write_text("rendered")
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=600)):
        job = await bare.submit(bare.job(chunks=2000, max_parallel=600, command=("cp", str(chunk), "{output}")))
        most = max([len(await batches(bare, job)) async for _ in job.watch(interval_seconds=1)])
        status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == 2000
    assert most == 6
    assert max(await all_histories(bare, job)) <= history.MOST_EVENTS

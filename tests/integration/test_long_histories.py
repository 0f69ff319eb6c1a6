"""What bounds the history of a job, and what a job loses by it: nothing."""

import asyncio
from typing import Any

import pytest
from support.farm import Farm, serving, until, until_state, worker_settings
from temporalio.worker import Replayer

from activities.attempts import chunk_bursts
from activities.job_watch import JobOrders, JobWatch
from activities.processes.render_process import CommandBurst
from longtake import BadJobError, JobHandle, JobPhase, JobState, PauseMode, RenderJobSpec, Retry, Timeouts
from longtake.data_converter import data_converter
from longtake.describe import read_status
from longtake.models.policies import FailurePolicy
from workflows import history, scheduling
from workflows.render_job import RenderJob

pytestmark = pytest.mark.integration

# A run that stops what runs has as many events left for that as a long one.
MOST_EVENTS = history._STOP // 20 + (history.MOST_EVENTS - history._STOP) // 2


def gated(farm: Farm, first: int, stop: int, **fields: Any) -> RenderJobSpec:
    """Return a job in which each chunk of `[first, stop)` waits for a gate of its own; the others are quick."""
    waits = f'[ "$1" -lt {first} ] || [ "$1" -ge {stop} ] || until [ -e "{farm.gate}.$1" ]; do sleep 0.02; done'
    script = f'echo "start $1 $$" >> {farm.ledger.path}; {waits}; echo "$1" > "$2"'
    return farm.job(command=("sh", "-c", script, "sh", "{chunk}", "{output}"), **fields)


async def test_a_span_that_runs_long_gives_its_rest_to_slots_that_idle(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks 2 to 4 are one span, by what 0 and 1 took; all others are done before the first of them."""
    heard, recalled = asyncio.Event(), asyncio.Event()
    refresh, recall = JobWatch.refresh, CommandBurst.recall

    async def hear(watch: JobWatch) -> JobOrders:
        if (orders := await refresh(watch)).split:
            heard.set()
        return orders

    async def note(burst: CommandBurst) -> None:
        await recall(burst)
        if heard.is_set():
            recalled.set()

    monkeypatch.setattr(JobWatch, "refresh", hear)
    monkeypatch.setattr(CommandBurst, "recall", note)
    # The first of them stays in its burst until the order takes back those after it.
    monkeypatch.setattr(chunk_bursts, "LONGEST_SECONDS", 60)
    job = await farm.submit(gated(farm, 2, 5, chunks=12, max_parallel=2))
    await until(job, lambda status: status.completed_chunks == 9)
    async with asyncio.timeout(30):
        await recalled.wait()

    farm.open_gate(2)
    await until(job, lambda status: {chunk.chunk for chunk in status.running} == {3, 4})
    await farm.ledger.until_started(12)

    farm.open_gate(3, 4)
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == list(range(12)), "each was rendered once"


async def histories(farm: Farm, job: JobHandle) -> list[int]:
    """Return the numbers of events of all runs of a job, the first one first; each replays."""
    found: list[int] = []
    run_id: str | None = None
    while True:
        handle = farm.client.get_workflow_handle(job.id, run_id=run_id)
        history = await handle.fetch_history()
        await Replayer(workflows=[RenderJob], data_converter=data_converter()).replay_workflow(history)
        found.insert(0, len(history.events))
        run_id = history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs hand over after a twentieth of the events, so that a small job has many of them."""
    for name in ("_FULL", "_DRAIN", "_REFUSE", "_STOP", "_WORTHWHILE"):
        monkeypatch.setattr(history, name, getattr(history, name) // 20)


@pytest.mark.usefixtures("short")
async def test_a_job_goes_on_in_new_runs_and_nobody_sees_it(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "SPAN_SECONDS", 0.01)
    job = await farm.submit(farm.job(chunks=100, max_parallel=2))
    seen = [status async for status in job.watch(interval_seconds=0.1)]

    assert seen[-1].state is JobState.COMPLETED, seen[-1].error
    assert sorted(farm.ledger.started) == list(range(100)), "each was rendered once"
    completed = [status.completed_chunks for status in seen]
    assert completed == sorted(completed)
    assert {status.created_at for status in seen} == {seen[-1].created_at}
    assert {status.started_at for status in seen} == {seen[-1].started_at}
    events = await histories(farm, job)
    assert len(events) > 1
    assert max(events) <= MOST_EVENTS


@pytest.mark.slow
@pytest.mark.usefixtures("short")
async def test_failing_passes_are_runs_of_their_own(farm: Farm) -> None:
    """100 chunks fail in each of 5 passes, and the last pass is the last."""
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.CONTINUE, "retry": Retry(attempts=1, job_attempts=5)}
    status = await farm.run(farm.job(chunks=60, options=("--exit", "7"), max_parallel=2, **fields))

    assert status.state is JobState.FAILED
    assert (status.failed_chunks, len(status.failures)) == (60, 20)
    assert "60 chunks failed" in (status.error or "")
    assert sorted(farm.ledger.started) == sorted(5 * [*range(60)])
    events = await histories(farm, farm.render.job(status.id))
    assert len(events) > 2
    assert max(events) <= MOST_EVENTS


@pytest.mark.slow
@pytest.mark.parametrize("mode", PauseMode)
@pytest.mark.usefixtures("short")
async def test_pauses_of_every_mode_are_bounded_and_lose_no_chunk(farm: Farm, mode: PauseMode) -> None:
    """Two chunks run for as long as the job is paused and resumed; a frozen one is ended when there is no room left."""
    job = await farm.started(chunks=4, running=2, timeouts=Timeouts(grace_seconds=0.1))
    for _ in range(25 if mode is not PauseMode.DRAIN else 60):
        await job.pause(mode=mode, wait=mode is not PauseMode.DRAIN)
        await job.resume()
    farm.open_gate()
    status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == 4
    assert sorted(farm.ledger.ended) == [0, 1, 2, 3]
    events = await histories(farm, job)
    assert len(events) > 1
    assert max(events) <= MOST_EVENTS


@pytest.mark.slow
@pytest.mark.usefixtures("short")
async def test_pauses_while_what_runs_is_being_ended_are_left_to_the_next_run(farm: Farm) -> None:
    """The renders end when the gate opens, and each signal that comes before costs itself and a workflow task."""
    loop = f"until [ -e {farm.gate} ]; do sleep 0.02; done"
    script = f'trap "" TERM; echo "start $1 $$" >> {farm.ledger.path}; {loop}; echo "$1" > "$2"'
    fields: dict[str, Any] = {"command": ("sh", "-c", script, "sh", "{chunk}", "{output}"), "max_parallel": 2}
    job = await farm.submit(farm.job(chunks=4, timeouts=Timeouts(grace_seconds=30), **fields))
    await farm.ledger.until_started(2)

    async def freeze() -> None:
        await job.pause(mode=PauseMode.FREEZE)
        await job.resume()

    workflow = farm.client.get_workflow_handle(job.id)
    while (run := await workflow.describe()).history_length + 2 * history._EVENTS_OF_ENDED <= history._STOP:
        await freeze()
    for _ in range(3):
        await freeze()
    assert (await workflow.describe()).run_id == run.run_id, "what runs has not ended before them"

    farm.open_gate()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 4
    assert max(await histories(farm, job)) <= MOST_EVENTS


@pytest.mark.usefixtures("short")
async def test_updates_without_end_are_taken_up_by_one_run_after_the_other(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=4, start_paused=True))
    await until_state(job, JobState.PAUSED)
    for number in range(150):
        assert await job.set_max_parallel(1 + number % 7) == 1 + number % 7

    assert (await job.status()).max_parallel == 1 + 149 % 7
    assert max(await histories(farm, job)) <= MOST_EVENTS
    await job.resume()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 4


@pytest.mark.usefixtures("short")
async def test_updates_to_a_run_that_waits_for_its_chunks_are_refused_in_one_sentence(farm: Farm) -> None:
    job = await farm.started(chunks=4, running=2)

    async def update_without_end() -> None:
        for _ in range(100):
            await job.set_max_parallel(2)

    with pytest.raises(BadJobError, match=r"history of this run is full.*ask again in a moment"):
        await update_without_end()
    assert (await job.status()).state is JobState.RUNNING
    farm.open_gate()
    status = await until_state(job, JobState.COMPLETED)

    assert sorted(farm.ledger.started) == [0, 1, 2, 3], "nothing was stopped for that"
    assert status.max_parallel == 2
    assert max(await histories(farm, job)) <= MOST_EVENTS


@pytest.mark.usefixtures("short")
async def test_a_status_loses_nothing_when_a_job_that_holds_goes_on_in_a_new_run(farm: Farm) -> None:
    fields: dict[str, Any] = {"on_chunk_failure": FailurePolicy.HOLD, "retry": Retry(attempts=2, initial_seconds=0.01)}
    spec = farm.job(chunks=6, options=("--exit", "7", "--only", "3"), max_parallel=1, **fields)
    handle = await farm.client.start_workflow(
        "RenderJob", spec.to_wire(), id="held", task_queue=farm.task_queue, memo={"shot": "sq010"}
    )
    job = farm.render.job("held")
    before = await until(job, lambda status: status.phase is JobPhase.HOLDING)
    for _ in range(30):
        await job.set_max_parallel(1)
    after = await job.status()

    assert len(await histories(farm, job)) > 1
    ever_new = {"updated_at", "progress_at", "eta_seconds", "requests"}
    assert len(after.requests) == 20
    assert after.model_dump(exclude=ever_new) == before.model_dump(exclude=ever_new)
    assert after.failures[0].attempts == 2
    description = await handle.describe()
    assert await description.memo_value("shot") == "sq010"
    told = await read_status(await farm.client.get_workflow_handle("held").describe())
    assert told.model_dump(exclude=ever_new) == before.model_dump(exclude=ever_new), "without a worker, too"
    assert [each.id for each in await farm.render.list() if each.id == "held"] == ["held"]

    await job.skip_chunks([(3, 4)])
    end = await until_state(job, JobState.COMPLETED)
    assert (end.completed_chunks, end.left_out_chunks) == (5, 1)
    assert (await job.result()).frames == 5
    assert farm.ledger.started.count(3) == 2


@pytest.mark.usefixtures("short")
async def test_a_job_is_paused_cancelled_and_retried_in_whatever_run_it_is(farm: Farm) -> None:
    job = await farm.started(chunks=4, running=2)
    await job.pause(mode=PauseMode.NOW, wait=True)
    for _ in range(30):
        await job.set_max_parallel(2)
    assert len(await histories(farm, job)) > 1
    assert (await job.status()).pause_mode is PauseMode.NOW
    assert (await job.cancel(wait=True)).state is JobState.CANCELLED

    farm.open_gate()
    again = await farm.render.retry(job.id)
    assert (await until_state(again, JobState.COMPLETED)).completed_chunks == 4


@pytest.mark.slow
async def test_three_thousand_updates_are_answered_each(farm: Farm) -> None:
    """By the true bounds, and eight at once: a run that hands over leaves none without an answer."""
    job = await farm.submit(farm.job(chunks=4, start_paused=True))
    await until_state(job, JobState.PAUSED)
    for _ in range(375):
        assert await asyncio.gather(*(job.set_max_parallel(1 + number) for number in range(8))) == [*range(1, 9)]

    assert max(await histories(farm, job)) <= history.MOST_EVENTS
    await job.resume()
    assert (await until_state(job, JobState.COMPLETED)).completed_chunks == 4


@pytest.mark.slow
async def test_pauses_of_all_modes_with_many_running_spans_stay_below_the_true_bound(bare: Farm) -> None:
    settings = worker_settings(bare.task_queue, bare.store, slots=24)
    async with serving(bare.client, settings):
        job = await bare.started(chunks=30, running=24, timeouts=Timeouts(grace_seconds=0.1))
        for number in range(45):
            mode = (PauseMode.DRAIN, PauseMode.FREEZE, PauseMode.NOW)[number % 3]
            await job.pause(mode=mode, wait=mode is not PauseMode.DRAIN)
            await job.resume()
        bare.open_gate()
        status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == 30
    assert sorted(bare.ledger.ended) == list(range(30)), "each came to its end once"
    events = await histories(bare, job)
    assert len(events) > 1
    assert max(events) <= history.MOST_EVENTS

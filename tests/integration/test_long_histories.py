"""What bounds the history of a job, and what a job loses by it: nothing."""

from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, until, until_state

from longtake import JobHandle, JobState, RenderJobSpec
from workflows import history

pytestmark = pytest.mark.integration


def gated(farm: Farm, first: int, stop: int, **fields: Any) -> RenderJobSpec:
    """Return a job in which each chunk of `[first, stop)` waits for a gate of its own; the others are quick."""
    waits = f'[ "$1" -lt {first} ] || [ "$1" -ge {stop} ] || until [ -e "{farm.gate}.$1" ]; do sleep 0.02; done'
    script = f'echo "start $1 $$" >> {farm.ledger.path}; {waits}; echo "$1" > "$2"'
    return farm.job(command=("sh", "-c", script, "sh", "{chunk}", "{output}"), **fields)


def open_gates(farm: Farm, *chunks: int) -> None:
    for chunk in chunks:
        Path(f"{farm.gate}.{chunk}").touch()


async def test_a_span_that_runs_long_gives_its_rest_to_slots_that_idle(farm: Farm) -> None:
    """Chunks 2 to 4 are one span, by what 0 and 1 took; all others are done before the first of them."""
    job = await farm.submit(gated(farm, 2, 5, chunks=12, max_parallel=2))
    await until(job, lambda status: status.completed_chunks == 9)

    open_gates(farm, 2)
    await until(job, lambda status: {chunk.chunk for chunk in status.running} == {3, 4})
    await farm.ledger.until_started(12)

    open_gates(farm, 3, 4)
    await until_state(job, JobState.COMPLETED)
    assert sorted(farm.ledger.started) == list(range(12)), "each was rendered once"


async def histories(farm: Farm, job: JobHandle) -> list[int]:
    """Return the numbers of events of all runs of a job, the first one first."""
    found, run_id = [], None
    while True:
        handle = farm.client.get_workflow_handle(job.id, run_id=run_id)
        history = await handle.fetch_history()
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
async def test_a_job_goes_on_in_new_runs_and_nobody_sees_it(farm: Farm) -> None:
    job = await farm.submit(farm.job(chunks=150, max_parallel=2, options=("--seconds", "0.01")))
    seen = [status async for status in job.watch(interval_seconds=0.1)]

    assert seen[-1].state is JobState.COMPLETED, seen[-1].error
    assert sorted(farm.ledger.started) == list(range(150)), "each was rendered once"
    completed = [status.completed_chunks for status in seen]
    assert completed == sorted(completed)
    assert {status.created_at for status in seen} == {seen[-1].created_at}
    assert {status.started_at for status in seen} == {seen[-1].started_at}
    events = await histories(farm, job)
    assert len(events) > 1
    assert max(events) <= history.MOST_EVENTS // 20

"""Five hundred renders at once are paused again and again: no run of the job has more events than it may have."""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from support.farm import Farm, serving, until_state, worker_settings
from support.standing_renders import StandingBackend
from temporalio.api.enums.v1 import EventType

from longtake import JobHandle, JobState
from longtake.models.status import PauseMode
from workflows import history, scheduling

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(1800)]

RUNNING = scheduling.MOST_RUNNING
CHUNKS = RUNNING + 20

# What ends with them, or renders again, does so on a loaded machine, too.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Run:
    """One run of the job's workflow, as its history tells it."""

    events: int
    pauses: int
    ended: int


async def read_runs(farm: Farm, job: JobHandle) -> list[Run]:
    """Return the runs of a job, the first one first."""
    runs: list[Run] = []
    run_id: str | None = None
    while True:
        events = (await farm.client.get_workflow_handle(job.id, run_id=run_id).fetch_history()).events
        requests = Counter(
            # Where a history has no room for updates, they come as signals.
            event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
            or event.workflow_execution_signaled_event_attributes.signal_name
            for event in events
        )
        ended = sum(event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED for event in events)
        runs.insert(0, Run(len(events), requests["pause"], ended))
        run_id = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
        if not run_id:
            return runs


@pytest.mark.parametrize(("mode", "pauses"), [(PauseMode.DRAIN, 300), (PauseMode.FREEZE, 30), (PauseMode.NOW, 6)])
async def test_pauses_of_five_hundred_renders_are_bounded_and_lose_no_chunk(
    bare: Farm, mode: PauseMode, pauses: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    renders = StandingBackend(at_once=RUNNING)
    monkeypatch.setattr("activities.attempts.host.LocalBackend", lambda supervisor: renders)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=RUNNING)):
        job = await bare.submit(bare.job(chunks=CHUNKS, command=(sys.executable, "{output}"), max_parallel=RUNNING))
        await asyncio.wait_for(renders.until_all_run(), PATIENCE_SECONDS)
        began = time.monotonic()
        for _ in range(pauses):
            await job.pause(mode=mode, wait=mode is not PauseMode.DRAIN)
            await job.resume()
            await asyncio.wait_for(renders.until_all_run(), PATIENCE_SECONDS)
        seconds = (time.monotonic() - began) / pauses
        renders.open_gate()
        status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == CHUNKS
    assert sorted(renders.ended) == [f"{chunk:06}.txt" for chunk in range(CHUNKS)], "each came to its end once"
    runs = await read_runs(bare, job)
    with capsys.disabled():
        print(
            f"\n{pauses} pauses ({mode}) of {RUNNING} renders: {len(runs)} runs of {max(run.events for run in runs):,} "
            f"events at most, {renders.begun - CHUNKS:,} renders begun again, {seconds:.1f} s each; {runs}"
        )
    assert sum(run.pauses for run in runs) >= pauses
    assert max(run.events for run in runs) <= history.MOST_EVENTS

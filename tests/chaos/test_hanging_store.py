"""A store that hangs for longer than a heartbeat may: no chunk is given away, and nothing else on the worker waits."""

import time
from pathlib import Path
from random import Random

import pytest
from support.farm import Farm, Ledger, eventually, renderer, serving, until, worker_settings
from support.hanging_record import HangingRecord
from support.measurements import Distribution

from longtake import JobState, Retry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHUNKS = 4

# Around the heartbeat timeout of 10 s, after which Temporal gives the chunk to another worker.
LEAST_SECONDS, MOST_SECONDS = 8.0, 16.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runs", [1, pytest.param(15, marks=pytest.mark.chaos)])
async def test_a_store_that_hangs_holds_up_its_own_chunk_alone(
    bare: Farm, runs: int, random: Random, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of a chunk hangs; meanwhile other jobs come and go on the same worker."""
    others: list[float] = []
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=2)):
        for number in range(runs):
            ledger, gate = Ledger(tmp_path / f"ledger-{number}"), tmp_path / f"gate-{number}"
            job = await bare.submit(
                bare.job(
                    chunks=CHUNKS,
                    command=renderer(ledger, "--gate", str(gate), "--only", "0"),
                    chunk_output=f"out-{number}/{{chunk}}.txt",
                    max_parallel=1,
                    retry=Retry(attempts=1, lost_workers=1),
                )
            )
            await ledger.until_started(1)
            record = HangingRecord(bare.sidecar(job.id, random.randrange(1, CHUNKS)))
            try:
                gate.touch()
                await eventually(lambda record=record: record.is_read, "the worker hangs at the record")  # type: ignore[misc]
                end = time.monotonic() + random.uniform(LEAST_SECONDS, MOST_SECONDS)
                while time.monotonic() < end:
                    began = time.monotonic()
                    name = f"other-{number}-{len(others)}/{{chunk}}.txt"
                    assert (await bare.run(bare.job(chunks=1, chunk_output=name))).state is JobState.COMPLETED
                    others.append(time.monotonic() - began)
            finally:
                record.end()
            status = await until(job, lambda status: status.state.has_ended)

            assert status.state is JobState.COMPLETED, status.error
            assert sorted(ledger.started) == list(range(CHUNKS)), "none was given to another attempt"
    with capsys.disabled():
        print(f"\nother jobs beside a store that hangs: {Distribution.of(others)}", end="")

"""A chunk that takes its workers down fails alone, and the workers that are left render the rest."""

import sys
from pathlib import Path

import pytest
from support.farm import Farm, eventually, until, until_state
from support.processes.workers import worker_process

from longtake import JobState, Retry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Ends the worker that renders it, as a renderer does that takes all memory of its host.
POISON = r"""
import os, pathlib, signal, sys
chunk, output, ledger = sys.argv[1:]
with open(ledger, "a") as lines:
    lines.write(f"start {chunk} {os.getpid()}\n")
if chunk == "1":
    os.kill(int(os.environ["LONGTAKE_WORKER"].split("/")[2]), signal.SIGKILL)
pathlib.Path(output).write_text(chunk)
"""


def poison(farm: Farm) -> tuple[str, ...]:
    script = farm.store.parent / "poison.py"
    script.write_text(POISON)
    return (sys.executable, "-S", "-E", str(script), "{chunk}", "{output}", str(farm.ledger.path))


async def test_a_chunk_that_kills_its_workers_fails_alone(bare: Farm) -> None:
    """Published chunks of its span stay in the job, which may have gaps."""
    job_spec = bare.job(
        chunks=4,
        command=poison(bare),
        allow_gaps=True,
        on_chunk_failure="continue",
        max_parallel=1,
        retry=Retry(attempts=1, lost_workers=2),
    )
    job = await bare.submit(job_spec)
    for worker_number in (1, 2):
        async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
            assert await worker.wait() == -9, f"worker {worker_number} is killed"
    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until(job, lambda status: status.state.has_ended)

    assert (status.completed_chunks, status.failed_chunks) == (3, 1), status.error
    assert bare.ledger.started.count(1) == 2
    (failure,) = status.failures
    assert (failure.chunk, failure.attempts) == (1, 2)
    assert "2 workers were lost while they rendered it" in failure.error


async def test_workers_that_end_in_order_are_not_lost(bare: Farm) -> None:
    """A farm of machines that are taken away gives each chunk back many times, and none of it counts."""
    gate = ("--gate", str(bare.gate))
    job = await bare.submit(bare.job(chunks=1, options=gate, retry=Retry(attempts=1, lost_workers=1)))
    for begun in (1, 2, 3):
        async with worker_process(
            bare.address, bare.task_queue, bare.store, LONGTAKE_SHUTDOWN_GRACE_SECONDS="0"
        ) as worker:
            await bare.ledger.until_started(begun)
            worker.terminate()
            assert await worker.wait() == 0
    bare.open_gate()
    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(job, JobState.COMPLETED)

    assert status.failed_chunks == 0
    await eventually(lambda: Path(bare.store / "out/000000.txt").exists(), "the output is there")

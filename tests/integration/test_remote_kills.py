"""Workers that end while chunks are rendered elsewhere: the next one joins what lives, and nothing is paid twice."""

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from support.farm import Farm, eventually, serving, until_ended_despite_outages, until_state
from support.processes.workers import WorkerProcess, worker_process
from support.remote.agent_farm import Services, services
from support.servers.tcp_proxy import Proxy

from longtake import JobHandle, JobState, Retry
from longtake.models.backends import BackendKind

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHUNKS = 3
REMOTE = [BackendKind.LAMBDA, BackendKind.CLOUD_RUN]


def worker(farm: Farm, running: Services) -> AbstractAsyncContextManager[WorkerProcess]:
    return worker_process(farm.address, farm.task_queue, farm.store, slots=2, **running.environment)


def next_worker(farm: Farm, running: Services) -> AbstractAsyncContextManager[None]:
    """Run the worker that joins what is left, in this process: nobody kills it."""
    return serving(farm.client, running.settings(farm, slots=2))


def records(farm: Farm, job: JobHandle, ending: str) -> list[Path]:
    return sorted((farm.store / ".longtake" / job.id / "remote").glob(f"*/*{ending}"))


@pytest.mark.parametrize("kind", REMOTE)
async def test_a_killed_worker_costs_no_second_call_and_no_second_bill(
    bare: Farm, tmp_path: Path, kind: BackendKind
) -> None:
    async with services(kind, (str(bare.store),), tmp_path) as running:
        async with worker(bare, running) as first:
            fields = {"backend": kind.value, "retry": Retry(attempts=1)}
            undisturbed = await bare.run(
                bare.job(chunks=1, options=("--seconds", "2"), chunk_output="one/{chunk}.txt", **fields)
            )
            assert undisturbed.state is JobState.COMPLETED, undisturbed.error

            submitted = time.monotonic()
            options = ("--gate", str(bare.gate))
            job = await bare.submit(bare.job(chunks=CHUNKS, options=options, max_parallel=CHUNKS, **fields))
            await bare.ledger.until_started(1 + CHUNKS)
            all_started = time.monotonic()
            first.kill()
            await first.wait()
        async with next_worker(bare, running):
            await eventually(lambda: len(records(bare, job, ".joined.json")) == CHUNKS, "they are joined")
            opened = time.monotonic()
            bare.open_gate()
            status = await until_ended_despite_outages(job)
            ended = time.monotonic()

    assert status.state is JobState.COMPLETED, status.error
    assert len(records(bare, job, ".call.json")) == CHUNKS
    assert len(records(bare, job, ".joined.json")) == CHUNKS
    assert sorted(bare.ledger.started[1:]) == list(range(CHUNKS))
    if running.function is not None:
        assert len(running.function.invocations) == 1 + CHUNKS
    # Each call once, from its start to its end; services bill in steps of 0.1 s.
    billed = status.metrics.billed_seconds
    assert CHUNKS * (opened - all_started) <= billed <= CHUNKS * (ended - submitted + 0.1)
    rate = undisturbed.metrics.cost_usd / undisturbed.metrics.billed_seconds
    # Of the undisturbed call, which lasts 2 s at least, a step is a twentieth at most.
    assert status.metrics.cost_usd == pytest.approx(rate * billed, rel=0.05)


@pytest.mark.parametrize("kind", REMOTE)
async def test_a_worker_that_is_told_to_end_leaves_its_agents_to_the_next_one(
    bare: Farm, tmp_path: Path, kind: BackendKind
) -> None:
    async with services(kind, (str(bare.store),), tmp_path) as running:
        async with worker(bare, running) as first:
            options = ("--gate", str(bare.gate))
            job = await bare.submit(bare.job(chunks=2, options=options, backend=kind.value, retry=Retry(attempts=1)))
            await bare.ledger.until_started(2)
            first.terminate()
            assert await first.wait() == 0
        assert len(records(bare, job, ".stop.json")) == 0
        async with next_worker(bare, running):
            await eventually(lambda: len(records(bare, job, ".joined.json")) == 2, "they are joined")
            bare.open_gate()
            status = await until_state(job, JobState.COMPLETED)

    assert status.completed_chunks == 2
    assert sorted(bare.ledger.started) == [0, 1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", REMOTE)
async def test_a_worker_that_is_cut_off_leaves_its_agents_to_the_one_that_takes_over(
    bare: Farm, tmp_path: Path, kind: BackendKind
) -> None:
    async with services(kind, (str(bare.store),), tmp_path) as running, Proxy(bare.address) as proxy:
        environment = {**running.environment, "LONGTAKE_CONTACT_SECONDS": "3"}
        async with worker_process(proxy.address, bare.task_queue, bare.store, slots=2, **environment) as cut:
            options = ("--gate", str(bare.gate))
            job = await bare.submit(bare.job(chunks=2, options=options, backend=kind.value, retry=Retry(attempts=1)))
            await bare.ledger.until_started(2)
            async with next_worker(bare, running):
                proxy.cut()
                await eventually(lambda: cut.log.count("stopping a render") == 2, "the cut worker gives up its chunks")
                await eventually(lambda: len(records(bare, job, ".joined.json")) == 2, "they are joined")
                assert records(bare, job, ".stop.json") == []
                # Each poll that a cut worker has left swallows a task for 10 s.
                await proxy.heal()
                bare.open_gate()
                status = await until_ended_despite_outages(job)

    assert status.state is JobState.COMPLETED, status.error
    assert sorted(bare.ledger.started) == [0, 1]
    assert len(records(bare, job, ".call.json")) == 2

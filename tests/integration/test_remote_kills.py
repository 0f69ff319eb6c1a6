"""Workers that end while chunks are rendered elsewhere: the next one joins what lives, and nothing is paid twice."""

from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from support.farm import Farm, eventually, until_ended_despite_outages, until_state
from support.processes.workers import WorkerProcess, worker_process
from support.remote.agent_farm import Services, services
from support.servers.tcp_proxy import Proxy

from longtake import JobHandle, JobState, Retry
from longtake.models.backends import BackendKind

pytestmark = pytest.mark.integration

CHUNKS = 8
# Longer than it takes Temporal to miss a worker, 10 s, and the next one to come.
SECONDS = 22.0
REMOTE = [BackendKind.LAMBDA, BackendKind.CLOUD_RUN]


async def submitted(farm: Farm, kind: BackendKind, folder: str) -> JobHandle:
    """Return a job that renders all its chunks at once, each for the same time."""
    options = ("--seconds", str(SECONDS))
    fields = {"chunk_output": folder + "/{chunk:06}.txt", "backend": kind.value, "max_parallel": CHUNKS}
    return await farm.submit(farm.job(chunks=CHUNKS, options=options, retry=Retry(attempts=1), **fields))


def worker(farm: Farm, running: Services) -> AbstractAsyncContextManager[WorkerProcess]:
    return worker_process(farm.address, farm.task_queue, farm.store, slots=2, **running.environment)


def records(farm: Farm, job: JobHandle, ending: str) -> list[Path]:
    return sorted((farm.store / ".longtake" / job.id / "remote").glob(f"*/*{ending}"))


@pytest.mark.parametrize("kind", REMOTE)
async def test_a_killed_worker_costs_no_second_call_and_no_second_bill(
    bare: Farm, tmp_path: Path, kind: BackendKind
) -> None:
    async with services(kind, (str(bare.store),), tmp_path) as running:
        async with worker(bare, running):
            undisturbed = await until_ended_despite_outages(await submitted(bare, kind, "one"))
        assert undisturbed.state is JobState.COMPLETED, undisturbed.error

        async with worker(bare, running) as first:
            job = await submitted(bare, kind, "two")
            await bare.ledger.until_started(2 * CHUNKS)
            first.kill()
            await first.wait()
        async with worker(bare, running):
            status = await until_ended_despite_outages(job)

    assert status.state is JobState.COMPLETED, status.error
    assert len(records(bare, job, ".call.json")) == CHUNKS
    assert len(records(bare, job, ".joined.json")) == CHUNKS
    assert Counter(bare.ledger.started) == dict.fromkeys(range(CHUNKS), 2), "once in each job"
    if running.function is not None:
        assert len(running.function.invocations) == 2 * CHUNKS
    before, after = undisturbed.metrics.billed_seconds, status.metrics.billed_seconds
    print(
        f"\n{kind}: billed {before:.1f} s undisturbed, {after:.1f} s with the worker killed ({after / before - 1:+.1%})"
    )
    assert after == pytest.approx(before, rel=0.05)
    assert status.metrics.cost_usd == pytest.approx(undisturbed.metrics.cost_usd, rel=0.05)


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
        async with worker(bare, running):
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
            async with worker(bare, running):
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

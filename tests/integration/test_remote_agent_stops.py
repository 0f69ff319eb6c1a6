"""What ends a remote render early: orders to stop, callers that hang up, deadlines, instances that go down."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import pytest
from support.farm import eventually
from support.measurements import Distribution
from support.processes.process_table import living
from support.remote.agent_jobs import AgentJob, AgentJobs, carriers, read_result
from support.remote.agents import Edge, cloud_run_edge

from activities.remote.protocol import RemoteOrder, RemoteOutcome
from longtake.stores.directory import DirectoryStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

AT_ONCE = 3

# How many of each tree's processes say that they stand; some forget their environment, lead sessions, ignore TERM.
TREES = {"obeys": 1, "setsid": 2, "daemon": 2, "ignores": 1, "detached": 1}

# The first look is at most a second after the order; who ignores TERM has half a second more.
PROMISE_SECONDS = 2.0


@pytest.fixture
def local(tmp_path: Path) -> AgentJobs:
    return AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")


@pytest.mark.timed
@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.chaos)])
@pytest.mark.slow
async def test_a_tree_is_gone_soon_after_the_order_to_stop(jobs: AgentJobs, edge: Edge, times: int) -> None:
    kinds = [*TREES] * times
    gone, told = [], []

    async def stopped(kind: str) -> None:
        job = jobs.trees(kind)
        order = job.order()
        call = edge.call(order)
        await jobs.until_tree_stands(job, order, TREES[kind])
        tree = carriers(order)
        assert len(tree) >= TREES[kind]
        began = time.monotonic()
        await asyncio.to_thread(job.calls().order_stop, order.attempt, "enough")
        # A look at all processes takes long: it is made when those are gone that are known.
        await eventually(lambda: not living(*tree) and not carriers(order), f"the tree of kind {kind} is gone")
        gone.append(time.monotonic() - began)
        result = await read_result(job, order)
        told.append(time.monotonic() - began)
        assert (result.outcome, result.survivors) == (RemoteOutcome.STOPPED, 0)
        assert edge.result(await call) == result

    for first in range(0, len(kinds), AT_ONCE):
        await asyncio.gather(*(stopped(kind) for kind in kinds[first : first + AT_ONCE]))
    kind_of_store = "directory" if jobs.store.is_local else "bucket"
    print(f"{edge.name}, {kind_of_store}: order to stop to no process left: {Distribution.of(gone)}")
    print(f"{edge.name}, {kind_of_store}: order to stop to the last word: {Distribution.of(told)}")
    assert max(gone) < PROMISE_SECONDS


@asynccontextmanager
async def orphaning(local: AgentJobs, folder: Path, seconds: float = 2.0) -> AsyncIterator[Edge]:
    async with cloud_run_edge(folder, {**local.environ, "LONGTAKE_ORPHAN_SECONDS": str(seconds)}) as edge:
        yield edge


async def begun_and_hung_up(edge: Edge, job: AgentJob, order: RemoteOrder) -> float:
    """Return when the connection was closed; the render runs."""
    call = edge.call(order)
    await job.ledger.until_started(1)
    call.cancel()
    await asyncio.wait([call])
    return time.monotonic()


@pytest.mark.timed
async def test_a_caller_that_hangs_up_and_says_stop_is_heard_at_once(local: AgentJobs, tmp_path: Path) -> None:
    async with orphaning(local, tmp_path) as edge:
        took = []
        for _ in range(3):
            job = local.texts("--gate", "NOTES/gate")
            order = job.order()
            began = await begun_and_hung_up(edge, job, order)
            job.calls().order_stop(order.attempt, "cancelled")
            await eventually(lambda order=order: not carriers(order), "the render is gone")  # type: ignore[misc]
            took.append(time.monotonic() - began)
            assert (await read_result(job, order)).outcome is RemoteOutcome.STOPPED
    print(f"hang-up with an order to stop, to no process left: {Distribution.of(took)}")
    # Without the hang-up the mean would be half a second longer.
    assert median(took) < 0.6


@pytest.mark.timed
async def test_a_caller_that_only_hangs_up_is_waited_for_and_then_nobody_pays(local: AgentJobs, tmp_path: Path) -> None:
    async with orphaning(local, tmp_path) as edge:
        job = local.images("--gate", "NOTES/gate", "--gate-at", "5")
        order = job.order()
        began = await begun_and_hung_up(edge, job, order)
        result = await read_result(job, order)

        assert 2 <= time.monotonic() - began < 8
        assert (result.outcome, result.survivors) == (RemoteOutcome.STOPPED, 0)
        assert "nobody came" in result.error
        assert carriers(order) == []
        assert len(job.kept()) == 5


async def test_what_somebody_else_has_joined_goes_on_to_its_end(local: AgentJobs, tmp_path: Path) -> None:
    async with orphaning(local, tmp_path, seconds=1) as edge:
        job = local.texts("--gate", "NOTES/gate")
        order = job.order()
        await begun_and_hung_up(edge, job, order)
        job.calls().join(order.attempt)
        await eventually(lambda: "somebody else waits" in edge.log, "the agent has found that")
        (job.notes / "gate").touch()

        assert (await read_result(job, order)).outcome is RemoteOutcome.PUBLISHED


async def test_a_joined_render_can_be_stopped(local: AgentJobs, tmp_path: Path) -> None:
    async with orphaning(local, tmp_path, seconds=1) as edge:
        job = local.texts("--gate", "NOTES/gate")
        order = job.order()
        await begun_and_hung_up(edge, job, order)
        job.calls().join(order.attempt)
        await eventually(lambda: "somebody else waits" in edge.log, "the agent has found that")
        job.calls().order_stop(order.attempt, "cancelled")

        assert (await read_result(job, order)).outcome is RemoteOutcome.STOPPED

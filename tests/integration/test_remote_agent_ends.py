"""Ends that come from outside: deadlines, instances that go down or are killed, stores that are away."""

import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.farm import eventually
from support.remote.agent_jobs import AgentJobs, carriers, read_result
from support.remote.agents import EDGES, Edge, cloud_run_edge, lambda_edge
from support.s3.server import S3Server
from support.s3.stores import bucket_store
from support.servers.tcp_proxy import Proxy

from activities.remote.protocol import RemoteOutcome
from activities.remote.service import CallLostError
from longtake.stores.directory import DirectoryStore

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def local(tmp_path: Path) -> AgentJobs:
    return AgentJobs(DirectoryStore(tmp_path / "store"), tmp_path / "notes")


@asynccontextmanager
async def short_lived(name: str, local: AgentJobs, folder: Path) -> AsyncIterator[Edge]:
    """Deploy an agent whose calls end after 8 s, of which it keeps 3."""
    environ = {**local.environ, "LONGTAKE_MARGIN_SECONDS": "3"}
    if name == "lambda":
        async with lambda_edge(folder, environ, timeout=8) as edge:
            yield edge
    else:
        async with cloud_run_edge(folder, {**environ, "LONGTAKE_DEADLINE_SECONDS": "8"}) as edge:
            yield edge


@pytest.mark.parametrize("name", EDGES)
async def test_a_chunk_that_is_too_large_is_told_how_small_it_should_be(
    local: AgentJobs, tmp_path: Path, name: str
) -> None:
    async with short_lived(name, local, tmp_path) as edge:
        job = local.images("--gate", "NOTES/gate", "--gate-at", "5")
        result = await edge.render(order := job.order())

        assert (result.outcome, result.fatal, result.survivors) == (RemoteOutcome.OUT_OF_TIME, False, 0)
        told = re.fullmatch(
            r"chunk 0 rendered 5 of 10 frames in (\d) s; this function ends after 8 s: set frames.per_chunk to at most "
            r"(\d); the finished frames are kept",
            result.error,
        )
        assert told, result.error
        assert int(told[2]) <= 5
        assert result.billed_seconds < 8
        assert len(job.kept()) == 5
        assert carriers(order) == []
        (job.notes / "gate").touch()
        assert (await edge.render(job.order())).outcome is RemoteOutcome.PUBLISHED


@pytest.mark.slow
async def test_a_chunk_that_keeps_nothing_and_is_too_large_fails_for_good(local: AgentJobs, tmp_path: Path) -> None:
    async with short_lived("cloud run", local, tmp_path) as edge:
        job = local.texts("--gate", "NOTES/gate", "--ignore-term", "--child")
        result = await edge.render(order := job.order())

        assert (result.outcome, result.fatal, result.survivors) == (RemoteOutcome.OUT_OF_TIME, True, 0)
        assert "longer timeout" in result.error
        assert carriers(order) == []


async def test_an_agent_without_time_to_render_says_so(local: AgentJobs, tmp_path: Path) -> None:
    environ = {**local.environ, "LONGTAKE_MARGIN_SECONDS": "30"}
    async with lambda_edge(tmp_path, environ, timeout=20) as edge:
        job = local.texts()
        result = await edge.render(job.order())

        assert (result.outcome, result.fatal) == (RemoteOutcome.FAILED, True)
        assert "LONGTAKE_MARGIN_SECONDS" in result.error
        assert job.ledger.started == []


async def test_a_worker_may_give_less_time_than_the_platform(local: AgentJobs, tmp_path: Path) -> None:
    async with cloud_run_edge(tmp_path, local.environ) as edge:
        job = local.images("--gate", "NOTES/gate", "--gate-at", "5")

        result = await edge.render(job.order(seconds=3))

        assert (result.outcome, result.fatal) == (RemoteOutcome.OUT_OF_TIME, False)
        assert result.billed_seconds < 5


async def test_an_instance_that_goes_down_stops_its_renders_and_says_so(local: AgentJobs, tmp_path: Path) -> None:
    async with cloud_run_edge(tmp_path, local.environ) as edge:
        assert edge.app is not None
        stubborn, images = local.trees("ignores"), local.images("--gate", "NOTES/gate", "--gate-at", "5")
        orders = (stubborn.order(), images.order())
        calls = [edge.call(order) for order in orders]
        await local.until_tree_stands(stubborn, orders[0])
        await eventually(lambda: bool(images.ledger.lines("waiting")), "five frames are rendered")

        began = time.monotonic()
        edge.app.terminate()
        results = [edge.result(await call) for call in calls]
        code = await edge.app.wait()

        assert time.monotonic() - began < 10
        assert code in (0, -signal.SIGTERM)
        assert {result.outcome for result in results} == {RemoteOutcome.LOST}
        assert "takes this instance down" in results[0].error
        assert len(images.kept()) == 5
        assert [await read_result(stubborn, orders[0]), await read_result(images, orders[1])] == results
        assert not any(carriers(order) for order in orders)


async def test_an_instance_that_is_killed_leaves_no_process(local: AgentJobs, tmp_path: Path) -> None:
    async with cloud_run_edge(tmp_path, local.environ) as edge:
        assert edge.app is not None
        job = local.trees("setsid")
        order = job.order()
        call = edge.call(order)
        await local.until_tree_stands(job, order, 2)

        edge.app.kill()

        await eventually(lambda: not carriers(order), "the tree is gone")
        with pytest.raises(CallLostError):
            await call
        assert job.calls().result(order.attempt) is None


async def test_a_store_that_is_away_for_a_while_costs_no_render(s3_server: S3Server, tmp_path: Path) -> None:
    jobs = AgentJobs(bucket_store(s3_server, tmp_path / "worker-scratch"), tmp_path / "notes")
    async with Proxy(s3_server.url.removeprefix("http://")) as proxy:
        environ = {**s3_server.environment, **jobs.environ, "AWS_ENDPOINT_URL_S3": f"http://{proxy.address}"}
        async with cloud_run_edge(tmp_path, environ) as edge:
            job = jobs.texts("--gate", "NOTES/gate")
            order, calls = job.order(), job.calls()
            call = edge.call(order)
            await job.ledger.until_started(1)
            await proxy.refuse()
            (job.notes / "gate").touch()
            await eventually(lambda: bool(job.ledger.ended), "the render ends while the store is away")
            await eventually(lambda: edge.log.count(f"{order.attempt}.") > 3, "looks and beats of the agent fail")
            assert job.sidecar() is None
            await proxy.heal()

            assert edge.result(await call).outcome is RemoteOutcome.PUBLISHED
            assert calls.result(order.attempt) is not None

"""Orders that an agent carries out, over both edges and in both kinds of store."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio
from agent_edges import Edge, cloud_run_edge, lambda_edge
from agent_jobs import AgentJobs
from minio import Minio
from s3_stores import bucket_store

from longtake.remote import RemoteOutcome
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store

pytestmark = pytest.mark.integration

EDGES: dict[str, Callable[..., AbstractAsyncContextManager[Edge]]] = {
    "cloud run": cloud_run_edge,
    "lambda": lambda_edge,
}


@pytest.fixture(params=["directory", "bucket"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> AgentJobs:
    store: Store = DirectoryStore(tmp_path / "store")
    if request.param == "bucket":
        store = bucket_store(request.getfixturevalue("minio"), tmp_path / "worker-scratch")
    return AgentJobs(store, tmp_path / "notes")


@pytest_asyncio.fixture(params=EDGES)
async def edge(request: pytest.FixtureRequest, jobs: AgentJobs, minio: Minio, tmp_path: Path) -> AsyncIterator[Edge]:
    environ = {**jobs.environ, "LONGTAKE_ORPHAN_SECONDS": "3"}
    async with EDGES[request.param](tmp_path, environ, minio) as edge:
        yield edge


async def test_an_order_is_rendered_checked_and_published_where_the_job_wants_it(jobs: AgentJobs, edge: Edge) -> None:
    job = jobs.texts("--say", "hello")
    order = job.order(2)

    result = await edge.render(order)

    assert (result.outcome, result.error, result.survivors) == (RemoteOutcome.PUBLISHED, "", 0)
    assert result.frames_done == 1
    assert 0 < result.billed_seconds < 60
    assert job.published("out/000002.txt") == b"chunk 2\n"
    sidecar = job.sidecar(2)
    assert sidecar is not None
    assert (sidecar.attempt, sidecar.host) == (order.attempt, f"{edge.name} render")
    assert b"hello" in job.log(order)
    assert job.calls(2).result(order.attempt) == result
    assert job.calls(2).progress(order.attempt) is not None
    assert job.carriers(order) == []

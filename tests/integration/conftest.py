"""A farm for each test: a queue of its own, workers in this process, and a renderer that does as it is told."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.farm import Farm, serving, worker_settings
from support.jobs.stored_jobs import Place
from support.remote.agent_jobs import AgentJobs
from support.remote.agents import EDGES, Edge
from support.remote.scripted_agent import Remote
from support.s3.server import S3Server
from support.s3.stores import bucket_store
from support.temporal_cli import Temporal
from temporalio.client import Client

import devserver
from longtake import RenderClient
from longtake.connection import connect
from longtake.stores.directory import DirectoryStore
from longtake.stores.factory import open_store
from longtake.stores.store import Store
from ports import find_free_port


@pytest_asyncio.fixture
async def client(server: str) -> Client:
    return await connect(address=server)


@pytest_asyncio.fixture
async def farm(client: Client, server: str, store: Path) -> AsyncIterator[Farm]:
    """Workers with four slots that serve this test alone."""
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    settings = worker_settings(task_queue, store, slots=4)
    async with serving(client, settings):
        yield Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)


@pytest.fixture
def bare(client: Client, server: str, store: Path) -> Farm:
    """A farm whose workers the test starts and ends itself."""
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    return Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server_without_push(temporal_program: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Address of a server that leaves cancels to heartbeats, as those before 1.32 do."""
    running = await devserver.start_dev_server(
        temporal_program,
        database=None,
        address=f"127.0.0.1:{find_free_port()}",
        ui_port=None,
        push_cancels=False,
        log=tmp_path_factory.mktemp("without-push") / "temporal.log",
        on_message=lambda line: None,
    )
    yield running.address
    await running.stop()


@pytest_asyncio.fixture
async def bare_without_push(server_without_push: str, store: Path) -> Farm:
    """A farm on that server, whose workers the test starts and ends itself."""
    client, task_queue = await connect(address=server_without_push), f"test-{uuid.uuid4().hex[:12]}"
    return Farm(server_without_push, task_queue, client, RenderClient(client, task_queue=task_queue), store)


@pytest_asyncio.fixture
async def remote(store: Path) -> AsyncIterator[Remote]:
    """A chunk for a service whose agents do as the test tells them."""
    remote = Remote(store)
    yield remote
    await remote.close()


@pytest.fixture
def go() -> asyncio.Event:
    """Lets those agents come to their end."""
    return asyncio.Event()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty place in a bucket, which this process and those that it starts may use."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket()}/shows/one"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where workers of this test work for buckets."""
    return tmp_path / "scratch"


@pytest.fixture
def films(bucket: str, tmp_path: Path) -> Store:
    """The place in the bucket as a store of the test's own."""
    return open_store(bucket, scratch=tmp_path / "look")


@pytest_asyncio.fixture
async def cloud(client: Client, server: str, store: Path, bucket: str, scratch: Path) -> AsyncIterator[Farm]:
    """A farm whose jobs may use the bucket."""
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    settings = worker_settings(task_queue, store, slots=4).model_copy(update={"stores": (bucket,), "scratch": scratch})
    async with serving(client, settings):
        yield Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, store: Path, s3_server: S3Server, tmp_path: Path) -> Place:
    """A store of either kind, with a farm whose jobs may use it."""
    if request.param == "folder":
        return Place(request.getfixturevalue("farm"), str(store), s3_server, tmp_path / "look-here")
    url = request.getfixturevalue("bucket")
    return Place(request.getfixturevalue("cloud"), url, s3_server, tmp_path / "look-here")


@pytest.fixture(scope="module", params=["directory", "bucket"])
def jobs(request: pytest.FixtureRequest, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> AgentJobs:
    """Jobs for render agents, in each kind of store."""
    folder = tmp_path_factory.mktemp("jobs")
    store: Store = DirectoryStore(folder / "store")
    if request.param == "bucket":
        store = bucket_store(s3_server, folder / "worker-scratch")
    return AgentJobs(store, folder / "notes")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=EDGES)
async def edge(
    request: pytest.FixtureRequest, jobs: AgentJobs, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Edge]:
    """An agent that renders them, behind each edge."""
    async with EDGES[request.param](tmp_path_factory.mktemp("edge"), jobs.environ, s3_server) as edge:
        yield edge


@pytest.fixture
def temporal(temporal_program: Path, server: str) -> Temporal:
    return Temporal(temporal_program, server)

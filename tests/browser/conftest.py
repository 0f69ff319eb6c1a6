"""A farm with its page for each test: workers in this process, `longtake web` as a process, one Chromium for all."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from playwright.async_api import Browser, async_playwright, expect
from support.browser.pages import Web, launch, until_address
from support.command_line import Cli
from support.farm import PATIENCE_SECONDS, Farm, serving, worker_settings
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from devserver import cache_dir
from longtake import RenderClient
from longtake.connection import connect
from worker import register_search_attributes

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether their test has failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The Chromium of this system, one for all tests."""
    # As long as other tests wait: a loaded machine takes seconds to start a render.
    expect.set_options(timeout=30_000)
    async with async_playwright() as playwright:
        chromium = await launch(playwright)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def farm(server: str, store: Path) -> AsyncIterator[Farm]:
    """Workers with four slots, in a namespace of this test alone: the page shows all jobs of a namespace."""
    task_queue = f"test-{uuid.uuid4().hex[:12]}"
    client = await connect_to_new_namespace(server, task_queue)
    async with serving(client, worker_settings(task_queue, store, slots=4)):
        yield Farm(server, task_queue, client, RenderClient(client, task_queue=task_queue), store)


async def connect_to_new_namespace(server: str, name: str) -> Client:
    """Make a namespace, and return a client of it when jobs can be started there."""
    anywhere = await connect(address=server)
    kept = Duration(seconds=24 * 3600)
    request = RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=kept)
    await anywhere.workflow_service.register_namespace(request)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                client = await connect(address=server, namespace=name)
                await register_search_attributes(client)
                return client
            except RPCError as error:
                # The server itself learns of it a moment later.
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def web_process(farm: Farm, *arguments: str) -> AsyncIterator[str]:
    """Run `longtake web` for a farm, on a free port, and give its address."""
    cli = Cli(farm)
    process = await cli.start("web", "--port", "0", "--namespace", farm.client.namespace, *arguments)
    address = await until_address(process)
    assert process.stderr is not None
    # What nobody reads would fill the pipe and hold the server up.
    reading = asyncio.ensure_future(process.stderr.read())
    try:
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


@pytest_asyncio.fixture(loop_scope="session")
async def web(request: pytest.FixtureRequest, farm: Farm, browser: Browser) -> AsyncIterator[Web]:
    """The page of the farm; what the console of the browser complains of fails the test."""
    async with web_process(farm) as address:
        made = Web(farm, address, browser, Path(os.environ.get("LONGTAKE_TRACES", cache_dir() / "browser")))
        yield made
        failed = request.node.stash.get(_FAILED, False)
        await made.close(request.node.name, failed=failed or bool(made.complaints))
    assert not made.complaints, "\n".join(made.complaints)

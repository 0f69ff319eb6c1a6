"""A farm with its page for each test: workers in this process, `longtake web` as a process, one Chromium for all."""

import os
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect
from support.browser.pages import Web, launch
from support.browser.web_process import connect_to_new_namespace, web_process
from support.farm import Farm, serving, worker_settings

from devserver import cache_dir
from longtake import RenderClient

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether their test has failed."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session", autouse=True)
def user() -> Iterator[None]:
    """Somebody with a name, for whom tests and pages submit jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGNAME", "anna")
        yield


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


@pytest_asyncio.fixture(loop_scope="session")
async def web(request: pytest.FixtureRequest, farm: Farm, browser: Browser) -> AsyncIterator[Web]:
    """The page of the farm; what the console of the browser complains of fails the test."""
    async with web_process(farm) as address:
        made = Web(farm, address, browser, Path(os.environ.get("LONGTAKE_TRACES", cache_dir() / "browser")))
        yield made
        failed = request.node.stash.get(_FAILED, False)
        await made.close(request.node.name, failed=failed or bool(made.complaints))
    assert not made.complaints, "\n".join(made.complaints)

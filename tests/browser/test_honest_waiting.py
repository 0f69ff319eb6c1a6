"""What does not answer is said, with since when, and what was known last is shown greyed."""

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browser.pages import ANYWHERE, Web, answer_json, check_accessibility, take_picture
from support.browser.web_process import web_process
from support.farm import Farm, until_state
from support.servers.tcp_proxy import Proxy

from longtake import JobState

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_temporal_away_is_told_and_the_list_comes_back(farm: Farm, browser: Browser, tmp_path: Path) -> None:
    await farm.run(farm.job(chunks=1, name="before"))
    async with Proxy(farm.address) as proxy, web_process(replace(farm, address=proxy.address)) as address:
        web = Web(farm, address, browser, tmp_path)
        web.expect_errors(r"/api/v1/")
        page = await web.open("/", routes=ANYWHERE)
        await expect(page.get_by_role("link", name="before")).to_be_visible()

        await proxy.refuse()
        banner = page.get_by_role("status").filter(has_text="Temporal does not answer since")
        await expect(banner).to_be_visible()
        await expect(page.get_by_role("link", name="before")).to_be_visible()
        await expect(page.locator("html")).to_have_class("stale")
        await check_accessibility(page)
        await take_picture(page, "jobs-away")

        await proxy.heal()
        await expect(banner).to_have_count(0)
        later = farm.job(chunks=1, name="after", chunk_output="after/{chunk:06}.txt")
        await farm.run(later)
        await expect(page.get_by_role("link", name="after", exact=True)).to_be_visible()
        await web.close("away", failed=False)


async def test_a_server_that_has_gone_is_told_and_found_again(farm: Farm, browser: Browser, tmp_path: Path) -> None:
    await farm.run(farm.job(chunks=1, name="before"))
    async with web_process(farm) as address:
        web = Web(farm, address, browser, tmp_path)
        page = await web.open("/")
        await expect(page.get_by_role("link", name="before")).to_be_visible()
        web.expect_errors(r".*")
    banner = page.get_by_text("The Longtake server does not answer since")
    await expect(banner).to_be_visible()
    await expect(page.get_by_role("link", name="before")).to_be_visible()

    async with web_process(farm, port=int(address.rpartition(":")[2])):
        await expect(banner).to_have_count(0)
        await web.close("gone", failed=False)


async def test_a_store_that_is_away_is_told_where_its_files_are_missing(web: Web) -> None:
    job = await web.farm.render.submit(web.farm.job(chunks=2, name="silk"), id="silk")
    await until_state(job, JobState.COMPLETED)
    web.expect_errors(r"/chunks$")
    away = {"type": "store-away", "title": "Service Unavailable", "status": 503, "detail": "s3://films does not answer"}
    page = await web.open("/jobs/silk", routes={"**/api/v1/jobs/silk/chunks": answer_json(away, 503)})

    await expect(page.get_by_role("status").filter(has_text="The store does not answer since")).to_be_visible()
    await expect(page.get_by_text("s3://films does not answer").first).to_be_visible()
    await page.context.unroute("**/api/v1/jobs/silk/chunks")
    await page.reload()
    await expect(page.get_by_text("The store does not answer since")).to_have_count(0)

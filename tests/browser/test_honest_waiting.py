"""What does not answer is said, with since when, and what was known last is shown greyed."""

from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browser.pages import ANYWHERE, Web, check_accessibility, take_picture
from support.browser.web_process import web_process
from support.farm import Farm, serving, until, until_state, worker_settings
from support.s3.server import S3Server
from support.servers.tcp_proxy import Proxy

from longtake import JobState, RenderClient

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_temporal_away_is_told_and_the_list_comes_back(farm: Farm, browser: Browser, tmp_path: Path) -> None:
    await until_state(await farm.render.submit(farm.job(chunks=1, name="before"), id="before-1"), JobState.COMPLETED)
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
        # What somebody asks for meanwhile is refused in words, and a page that is opened says why it has nothing.
        job = await web.open("/jobs/before-1")
        await expect(job.get_by_role("heading", name="This job cannot be read now")).to_be_visible()

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


async def test_a_folder_that_is_away_is_told_where_its_files_are_missing_and_all_comes_back(
    web: Web, ffmpeg: str
) -> None:
    farm = web.farm
    picture = (ffmpeg, "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24")
    command = (*picture, "-frames:v", "{count}", "-pix_fmt", "yuv420p", "{output}")
    made = farm.job(chunks=2, name="silk", command=command, chunk_output="silk/{chunk:06}.mp4", fps=24)
    await until_state(await farm.render.submit(made, id="silk"), JobState.COMPLETED)
    web.expect_errors("/api/v1/jobs/silk/")
    known = await web.open("/")
    await expect(known.locator(".thumb img")).to_have_count(1)
    gone = farm.store.rename(farm.store.with_name("gone"))

    page = await web.open("/jobs/silk?frame=1", routes=ANYWHERE)
    banner = page.get_by_role("status").filter(has_text="The store does not answer since")
    await expect(banner).to_contain_text("is not visible on this host")
    frames = page.get_by_role("region", name="Frame map")
    await expect(frames).to_contain_text("which frames are done is not known now")
    await expect(page.locator("section.detail header")).to_contain_text("not known now")
    await expect(page.get_by_role("region", name="Hosts over time")).to_contain_text("Not known now")
    await expect(page.locator(".job-state")).to_contain_text("completed")
    await check_accessibility(page)
    other = await web.open("/")
    await expect(other.locator(".thumb.away")).to_have_count(1)
    await expect(known.locator(".thumb img")).to_have_count(1)

    gone.rename(farm.store)
    await expect(banner).to_have_count(0)
    await expect(page.locator("section.detail header")).to_contain_text("done, proven")
    await expect(page.get_by_role("region", name="Hosts over time")).not_to_contain_text("Not known now")
    await expect(page.locator(".strip-frame")).to_have_count(2)
    await expect(other.locator(".thumb img")).to_have_count(1)


async def test_what_is_said_of_a_store_is_not_said_of_the_next_page(web: Web) -> None:
    farm = web.farm
    await until_state(await farm.render.submit(farm.job(chunks=2, name="silk"), id="silk"), JobState.COMPLETED)
    web.expect_errors("/api/v1/jobs/silk/")
    farm.store.rename(farm.store.with_name("gone"))
    page = await web.open("/jobs/silk")
    await expect(page.locator(".banner")).to_have_count(1)

    await page.get_by_role("link", name="Jobs", exact=True).click()
    await expect(page.get_by_role("link", name="silk")).to_be_visible()
    await expect(page.locator(".banner")).to_have_count(0)


async def test_a_bucket_that_is_away_is_told_and_its_job_can_be_steered_all_the_same(
    farm: Farm, browser: Browser, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"s3://{s3_server.bucket()}/shows"
    queue = f"{farm.task_queue}-cloud"
    settings = worker_settings(queue, farm.store, slots=4)
    settings = settings.model_copy(update={"stores": (bucket,), "scratch": tmp_path / "scratch"})
    cloud = replace(farm, task_queue=queue, render=RenderClient(farm.client, task_queue=queue))
    async with serving(farm.client, settings), Proxy(s3_server.url.removeprefix("http://")) as proxy:
        options = ("--gate", str(farm.gate), "--only", "2")
        made = farm.job(chunks=4, name="silk", options=options, base_dir=None, store=bucket)
        job = await cloud.render.submit(made, id="silk")
        await until(job, lambda status: status.completed_chunks == 3)
        # The page reaches the bucket by another way than the workers.
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{proxy.address}")
        async with web_process(cloud) as address:
            web = Web(cloud, address, browser, tmp_path)
            web.expect_errors("/api/v1/jobs/silk/")
            page = await web.open("/jobs/silk")
            await page.locator(".map-words > summary").first.click()
            await expect(page.locator("#map-words")).to_contain_text("done, proven: frames 0-1, 3")
            await proxy.refuse()
            again = await web.open("/jobs/silk")
            banner = again.get_by_role("status").filter(has_text="The store does not answer since")
            await expect(banner).to_be_visible()
            await expect(again.get_by_role("region", name="Frame map")).to_contain_text("is not known now")
            await again.get_by_role("button", name="Pause").click()
            await again.get_by_role("menuitem", name="Freeze").click()
            await expect(again.locator(".job-state")).to_contain_text("paused, frozen")

            await proxy.heal()
            await expect(banner).to_have_count(0)
            await again.locator(".map-words > summary").first.click()
            await expect(again.locator("#map-words")).to_contain_text("frozen: frames 2")
            await web.close("bucket", failed=False)
        assert not web.complaints
        await job.cancel(wait=True)

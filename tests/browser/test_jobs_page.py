"""The jobs page: what it shows of real jobs, and what it does to them."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect
from support.browser.pages import ANYWHERE, PHONE, Web, check_accessibility, take_picture
from support.browser.web_process import web_process
from support.farm import Farm, until_state

from longtake import JobState
from longtake.web.tokens import Role, TokenFile

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def row_of(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=name, exact=True))


async def test_no_job_yet_shows_how_to_start_one(web: Web) -> None:
    page = await web.open("/", routes=ANYWHERE)

    await expect(page.get_by_role("heading", name="No job yet")).to_be_visible()
    await expect(page.get_by_label("film.yaml", exact=True)).to_contain_text("chunk_output: chunks/{chunk:06}.mp4")
    await check_accessibility(page)
    await take_picture(page, "jobs-none")
    await page.get_by_role("link", name="Try this job").click()
    await expect(page.get_by_role("textbox", name="Job file")).to_have_value(re.compile("^name: first film"))


async def test_a_job_is_frozen_thawed_and_cancelled_from_the_list(web: Web) -> None:
    job = await web.farm.started(chunks=6, running=2, name="silk")
    page = await web.open("/")
    row = row_of(page, "silk")
    await expect(row).to_contain_text("running")

    await row.get_by_role("checkbox").check()
    await page.get_by_role("button", name="Pause").click()
    await check_accessibility(page)
    await page.get_by_role("menuitem", name="Freeze").click()
    await expect(row).to_contain_text("paused, frozen")
    await expect(row).to_contain_text("2 frozen")
    await until_state(job, JobState.PAUSED)

    await page.get_by_role("button", name="Resume").click()
    await expect(row).to_contain_text("running")
    await page.get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Cancel the job").click()
    await expect(row).to_contain_text("cancelled")
    await until_state(job, JobState.CANCELLED)


async def test_a_job_is_paused_resumed_and_opened_by_keys_alone(web: Web) -> None:
    await web.farm.started(chunks=4, running=1, name="older")
    await web.farm.started(chunks=4, running=1, name="younger", chunk_output="younger/{chunk:06}.txt")
    page = await web.open("/")
    await expect(page.get_by_role("row")).to_have_count(3)

    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="younger")).to_be_focused()
    await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="older")).to_be_focused()
    await page.keyboard.press("p")
    await expect(page.get_by_role("menuitem", name="Drain")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(row_of(page, "older")).to_contain_text("paused, frozen")
    await page.keyboard.press("g")
    await expect(row_of(page, "older")).to_contain_text("running")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Go on (resume)")
    await check_accessibility(page)
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type("show:young")
    await expect(page.get_by_role("row")).to_have_count(2)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="younger")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/jobs/job-*")


async def test_several_jobs_are_selected_and_cancelled_at_once(web: Web) -> None:
    jobs = [
        await web.farm.started(chunks=2, running=1, name=name, chunk_output=f"{name}/{{chunk:06}}.txt")
        for name in ("one", "two", "three")
    ]
    page = await web.open("/")
    await expect(page.get_by_role("row")).to_have_count(4)

    await row_of(page, "three").get_by_role("checkbox").check()
    await row_of(page, "one").get_by_role("checkbox").click(modifiers=["Shift"])
    await expect(page.get_by_text("3 selected")).to_be_visible()
    await page.keyboard.press("c")
    dialog = page.get_by_role("dialog", name="Cancel 3 jobs?")
    await expect(dialog.get_by_role("button", name="Let them run")).to_be_focused()
    await dialog.get_by_role("button", name="Cancel 3 jobs").click()
    for job in jobs:
        await until_state(job, JobState.CANCELLED)
    for name in ("one", "two", "three"):
        await expect(row_of(page, name)).to_contain_text("cancelled")


@pytest.mark.parametrize("place", ["list", "page"])
async def test_an_answer_that_comes_after_newer_events_shows_nothing_older(web: Web, place: str) -> None:
    job = await web.farm.started(chunks=2, running=1, name="silk")
    before = (await job.status()).model_dump(mode="json")
    page = await web.open("/" if place == "list" else f"/jobs/{job.id}")
    shown = row_of(page, "silk") if place == "list" else page.locator(".job-state")
    await expect(shown).to_contain_text("running")

    async def answer_late(route: Route) -> None:
        answer = await route.fetch()
        await expect(shown).to_contain_text("cancelled")
        await route.fulfill(response=answer, json={**before, "phase": "cleaning_up"})

    await page.route("**/cancel", answer_late)
    if place == "list":
        await shown.get_by_role("checkbox").check()
    await page.keyboard.press("c")
    await page.get_by_role("button", name="Cancel the job").click()

    await expect(page.get_by_text("Cancelling silk")).to_be_visible()
    await expect(shown).to_contain_text("cancelled")


async def test_failures_stand_first_and_are_tried_again(web: Web) -> None:
    farm = web.farm
    failed = await farm.run(farm.job(chunks=3, name="broken", options=("--exit", "3", "--only", "1")))
    fine = await farm.run(farm.job(chunks=1, name="fine", chunk_output="fine/{chunk:06}.txt"))
    assert (failed.state, fine.state) == (JobState.FAILED, JobState.COMPLETED)
    page = await web.open("/")

    await expect(page.get_by_role("row").nth(1)).to_contain_text("broken")
    await expect(page.get_by_role("row").nth(2)).to_contain_text("fine")
    await page.get_by_role("button", name="Failing 1").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    assert page.url.endswith("?q=state%3Afailing")
    await page.reload()
    await expect(page.get_by_role("row")).to_have_count(2)
    await page.get_by_role("searchbox", name="Filter jobs").fill("state:nonsense")
    await expect(page.get_by_text("state:nonsense is none of")).to_be_visible()
    await page.get_by_role("searchbox", name="Filter jobs").fill("")
    await page.get_by_role("columnheader", name="Job").get_by_role("button").click()
    await expect(page.get_by_role("columnheader", name="Job")).to_have_attribute("aria-sort", "ascending")

    await page.keyboard.press("Escape")
    await row_of(page, "broken").get_by_role("checkbox").check()
    await page.get_by_role("button", name="Retry").click()
    await expect(page.get_by_text("Trying again broken")).to_be_visible()


async def test_names_are_text_whatever_they_hold(web: Web) -> None:
    name = '<img src=x onerror="document.title=1"> & "quotes"'
    await web.farm.run(web.farm.job(chunks=1, name=name))
    page = await web.open("/")

    await expect(page.get_by_role("link", name=name)).to_be_visible()
    assert await page.title() == "Jobs · Longtake"


async def test_one_finds_ones_own_jobs_from_whichever_host(web: Web) -> None:
    farm = web.farm
    page = await web.open("/")
    await farm.render.submit(farm.job(chunks=1, name="hers", options=("--exit", "3")), by="Anna@ws-12")
    await expect(page.get_by_role("link", name="hers")).to_be_visible()
    await expect(page.get_by_role("button", name="Mine")).to_be_hidden()
    await expect(page.get_by_role("columnheader", name="Submitted by")).to_be_hidden()
    await farm.render.submit(farm.job(chunks=1, name="his", chunk_output="b/{chunk:06}.txt"), by="ben@ws-07")

    await expect(row_of(page, "his")).to_contain_text("ben@ws-07")
    await expect(row_of(page, "hers")).to_contain_text("Anna@ws-12")
    await check_accessibility(page)
    await page.get_by_role("columnheader", name="Submitted by").get_by_role("button").click()
    await expect(page.get_by_role("row").nth(1)).to_contain_text("hers")
    await page.get_by_role("button", name="Mine 1").click()
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(row_of(page, "hers")).to_contain_text("failed")
    await page.get_by_role("button", name="Failing 1").click()
    await expect(page.get_by_role("searchbox")).to_have_value("state:failing by:me")
    await page.get_by_role("button", name="Failing 1").click()
    await page.get_by_role("button", name="Running 0").click()
    await expect(page.get_by_role("heading", name="No such job of yours")).to_be_visible()
    await check_accessibility(page)
    await page.get_by_role("button", name="Show all jobs").click()
    await page.get_by_role("searchbox").fill("by:ben")
    await expect(page.get_by_role("row")).to_have_count(2)
    await row_of(page, "his").get_by_role("link").click()
    await expect(page.get_by_role("region", name="Job", exact=True)).to_contain_text("submitted by ben@ws-07")
    phone = await web.open("/?q=by%3Ame", size=PHONE)
    await expect(phone.get_by_role("link", name="hers")).to_be_visible()
    await check_accessibility(phone)


async def test_what_a_token_has_submitted_is_that_of_its_name(farm: Farm, browser: Browser, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens")
    token = tokens.add("ben", Role.SUBMIT)
    await farm.render.submit(farm.job(chunks=1, name="hers"), by="anna@ws-12")
    await farm.render.submit(farm.job(chunks=1, name="his", chunk_output="b/{chunk:06}.txt"), by="ben@ws-07")
    async with web_process(farm, "--token-file", str(tokens.path)) as address:
        web = Web(farm, address, browser, tmp_path)
        page = await web.open("/login")
        await page.get_by_label("Token").fill(token)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Mine 1").click()
        await expect(page.get_by_role("link", name="his")).to_be_visible()
        await expect(page.get_by_role("row")).to_have_count(2)
        await web.close("own", failed=False)
    assert not web.complaints

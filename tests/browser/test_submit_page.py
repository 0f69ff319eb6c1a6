"""The submit page: a job file that is dropped, planned, mended, started, and watched to its end."""

import re

import pytest
from playwright.async_api import Page, expect
from support.browser.pages import ANYWHERE, PHONE, Web, check_accessibility, drop_file, take_picture
from support.farm import until_state

from longtake import JobState

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

FILM = """\
name: test picture
frames: {first: 0, count: 96, per_chunk: 12}
fps: 24
command: >-
  ffmpeg -nostdin -v error -f lavfi
  -i testsrc2=size=320x180:rate=24,trim=start_frame={start},setpts=PTS-STARTPTS
  -frames:v {count} -c:v libx264 -pix_fmt yuv420p {output}
chunk_output: chunks/{chunk:06}.mp4
output: film.mp4
max_parallel: 2
"""

WRONG = """\
name: test picture
frames:
  first: 0
  count: 96
  per_chunk: 0
command: [ffmpeg, "{output}"]
chunk_output: chunks/{chunk:06}.mp4
fps: 24
"""


async def open_with(web: Web, text: str, **options: object) -> Page:
    """Open the page with the store of the farm as its folder, and fill in a job file."""
    page = await web.open(f"/submit?folder={web.farm.store}", routes=ANYWHERE, **options)  # type: ignore[arg-type]
    await page.get_by_role("textbox", name="Job file").fill(text)
    return page


async def test_a_dropped_job_file_is_planned_started_and_watched_to_its_end(web: Web) -> None:
    page = await web.open(f"/submit?folder={web.farm.store}")

    await drop_file(page, "main", "film.yaml", FILM)
    plan = page.get_by_role("region", name="Plan")
    await expect(plan).to_contain_text("96 at 24 a second")
    await expect(plan).to_contain_text("8, at most 2 at once")
    await expect(plan.get_by_label("first command", exact=True)).to_contain_text("ffmpeg -nostdin -v error")
    await page.get_by_label("Id", exact=True).fill("test-picture-1")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/jobs/test-picture-1")

    await page.get_by_role("link", name="Jobs", exact=True).click()
    row = page.get_by_role("row", name="test picture")
    await expect(row).to_contain_text("completed")
    await expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    assert (web.farm.store / "film.mp4").stat().st_size > 0


async def test_errors_stand_beside_their_lines_and_go_when_they_are_mended(web: Web) -> None:
    page = await open_with(web, WRONG)

    problem = page.get_by_role("listitem").filter(has_text="frames.per_chunk")
    await expect(problem).to_be_visible()
    await expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    await problem.get_by_role("button", name="Line 5").click()
    selected = "(at) => at.value.slice(at.selectionStart, at.selectionEnd)"
    assert await page.get_by_role("textbox", name="Job file").evaluate(selected) == "  per_chunk: 0"
    await page.get_by_label("Folder").fill("/films/sq140")
    await expect(page.get_by_text("looking …")).to_have_count(0)
    await take_picture(page, "submit-errors")
    await page.get_by_label("Folder").fill(str(web.farm.store))
    await problem.get_by_role("button", name="Line 5").click()
    await check_accessibility(page)

    await page.keyboard.type("  per_chunk: 12")
    await expect(problem).to_have_count(0)
    await expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()


async def test_a_missing_folder_is_asked_for_where_it_is_typed(web: Web) -> None:
    page = await web.open("/submit?example=1")

    await page.get_by_role("button", name="Name the folder").click()
    await page.keyboard.type(str(web.farm.store))
    await expect(page.get_by_role("region", name="Plan")).to_contain_text("first-film.mp4")


async def test_an_id_that_is_there_already_is_explained(web: Web) -> None:
    job = await web.farm.render.submit(web.farm.job(chunks=1), id="taken")
    await until_state(job, JobState.COMPLETED)
    page = await open_with(web, FILM)

    await page.get_by_label("Id", exact=True).fill("taken")
    await expect(page.get_by_role("link", name="A job of this id is there")).to_be_visible()
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_text("Another job has this id.")).to_be_visible()
    await page.get_by_role("link", name="Open that job").click()
    await page.wait_for_url("**/jobs/taken")


async def test_the_same_job_under_the_same_id_is_started_once(web: Web) -> None:
    page = await open_with(web, FILM)
    await page.get_by_label("Id", exact=True).fill("once")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url("**/jobs/once")

    await page.get_by_role("link", name="Submit", exact=True).click()
    await page.get_by_role("textbox", name="Job file").fill(FILM)
    await page.get_by_label("Id", exact=True).fill("once")
    await page.get_by_role("button", name="Start", exact=True).click()
    await expect(page.get_by_text("nothing was started twice", exact=False).last).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_page_is_accessible_on_a_phone_and_a_desk(web: Web, theme: str) -> None:
    for size in (PHONE, (1400, 900)):
        page = await open_with(web, FILM, theme=theme, size=size)
        await expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
        await check_accessibility(page)
        # Without folders of a test, for the documents.
        await page.get_by_label("Folder").fill("")
        await page.get_by_role("textbox", name="Job file").fill(FILM + "store: s3://films/sq140\n")
        await expect(page.get_by_role("region", name="Plan")).to_contain_text("s3://films/sq140/film.mp4")
        await take_picture(page, f"submit-{theme}{'-phone' if size == PHONE else ''}")


async def test_a_draft_is_kept_until_it_is_started(web: Web) -> None:
    page = await open_with(web, FILM)
    await expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()

    await page.reload()
    await expect(page.get_by_role("textbox", name="Job file")).to_have_value(re.compile("^name: test picture"))

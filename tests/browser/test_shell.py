"""The frame of all pages: addresses, themes, motion, and what is not there."""

import re
from pathlib import Path

import pytest
from playwright.async_api import expect
from support.browser.pages import PHONE, Web, check_accessibility

DOCUMENT = Path(__file__).parents[2] / "docs" / "web-page.md"

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_the_theme_is_that_of_the_system_until_one_is_chosen(web: Web) -> None:
    page = await web.open("/farm", theme="light")
    root = page.locator("html")
    await expect(root).to_have_attribute("data-theme", "light")
    await page.emulate_media(color_scheme="dark")
    await expect(root).to_have_attribute("data-theme", "dark")

    await page.get_by_role("button", name="Light theme").click()
    await expect(root).to_have_attribute("data-theme", "light")
    await page.reload()
    await expect(root).to_have_attribute("data-theme", "light")
    await page.keyboard.press("t")
    await expect(root).to_have_attribute("data-theme", "dark")


async def test_pages_are_walked_by_links_keys_and_the_back_button(web: Web) -> None:
    page = await web.open("/")
    await page.get_by_role("navigation", name="Pages").get_by_role("link", name="Farm").click()
    await expect(page).to_have_title("Farm · Longtake")
    await page.keyboard.press("3")
    await expect(page).to_have_title("Submit a job · Longtake")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Farm", level=1)).to_be_visible()
    await page.go_back()
    await expect(page).to_have_title("Jobs · Longtake")
    await expect(page.get_by_role("link", name="Jobs", exact=True)).to_have_attribute("aria-current", "page")


async def test_the_document_names_the_keys_of_the_jobs_page(web: Web) -> None:
    text = DOCUMENT.read_text().partition("## Keys")[2].partition("## ")[0]
    told = {key for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for key in re.findall(r"`(.+?)`", row)}
    page = await web.open("/")
    await page.keyboard.press("?")

    shown = set(await page.get_by_role("dialog", name="Keys").locator("kbd").all_inner_texts())
    # Arrows do what j and k do.
    assert told == shown - {"↓", "↑"}


async def test_a_page_that_is_not_there_says_so(web: Web) -> None:
    page = await web.open("/nowhere", wait=False)

    await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    await check_accessibility(page)
    await page.get_by_role("link", name="All jobs").click()
    await expect(page).to_have_title("Jobs · Longtake")


async def test_nothing_moves_where_motion_is_not_wanted(web: Web) -> None:
    page = await web.open("/", reduced_motion="reduce")

    moving = (
        "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).transitionDuration !== '0s').length"
    )
    assert await page.evaluate(moving) == 0


async def test_pages_stand_below_the_thumb_on_a_phone(web: Web) -> None:
    page = await web.open("/", size=PHONE)

    box = await page.get_by_role("navigation", name="Pages").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] == PHONE[1]
    for link in await page.get_by_role("navigation", name="Pages").get_by_role("link").all():
        size = await link.bounding_box()
        assert size is not None
        assert min(size["width"], size["height"]) >= 44, "as large as a finger"

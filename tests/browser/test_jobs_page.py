"""The jobs page: what it shows of real jobs, and what it does to them."""

import re

import pytest
from playwright.async_api import expect
from support.browser.pages import Web

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_no_job_yet_shows_how_to_start_one(web: Web) -> None:
    page = await web.open("/")

    await expect(page.get_by_role("heading", name="No job yet")).to_be_visible()
    await expect(page.get_by_label("film.yaml", exact=True)).to_contain_text("chunk_output: chunks/{chunk:06}.mp4")
    await page.get_by_role("link", name="Try this job").click()
    await expect(page.get_by_role("textbox", name="Job file")).to_have_value(re.compile("^name: first film"))

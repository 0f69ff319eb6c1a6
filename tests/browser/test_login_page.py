"""Who may: a server with tokens asks for one, and shows nobody what they may not do."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browser.pages import Web, check_accessibility, take_picture
from support.browser.web_process import web_process
from support.farm import Farm

from longtake.web.tokens import Role, TokenFile

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_token_lets_one_in_to_look_and_not_to_steer(farm: Farm, browser: Browser, tmp_path: Path) -> None:
    await farm.run(farm.job(chunks=1, name="silk"))
    tokens = TokenFile(tmp_path / "tokens")
    token = tokens.add("ann", Role.LOOK)
    async with web_process(farm, "--token-file", str(tokens.path)) as address:
        web = Web(farm, address, browser, tmp_path)
        page = await web.open("/?q=silk")
        await page.wait_for_url("**/login?next=*")
        await check_accessibility(page)
        await take_picture(page, "login")

        await page.get_by_label("Token").fill("guessed")
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_text("this is no token of this server")).to_be_visible()
        await page.get_by_label("Token").fill(token)
        await page.keyboard.press("Enter")

        await page.wait_for_url("**/?q=silk")
        await expect(page.get_by_role("link", name="silk")).to_be_visible()
        assert await page.get_by_role("checkbox").count() == 0, "who may look selects nothing to steer"
        await page.get_by_role("button", name="Log out").click()
        await page.wait_for_url("**/login")
        await web.close("login", failed=False)
    assert not web.complaints

"""The farm page: hosts with what they render, and queues with what waits in them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import expect
from support.browser.pages import ANYWHERE, PHONE, Web, answer_json, check_accessibility, take_picture

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def made_up_farm() -> dict[str, Any]:
    """Return a farm as the API tells it: busy, idle, frozen, silent and large hosts, and a queue without a worker."""
    now = datetime.now(UTC)
    hosts = []
    for number in range(1, 8):
        frozen, silent = number == 3, number == 4
        running = [
            {
                "job": "sq140-sh030-lighting-v012" if chunk % 2 else "sq001-sh999-v0001",
                "name": "sq140_sh030 lighting v012" if chunk % 2 else "sq001_sh999_a_very_long_name_of_somebody",
                "chunk": number * 40 + chunk,
                "frames": 10,
                "frames_done": (3 * chunk) % 10,
                "frozen": frozen,
                "memory_bytes": (chunk + 1) * 700_000_000,
                "message": "Path tracing sample 96/256",
            }
            for chunk in range(0 if number == 2 else 3 * number % 7)
        ]
        heard = now - timedelta(seconds=700 if silent else 3)
        hosts.append(
            {
                "name": f"rdr-{number:02}",
                "slots": 128 if number == 5 else 8,
                "last_heard": heard.isoformat(),
                "is_silent": silent,
                "queues": ["longtake"],
                "running": running,
            }
        )
    queues = [
        {"name": "longtake", "backlog": 12, "oldest_wait_seconds": 260, "pollers": 9},
        {"name": "longtake-blender", "backlog": 3, "oldest_wait_seconds": 4000, "pollers": 0},
    ]
    return {"hosts": hosts, "queues": queues}


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_hosts_and_queues_are_told_with_what_is_wrong_first(web: Web, theme: Any) -> None:
    for size in ((1400, 900), PHONE):
        page = await web.open(
            "/farm", theme=theme, size=size, routes={**ANYWHERE, "**/api/v1/farm": answer_json(made_up_farm())}
        )

        hosts = page.get_by_role("article")
        await expect(hosts.first).to_contain_text("rdr-04")
        await expect(hosts.first).to_contain_text("not heard of")
        await expect(page.get_by_role("article", name="Host rdr-03")).to_contain_text("frozen")
        await expect(page.get_by_role("row", name="longtake-blender")).to_contain_text("none: nothing takes from it")
        await check_accessibility(page)
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        await take_picture(page, f"farm-{theme}{'-phone' if size == PHONE else ''}")

    await page.keyboard.press("/")
    await page.keyboard.type("rdr-06")
    await expect(hosts).to_have_count(1)


async def test_a_farm_without_workers_says_how_to_start_one(web: Web) -> None:
    page = await web.open("/farm", routes={"**/api/v1/farm": answer_json({"hosts": [], "queues": []})})

    await expect(page.get_by_role("heading", name="No worker is heard of")).to_be_visible()
    await check_accessibility(page)


async def test_a_real_host_shows_what_it_renders(web: Web) -> None:
    job = await web.farm.started(chunks=4, running=2, name="silk")
    page = await web.open("/farm")

    host = page.get_by_role("article")
    await expect(host).to_have_count(1)
    await expect(host.get_by_role("listitem")).to_have_count(2)
    # A worker tells Temporal of its slots once in a minute.
    await expect(host).to_contain_text(re.compile("2 running|2 of 4 slots"))
    await host.get_by_role("link").first.click()
    await page.wait_for_url(f"**/jobs/{job.id}?chunk=*")

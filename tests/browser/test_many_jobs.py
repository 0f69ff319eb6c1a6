"""A list of thousands of jobs: as quick to scroll, to sort and to filter as one of a screenful."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.async_api import Page, Route, expect
from support.browser.pages import ANYWHERE, PHONE, Web, check_accessibility, take_picture

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

COUNT = 5000
STATES = ["completed"] * 8 + ["running", "running", "failed", "paused", "cancelled", "pending"]


def made_up_jobs(count: int) -> list[dict[str, Any]]:
    """Return statuses as the API sends them; five thousand real jobs would take an hour."""
    dice = random.Random(7)
    now = datetime.now(UTC)
    jobs: list[dict[str, Any]] = []
    for number in range(count):
        state = dice.choice(STATES)
        chunks = dice.choice([12, 100, 1800, 20_000])
        done = 100.0 if state == "completed" else 0.0 if state == "pending" else round(dice.uniform(1, 98), 1)
        running = dice.randint(1, 40) if state == "running" else 0
        jobs.append(
            {
                "id": f"job-{number:05}",
                "name": f"sq{dice.randint(1, 40) * 10:03}_sh{dice.randint(1, 90) * 10:03} "
                f"{dice.choice(['lighting', 'comp', 'fx smoke', 'anim', 'lookdev'])} v{dice.randint(1, 40):03}",
                "state": state,
                "phase": "ended" if state in ("completed", "failed", "cancelled") else "rendering",
                "progress": done,
                "total_chunks": chunks,
                "completed_chunks": 0,
                "failed_chunks": dice.randint(1, 9) if state == "failed" else 0,
                "running_chunks": running,
                "frozen_chunks": 8 if state == "paused" else 0,
                "total_frames": chunks,
                "completed_frames": int(chunks * done / 100),
                "eta_seconds": dice.randint(10, 90_000) if running else None,
                "error": "chunk 12 failed 3 times: out of memory" if state == "failed" else None,
                "waiting_for": None,
                "created_at": (now - timedelta(minutes=dice.randint(1, 9000))).isoformat(),
                "updated_at": now.isoformat(),
                "metrics": {"chunk_seconds": 95.0},
                "base_dir": "s3://films/sq140",
                "running": [],
            }
        )
    return jobs


async def open_list(web: Web, count: int = COUNT, **options: Any) -> Page:
    jobs = made_up_jobs(count)

    async def answer(route: Route) -> None:
        query = parse_qs(urlparse(route.request.url).query)
        first, limit = int(query.get("after", ["0"])[0]), int(query["limit"][0])
        following = str(first + limit) if first + limit < count else None
        content: dict[str, Any] = {"jobs": jobs[first : first + limit], "next": following, "counts": {}}
        await route.fulfill(content_type="application/json", body=json.dumps(content))

    page = await web.open("/", routes={**ANYWHERE, "**/api/v1/jobs?*": answer}, **options)
    await expect(page.get_by_role("button", name=f"All {count:,}")).to_be_visible()
    return page


@pytest.mark.timed
async def test_five_thousand_jobs_scroll_as_smoothly_as_fifty(web: Web) -> None:
    """What the script and the layout take of a frame, while half a screen of rows comes new into sight."""
    scroll = """async () => {
        const times = [];
        scrollTo(0, 0);
        for (let frame = 0; frame < 90; frame++) {
            scrollBy(0, frame % 6 < 3 ? 400 : -400);
            dispatchEvent(new Event("scroll"));
            // Asked for after the list has asked for its turn, so that it comes after it in the same frame.
            times.push(await new Promise((resolve) => requestAnimationFrame((begin) => {
                document.body.getBoundingClientRect();
                resolve(performance.now() - begin);
            })));
        }
        return times.sort((one, other) => one - other)[45];
    }"""
    few, many = await open_list(web, 50), await open_list(web)
    pairs = [(await few.evaluate(scroll), await many.evaluate(scroll)) for _ in range(4)]
    short, long = (min(times) for times in zip(*pairs, strict=True))

    print(f"median work of a frame: {short:.1f} ms with 50 jobs, {long:.1f} ms with {COUNT:,}")
    assert await many.get_by_role("row").count() < 80, "rows out of sight are no elements"
    # All rows as elements would take a hundred times as long; other processes of the host make one twice as slow.
    assert long < max(3 * short, 8)


async def test_the_last_of_five_thousand_is_reached_filtered_and_sorted(web: Web) -> None:
    page = await open_list(web)
    await expect(page.get_by_role("table", name="Jobs")).to_have_attribute("aria-rowcount", f"{COUNT + 1}")

    await page.keyboard.press("End")
    await expect(page.locator(f'tr[aria-rowindex="{COUNT + 1}"]')).to_be_visible()
    await page.get_by_role("searchbox", name="Filter jobs").fill("id:job-04711")
    await expect(page.get_by_role("row")).to_have_count(2)
    await page.get_by_role("searchbox", name="Filter jobs").fill("state:running")
    await page.get_by_role("columnheader", name="To go").get_by_role("button").click()
    times = await page.locator("td.c-eta").all_inner_texts()
    assert all(any(sign.isdigit() for sign in time) for time in times), "those that will be ready soonest stand first"
    await page.keyboard.press("a")
    await expect(page.get_by_text("selected", exact=False).first).to_be_visible()
    await take_picture(page, "jobs-many")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_a_full_list_is_accessible_on_a_desk_and_a_phone(web: Web, theme: Any) -> None:
    for size in ((1400, 900), PHONE):
        page = await open_list(web, 200, theme=theme, size=size)
        await page.get_by_role("checkbox").nth(3).check()
        await check_accessibility(page)
        overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, "nothing is cut off at the side"


async def test_the_list_can_be_used_at_200_per_cent(web: Web) -> None:
    """WCAG 1.4.10: a window of 1280 pixels at 200 % is one of 640, and at 400 % one of 320."""
    for width in (640, 320):
        page = await open_list(web, 200, size=(width, 512))
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        await page.keyboard.press("j")
        await page.keyboard.press("x")
        await expect(page.get_by_role("button", name="Cancel")).to_be_in_viewport()

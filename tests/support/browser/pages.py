"""A page in Chromium, as a test opens it: it fails on what the console says, and keeps a trace of what it did."""

import functools
import json
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, FloatRect, Page, Playwright
from support.farm import Farm

from tools.find_chromium import HOW, find_chromium

Theme = Literal["light", "dark"]

# Where pictures for the documents go: `LONGTAKE_PICTURES=docs/images make test-browser`.
PICTURES = os.environ.get("LONGTAKE_PICTURES")

WIDE = (1400, 900)
PHONE = (390, 844)

# Root has no sandbox inside containers, and a browser of tests calls nobody.
_OPTIONS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--font-render-hinting=none",
)  # fmt: skip


async def launch(playwright: Playwright) -> Browser:
    """Start the Chromium of this system; a system without one fails the test with what to do."""
    path = find_chromium()
    assert path is not None, HOW
    options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return await playwright.chromium.launch(executable_path=path, args=options)


@functools.cache
def axe_source() -> str:
    """Return the script of axe-core, which a package carries."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")


@dataclass
class Web:
    """A farm with its page: `longtake web` as a process, and a browser."""

    farm: Farm
    address: str
    browser: Browser
    artifacts: Path
    contexts: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    # Addresses whose answers may be errors; the browser itself says so on the console.
    expected: list[re.Pattern[str]] = field(default_factory=list)

    async def open(
        self,
        path: str = "/",
        *,
        theme: Theme = "dark",
        size: tuple[int, int] = WIDE,
        routes: dict[str, Callable[..., Any]] | None = None,
        wait: bool = True,
        **options: Any,
    ) -> Page:
        """Return a page of a browser of its own, with no storage, at an address.

        Args:
            path: The address.
            theme: What the system is set to.
            size: Width and height of the window.
            routes: What is answered by the test, by address, in place of the server.
            wait: Return when the page has put itself together, and not before.
            options: Other options of the context, as of Playwright: `reduced_motion`, `has_touch`.
        """
        context = await self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,
            base_url=self.address,
            locale="en-GB",
            **options,
        )
        self.contexts.append(context)
        await context.tracing.start(screenshots=True, snapshots=True)
        # A test that waits longer fails with what it waited for, before the limit of the suite ends it.
        context.set_default_timeout(60_000)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self._note)
        for pattern, answer in (routes or {}).items():
            await context.route(pattern, answer)
        await page.goto(path)
        if wait:
            await page.locator(".page[data-ready]").wait_for(state="attached")
        return page

    def expect_errors(self, *patterns: str) -> None:
        """Let answers of these addresses be errors, which Chromium writes to the console."""
        self.expected.extend(map(re.compile, patterns))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        url = message.location.get("url", "")
        # The API says by them what is wrong with a job file, or that there is no picture yet: the page shows it.
        is_answer = "/api/" in url and "responded with a status of 4" in message.text
        if not is_answer and not any(pattern.search(url) for pattern in self.expected):
            self.complaints.append(f"{message.type}: {message.text} ({url})")

    async def close(self, name: str, *, failed: bool) -> None:
        """Close all pages; where the test has failed, keep pictures and traces (`playwright show-trace FILE`)."""
        for number, context in enumerate(self.contexts):
            if failed:
                self.artifacts.mkdir(parents=True, exist_ok=True)
                stem = self.artifacts / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())[:80]}-{number}"
                for page in context.pages:
                    await page.screenshot(path=stem.with_suffix(".png"))
                await context.tracing.stop(path=stem.with_suffix(".zip"))
            await context.close()


async def check_accessibility(page: Page, *, without: tuple[str, ...] = ()) -> None:
    """Let axe-core look at a page, by all rules of WCAG 2.2 to AA and by its best practices.

    Args:
        page: The page.
        without: Rules that are left out, each with a reason at the call.
    """
    await settle(page)
    await page.evaluate(axe_source())
    rules = {rule: {"enabled": False} for rule in without}
    found = await page.evaluate("rules => axe.run(document, {rules, resultTypes: ['violations']})", rules)
    told = [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]}\n    {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"][:5]
    ]
    assert not told, "\n".join([f"axe-core finds {len(told)} at {page.url}", *told])


async def settle(page: Page) -> None:
    """Wait until nothing glides any more and all fonts and pictures in sight are there."""
    await page.evaluate(
        """async () => {
            await document.fonts.ready;
            await Promise.allSettled(document.getAnimations().map((one) => one.finished));
            await Promise.allSettled([...document.images].map((image) => image.decode()));
            await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        }"""
    )


async def take_picture(page: Page, name: str, *, full: bool = False) -> None:
    """Keep a picture of a page for the documents, where LONGTAKE_PICTURES names a folder."""
    if PICTURES is None:
        return
    await settle(page)
    await page.mouse.move(0, 0)
    path = Path(PICTURES) / f"web-{name}.png"
    if full:
        await page.screenshot(path=path, full_page=True)
        return
    size = page.viewport_size
    assert size is not None
    # Below what there is a picture is empty.
    used = await page.evaluate("""Math.max(360, 24 + Math.max(...[...document.querySelectorAll(".page > *, .menu")]
        .map((one) => one.getBoundingClientRect().bottom)))""")
    height = min(size["height"], round(used))
    clip: FloatRect = {"x": 0, "y": 0, "width": size["width"], "height": height}
    await page.screenshot(path=path, clip=clip)


async def drop_file(page: Page, selector: str, name: str, content: str) -> None:
    """Drop a file on an element, as from a folder of the desktop."""
    transfer = await page.evaluate_handle(
        """([name, content]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([content], name));
            return transfer;
        }""",
        [name, content],
    )
    for event in ("dragenter", "dragover", "drop"):
        await page.dispatch_event(selector, event, {"dataTransfer": transfer})


def answer_json(body: Any, status: int = 200) -> Callable[..., Awaitable[None]]:
    """Return an answer for `routes`: JSON, or problem details where the status is an error."""

    async def answer(route: Any) -> None:
        kind = "application/json" if status < 400 else "application/problem+json"
        await route.fulfill(status=status, content_type=kind, body=json.dumps(body))

    return answer


# In place of the ports and names of a test, which are others in each run: for pictures.
ANYWHERE = {
    "**/api/v1/me": answer_json(
        {
            "role": "submit",
            "name": "",
            "by": "anna@ws-12",
            "can": ["look", "steer", "submit"],
            "temporal": {"address": "temporal:7233", "namespace": "default", "ui": None},
            "version": "0.1.0",
            "login": False,
        }
    )
}

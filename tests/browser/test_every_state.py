"""Jobs in every state, rendered by a real ffmpeg: each is told by its pill, and they make the pictures of the docs."""

from typing import Any

import pytest
from playwright.async_api import expect
from support.browser.pages import ANYWHERE, PHONE, Web, take_picture
from support.farm import until, until_state

from longtake import FrameRange, JobHandle, JobState, Retry
from longtake.models.policies import FailurePolicy
from longtake.models.status import PauseMode

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


class Studio:
    """Starts jobs that have the names of shots."""

    def __init__(self, web: Web) -> None:
        self._farm = web.farm

    async def start(
        self, name: str, source: str, *, chunks: int, paced: bool = False, by: str = "anna@ws-12", **fields: Any
    ) -> JobHandle:
        """Start a job of a second of film a chunk.

        Args:
            name: Its name; a folder and its id are made of it.
            source: What ffmpeg draws: a source of its `lavfi`.
            chunks: How many chunks.
            paced: A chunk takes a second to render.
            by: Who submits it.
            fields: Other fields of the job.
        """
        folder = name.replace(" ", "-").replace("_", "-")
        pace = ("-re",) if paced else ()
        command = ("ffmpeg", "-nostdin", "-v", "error", *pace, "-f", "lavfi", "-i", source)
        job = self._farm.job(
            name=name,
            frames=FrameRange(count=24 * chunks, per_chunk=24),
            fps=24,
            command=(*command, "-frames:v", "{count}", "-c:v", "libx264", "-pix_fmt", "yuv420p", "{output}"),
            chunk_output=folder + "/{chunk:06}.mp4",
            **fields,
        )
        return await self._farm.render.submit(job, id=folder, by=by)


def gradients(seed: int) -> str:
    return f"gradients=size=320x180:rate=24:seed={seed}:speed=0.02:nb_colors=4"


# One of the chunks asks for a colour that there is not.
BROKEN = "color=c=0x{chunk}0{chunk}0{chunk}0:size=320x180:rate=24"


async def test_every_state_is_told_by_words_and_a_shape(web: Web) -> None:
    studio = Studio(web)
    once = Retry(attempts=1)
    done = await studio.start("title cards", gradients(3), chunks=3)
    dailies = await studio.start("sq110 anim dailies", gradients(11), chunks=6, by="ben@ws-07")
    cancelled = await studio.start(
        "sq200_sh010 crowd v002", gradients(5), chunks=40, paced=True, max_parallel=1, by="chloe@ws-03"
    )
    failed = await studio.start("sq090_sh010 lookdev", BROKEN, chunks=14, max_parallel=2, retry=once)
    await until_state(done, JobState.COMPLETED)
    await until_state(dailies, JobState.COMPLETED)
    await until(cancelled, lambda status: status.completed_chunks > 0)
    await cancelled.cancel()
    await until_state(cancelled, JobState.CANCELLED)
    await until_state(failed, JobState.FAILED)
    hold = FailurePolicy.HOLD
    held = await studio.start("sq140_sh010 fx smoke v007", BROKEN, chunks=12, retry=once, on_chunk_failure=hold)
    await until(held, lambda status: status.phase == "holding")
    frozen = await studio.start(
        "sq140_sh020 comp v031", gradients(8), chunks=12, paced=True, max_parallel=1, by="ben@ws-07"
    )
    await until(frozen, lambda status: status.completed_chunks > 3)
    await frozen.pause(mode=PauseMode.FREEZE)
    await until_state(frozen, JobState.PAUSED)
    await studio.start("turntable hero", gradients(2), chunks=24, start_paused=True)
    long = await studio.start("sq140_sh030 lighting v012", gradients(21), chunks=600, paced=True, max_parallel=2)
    await until(long, lambda status: status.completed_chunks > 24)

    page = await web.open("/", routes=ANYWHERE)
    for name, look, words in (
        ("sq140_sh010 fx smoke v007", "holding", "holding"),
        ("sq090_sh010 lookdev", "failed", "failed"),
        ("sq140_sh030 lighting v012", "running", "running"),
        ("sq140_sh020 comp v031", "paused", "paused, frozen"),
        ("turntable hero", "paused", "paused"),
        ("title cards", "completed", "completed"),
        ("sq200_sh010 crowd v002", "cancelled", "cancelled"),
    ):
        row = page.get_by_role("row").filter(has_text=name)
        await expect(row.locator(f'.pill[data-look="{look}"]')).to_have_text(words)
    await expect(page.get_by_role("button", name="Mine 5")).to_be_visible()
    rows = await page.get_by_role("row").all_inner_texts()
    assert "sq140_sh010" in rows[1], "what waits for somebody stands first"
    assert "sq090_sh010" in rows[2]
    await expect(page.locator(".thumb img")).to_have_count(7)
    await take_picture(page, "jobs-dark")

    light = await web.open("/", theme="light", routes=ANYWHERE)
    await light.get_by_role("checkbox", name="Select sq140_sh030 lighting v012").check()
    await light.get_by_role("button", name="Pause").click()
    await expect(light.locator(".thumb img")).to_have_count(7)
    await take_picture(light, "jobs-pause-light")
    phone = await web.open("/", theme="light", size=PHONE, routes=ANYWHERE)
    await expect(phone.get_by_role("link", name="sq140_sh030 lighting v012")).to_be_visible()
    await expect(phone.locator(".thumb img")).to_have_count(7)
    await take_picture(phone, "jobs-phone")
    farm = await web.open("/farm", routes=ANYWHERE)
    await expect(farm.get_by_role("listitem").first).to_contain_text("chunk")

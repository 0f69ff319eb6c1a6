"""The job page: what it shows of real jobs as they go, and what it does to them."""

import re
import sys
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect
from support.browser.made_up_jobs import huge_job
from support.browser.pages import ANYWHERE, PHONE, Web, answer_json, check_accessibility, take_picture
from support.farm import until, until_state

from longtake import FrameRange, JobHandle, JobState, Retry
from longtake.jobfile.loader import load_job

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def frame_map(page: Page) -> Locator:
    return page.get_by_role("slider", name="Frame map")


def detail(page: Page) -> Locator:
    return page.locator("section.detail")


async def until_map_shows(page: Page, words: str | re.Pattern[str]) -> None:
    """Return when the map says something of its chunks in words."""
    await page.locator(".map-words > summary").first.click()
    await expect(page.locator("#map-words")).to_contain_text(words)


async def take_job_picture(page: Page, name: str) -> None:
    """Keep a picture for the documents, whose readers have no use for the folder of a test."""
    await page.locator(".fact-store dd").evaluate("at => { at.textContent = '/films/silk'; }")
    await take_picture(page, f"job-{name}")


async def until_plays(page: Page, seconds: float) -> None:
    """Return when a film has played so far; `wait_for_function` needs an eval that the page forbids."""
    await page.locator("video").evaluate(
        """(video, seconds) => new Promise((resolve, reject) => {
            const look = () => video.currentTime >= seconds && resolve();
            video.addEventListener("timeupdate", look);
            video.addEventListener("error", () => reject(new Error(video.error.message)));
            look();
        })""",
        seconds,
    )


# Runs a command of ffmpeg. Chunks from the first number on wait until a file is there, and the other one fails before.
_RENDERER = """if True:
    import os, sys, time
    gate, first, bad, chunk, *command = sys.argv[1:]
    if chunk == bad and not os.path.exists(gate):
        sys.exit("\\x1b[31mERROR (bke.main): Malloc returns null: len=402653184\\x1b[0m in /shots/140/tex/silk.tx")
    while int(chunk) >= int(first) and not os.path.exists(gate):
        time.sleep(0.02)
    os.execv(command[0], command)
"""


def behind_gate(gate: Path, from_chunk: int, *, bad_chunk: int = -1) -> tuple[str, ...]:
    """Return the beginning of a command whose chunks from a number on wait for a file, and one fails without it."""
    return (sys.executable, "-S", "-E", "-c", _RENDERER, str(gate), str(from_chunk), str(bad_chunk), "{chunk}")


async def submit_film(
    web: Web, ffmpeg: str, *, chunks: int = 6, waits_for: Path = Path("/"), from_chunk: int = 0
) -> JobHandle:
    """Submit a film of 12 frames a chunk; the later chunks wait for a file."""
    picture = "testsrc2=size=320x180:rate=24,trim=start_frame={start},setpts=PTS-STARTPTS"
    command = (
        *behind_gate(waits_for, from_chunk),
        ffmpeg,
        "-nostdin",
        "-v",
        "info",
        "-f",
        "lavfi",
        "-i",
        picture,
        "-frames:v",
        "{count}",
    )
    job = web.farm.job(
        name="test picture",
        frames=FrameRange(count=12 * chunks, per_chunk=12),
        command=(*command, "-c:v", "libx264", "-pix_fmt", "yuv420p", "{output}"),
        chunk_output="chunks/{chunk:06}.mp4",
        output="film.mp4",
        fps=24,
        max_parallel=2,
    )
    return await web.farm.submit(job)


async def test_a_film_is_watched_to_its_end_and_played(web: Web, ffmpeg: str) -> None:
    job = await submit_film(web, ffmpeg)
    page = await web.open(f"/jobs/{job.id}?frame=30", size=(1400, 1320))

    await expect(page.get_by_role("heading", name="test picture", exact=True)).to_be_visible()
    await expect(page.locator(".job-state")).to_contain_text("completed")
    await expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    await until_map_shows(page, "done, proven: frames 0-71")
    await expect(detail(page)).to_contain_text("2, frames 24-35")
    await expect(detail(page).get_by_role("log")).to_contain_text("testsrc2")
    await expect(detail(page)).to_contain_text("libx264")

    await page.get_by_role("button", name="Play the film").click()
    await until_plays(page, 0.5)
    await expect(page.get_by_role("link", name="Download")).to_have_attribute("download", "film.mp4")


async def test_what_is_finished_is_played_while_the_rest_renders(web: Web, ffmpeg: str) -> None:
    job = await submit_film(web, ffmpeg, chunks=9, waits_for=web.farm.gate, from_chunk=5)
    await until(job, lambda status: status.progress > 50)
    page = await web.open(f"/jobs/{job.id}")

    await page.get_by_role("button", name="Play what is there").click()
    await until_plays(page, 0.3)
    video = page.locator("video")
    duration = await video.evaluate("video => video.duration")
    # A segment of a preview has two seconds; all chunks come to four and a half.
    assert duration < 3
    web.farm.open_gate()
    await until_plays(page, 4)
    await expect(page.locator(".job-state")).to_contain_text("completed")


async def test_a_film_in_the_making_shows_what_is_done_what_renders_and_what_failed(web: Web, ffmpeg: str) -> None:
    example = load_job(EXAMPLES / "plasma.yaml")
    assert example.command is not None
    small = [part.replace("1300:740", "500:284").replace("1280:720", "480:272") for part in example.command[1:]]
    made = web.farm.job(
        name="silk in motion",
        frames=FrameRange(first=1001, count=240, per_chunk=4),
        fps=24,
        command=(*behind_gate(web.farm.gate, 40, bad_chunk=23), ffmpeg, *small),
        chunk_output="silk/chunks/{chunk:06}.mp4",
        output="silk/silk.mp4",
        max_parallel=4,
        on_chunk_failure="continue",
        retry=Retry(attempts=2, initial_seconds=0.1),
    )
    job = await web.farm.render.submit(made, id="silk-in-motion")
    await until(job, lambda status: status.progress >= 65 and status.failed_chunks == 1 and status.running_chunks == 4)

    for theme in ("dark", "light"):
        page = await web.open("/jobs/silk-in-motion?frame=1094", theme=theme, size=(1400, 1330), routes=ANYWHERE)
        await expect(page.get_by_role("region", name="Failures")).to_contain_text("frames 1093-1096")
        await expect(page.get_by_role("region", name="Failures")).to_contain_text("Malloc returns null")
        await expect(detail(page)).to_contain_text("2 of 2")
        await expect(page.locator(".timeline-canvas")).to_be_visible()
        await expect(page.locator(".strip-frame").nth(4)).to_be_visible()
        await take_job_picture(page, theme)
    for by in ("time", "host", "memory"):
        await page.get_by_role("button", name=by.capitalize(), exact=True).click()
        await expect(page.locator(".map .legend")).to_contain_text(re.compile(r" s|vm|MiB|\w"))
    page = await web.open("/jobs/silk-in-motion?frame=1004", size=PHONE, routes=ANYWHERE)
    await expect(detail(page).get_by_role("img")).to_be_visible()
    await take_job_picture(page, "phone")

    web.farm.open_gate()
    await page.get_by_role("button", name="Retry 1 failed").click()
    await expect(page.locator(".job-state")).to_contain_text("completed")


async def test_a_job_is_frozen_and_thawed(web: Web) -> None:
    job = await web.farm.started(chunks=6, running=2, name="silk")
    page = await web.open(f"/jobs/{job.id}", routes=ANYWHERE)
    await until_map_shows(page, "rendering: ")

    await page.get_by_role("button", name="Pause").click()
    menu = page.get_by_role("menu")
    await expect(menu.get_by_role("menuitem", name="Drain")).to_contain_text("2 chunks that render first: 2 frames")
    await expect(menu.get_by_role("menuitem", name="Freeze")).to_contain_text("2 slots")
    await take_job_picture(page, "pause")
    await menu.get_by_role("menuitem", name="Freeze").click()
    await expect(page.locator(".job-state")).to_contain_text("paused, frozen")
    await expect(page.locator("#map-words")).to_contain_text("frozen: ")
    await until_state(job, JobState.PAUSED)

    await page.keyboard.press("g")
    await expect(page.locator(".job-state")).to_contain_text("running")
    await expect(page.locator("#map-words")).to_contain_text("rendering: ")
    web.farm.open_gate()
    await expect(page.locator(".job-state")).to_contain_text("completed")


async def test_a_failed_chunk_says_why_and_is_tried_again(web: Web) -> None:
    options = ("--fail-times", "1", "--only", "2", "--say", "\x1b[31mERROR: no texture <b>wood.tx</b>\x1b[0m")
    job = await web.farm.submit(web.farm.job(chunks=4, options=options, name="wood", on_chunk_failure="continue"))
    page = await web.open(f"/jobs/{job.id}")
    await expect(page.locator(".job-state")).to_contain_text("failed")
    await until_map_shows(page, "failed: frames 2")

    await frame_map(page).press("n")
    await expect(page).to_have_url(re.compile(r"\?frame=2$"))
    await expect(detail(page).locator("header")).to_contain_text("Frame 2")
    await expect(detail(page).locator("header")).to_contain_text("failed")
    log = detail(page).get_by_role("log")
    await expect(log).to_contain_text("ERROR: no texture <b>wood.tx</b>")
    assert await log.locator("b").count() == 0
    await expect(log.locator(".line.bad .a-red")).to_have_text("ERROR: no texture <b>wood.tx</b>")
    failures = page.get_by_role("region", name="Failures")
    await expect(failures).to_contain_text("exited with code 7")

    await failures.get_by_role("button", name=re.compile("Retry")).click()
    await expect(page.locator(".job-state")).to_contain_text("completed")
    await until_state(job, JobState.COMPLETED)
    await expect(detail(page).locator("header")).to_contain_text("done, proven")


async def test_a_chosen_chunk_of_a_job_that_has_ended_is_rendered_alone(web: Web) -> None:
    fails = ("--fail-times", "1", "--only", "1", "--only", "3")
    made = web.farm.job(chunks=5, options=fails, name="wood", on_chunk_failure="continue", max_failed_chunks=2)
    job = await web.farm.submit(made)
    page = await web.open(f"/jobs/{job.id}?frame=1")
    await expect(page.locator(".job-state")).to_contain_text("failed")

    await detail(page).get_by_role("button", name="Retry this one").click()
    await expect(detail(page).locator("header")).to_contain_text("done, proven")
    await expect(page.locator(".job-notices")).to_contain_text("and 1 other is missing (3)")
    await until_map_shows(page, "failed: frames 3")
    assert sorted(web.farm.ledger.started) == [0, 1, 1, 2, 3, 4]
    await check_accessibility(page)
    await page.get_by_role("region", name="Failures").get_by_role("button", name=re.compile("^Retry these")).click()
    await expect(page.locator(".job-state")).to_contain_text("completed")


async def test_what_is_skipped_is_shown_while_the_job_runs_and_can_be_taken_back_in(web: Web) -> None:
    job = await web.farm.started(chunks=6, running=1, name="gaps")
    await job.skip_chunks([(2, 4)], allow_gaps=True)
    page = await web.open(f"/jobs/{job.id}?frame=3")

    await until_map_shows(page, "left out: frames 2-3")
    # A job without a film has no log of one.
    await page.get_by_role("button", name="More").click()
    await expect(page.get_by_role("menuitem", name="Change the limit")).to_be_visible()
    await expect(page.get_by_role("menuitem", name="Log of the film")).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(detail(page).locator("header")).to_contain_text("left out")
    await detail(page).get_by_role("button", name="Render it").click()
    await expect(detail(page).locator("header")).to_contain_text("to do")
    await expect(page.locator("#map-words")).to_contain_text("left out: frames 2")
    web.farm.open_gate()
    await expect(page.locator(".job-state")).to_contain_text("completed")
    await expect(page.locator("#map-words")).to_contain_text("left out: frames 2")


async def test_a_log_is_shown_while_it_grows(web: Web, tmp_path: Path) -> None:
    # Prints a line for each byte that the file has; ends when it is gone.
    lines = tmp_path / "lines"
    lines.write_bytes(b".")
    program = f"""if True:
        import os, time
        printed = 0
        while os.path.exists({str(lines)!r}):
            while printed < os.path.getsize({str(lines)!r}):
                printed += 1
                print("line", printed, flush=True)
            time.sleep(0.05)
        open({{output!r}}, "w").write("x")
    """.replace("{output!r}", "__import__('sys').argv[1]")
    job = await web.farm.submit(
        web.farm.job(chunks=1, name="talk", command=(sys.executable, "-S", "-E", "-c", program, "{output}"))
    )
    page = await web.open(f"/jobs/{job.id}?frame=0")
    log = detail(page).get_by_role("log")
    await expect(log).to_contain_text("line 1")

    with lines.open("ab") as file:
        file.write(b"." * 400)
    await expect(log).to_contain_text("line 401")
    # It stays at the end, until somebody scrolls up.
    assert await log.evaluate("at => at.scrollTop + at.clientHeight >= at.scrollHeight - 4")
    await log.hover()
    await page.mouse.wheel(0, -2000)
    await expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    lines.unlink()
    await expect(page.locator(".job-state")).to_contain_text("completed")


async def test_the_selection_is_in_the_address_and_comes_from_it(web: Web) -> None:
    frames = FrameRange(first=1001, count=40, per_chunk=4)
    job = await web.farm.submit(web.farm.job(frames=frames, name="shot"))
    await until_state(job, JobState.COMPLETED)
    page = await web.open(f"/jobs/{job.id}?frame=1014")

    await expect(detail(page).locator("header")).to_contain_text("Frame 1014")
    await expect(detail(page)).to_contain_text("3, frames 1013-1016")
    await frame_map(page).focus()
    await page.keyboard.press("End")
    await expect(page).to_have_url(re.compile(r"\?frame=1040$"))
    await page.reload()
    await expect(detail(page).locator("header")).to_contain_text("Frame 1040")
    await page.get_by_role("button", name="Host", exact=True).click()
    await expect(page).to_have_url(re.compile("by=host"))
    await page.reload()
    await expect(page.get_by_role("button", name="Host", exact=True)).to_have_attribute("aria-pressed", "true")


async def test_keys_alone_find_what_failed_and_try_it_again(web: Web) -> None:
    job = await web.farm.submit(web.farm.job(chunks=5, options=("--fail-times", "1", "--only", "3"), name="keys"))
    page = await web.open(f"/jobs/{job.id}")
    await expect(page.locator(".job-state")).to_contain_text("failed")
    await until_map_shows(page, "failed: frames 3")

    await page.keyboard.press("m")
    await expect(frame_map(page)).to_be_focused()
    await page.keyboard.press("n")
    await expect(frame_map(page)).to_have_attribute("aria-valuetext", re.compile("^frame 3, failed"))
    await page.keyboard.press("ArrowLeft")
    await expect(frame_map(page)).to_have_attribute("aria-valuetext", re.compile("^frame 2, "))
    await page.keyboard.press("+")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Frame 2")).to_be_focused()
    await page.keyboard.press("r")
    await expect(page.locator(".job-state")).to_contain_text("completed")


async def test_what_is_hovered_lights_up_everywhere(web: Web, ffmpeg: str) -> None:
    job = await submit_film(web, ffmpeg, chunks=4)
    await until_state(job, JobState.COMPLETED)
    page = await web.open(f"/jobs/{job.id}")
    await expect(page.locator(".strip-frame").first).to_be_visible()

    await page.get_by_role("button", name="Chunks", exact=True).click()
    await frame_map(page).hover(position={"x": 10, "y": 10})
    await expect(page.locator(".tip:visible")).to_contain_text("Frame 0")
    await expect(page.locator(".strip-frame").first).to_have_class(re.compile("lit"))
    await page.locator(".strip-frame").first.click()
    await expect(detail(page).locator("header")).to_contain_text("Frame 0")
    await expect(detail(page).get_by_role("img")).to_be_visible()


# Changes what is seen in each frame of the screen, and counts the frames in which the map was drawn.
SCROLL = """async (seconds) => {
    const scroller = document.querySelector(".map-scroller");
    let painted = 0;
    document.querySelector(".map-canvas").addEventListener("painted", () => painted++);
    const run = (each) => new Promise((resolve) => {
        const began = performance.now();
        let frames = 0;
        const step = () => {
            each(frames++);
            const passed = (performance.now() - began) / 1000;
            passed < seconds ? requestAnimationFrame(step) : resolve(frames / passed);
        };
        requestAnimationFrame(step);
    });
    const idle = await run(() => {});
    painted = 0;
    const height = scroller.scrollHeight - scroller.clientHeight;
    const frames = await run((at) => { scroller.scrollTop = (at * 37) % height; });
    return {idle, painted: painted / seconds, frames};
}"""


@pytest.mark.parametrize("chunks", [100_000, 1_000_000])
async def test_a_map_of_very_many_chunks_scrolls_at_thirty_frames_a_second(web: Web, chunks: int) -> None:
    page = await web.open("/jobs/huge?by=time", routes=huge_job(chunks))
    await expect(page.locator(".map-overview")).to_be_visible()
    await until_map_shows(page, "failed: frames 1408-1414")

    # Other tests have the cores for a while: one second out of these is theirs alone.
    for _ in range(12):
        seen = await page.evaluate(SCROLL, 1)
        print(f"{chunks:,} chunks: {seen['painted']:.0f} drawn a second, of {seen['idle']:.0f} that an idle page has")
        if seen["painted"] >= 30:
            break
    assert seen["painted"] >= 30
    await page.keyboard.press("n")
    await expect(page).to_have_url(re.compile("frame=1408"))


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_page_is_accessible_on_a_phone_and_a_desk(web: Web, ffmpeg: str, theme: str) -> None:
    job = await web.farm.submit(
        web.farm.job(
            chunks=60, options=("--exit", "7", "--only", "7"), name="shot 12 lighting", retry=Retry(attempts=2)
        )
    )
    film = await submit_film(web, ffmpeg, chunks=8)
    await until_state(job, JobState.FAILED)
    await until_state(film, JobState.COMPLETED)
    for size in ((1400, 1320), PHONE):
        for handle, frame in ((job, 7), (film, 50)):
            page = await web.open(f"/jobs/{handle.id}?frame={frame}", theme=theme, size=size)  # type: ignore[arg-type]
            await expect(detail(page).get_by_role("log")).not_to_be_empty()
            await expect(detail(page).locator("header")).to_contain_text(f"Frame {frame}")
            await check_accessibility(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_job_that_has_just_begun_says_what_it_waits_for(web: Web) -> None:
    job = await web.farm.started(chunks=3, running=1, name="early", pictures="none")
    page = await web.open(f"/jobs/{job.id}")

    await expect(page.get_by_role("region", name="Pictures")).to_contain_text("pictures: none")
    await expect(page.get_by_role("region", name="Failures")).to_be_hidden()
    await until(job, lambda status: status.running_chunks == 1)
    await until_map_shows(page, "rendering: frames 0")


async def test_a_job_that_is_not_there_is_told(web: Web) -> None:
    page = await web.open("/jobs/nothing-of-this-name")

    await expect(page.get_by_role("heading", name="No such job")).to_be_visible()
    await check_accessibility(page)


async def test_a_farm_that_is_away_is_told_and_what_was_known_stays(web: Web) -> None:
    problem = {"type": "temporal-away", "status": 503, "title": "Temporal is away", "since": "2026-11-28T22:05:00Z"}
    page = await web.open("/jobs/huge", routes=huge_job(5000, problem=problem))

    await expect(page.get_by_role("status").filter(has_text="Temporal does not answer")).to_be_visible()
    await expect(page.locator("html")).to_have_class(re.compile("stale"))
    await until_map_shows(page, "failed: frames 1408-1414")


async def test_a_map_whose_store_is_away_does_not_pretend(web: Web) -> None:
    away = answer_json({"type": "store-away", "status": 503, "detail": "the bucket does not answer"}, 503)
    web.expect_errors("/jobs/huge/")
    routes = {**huge_job(5000), "**/api/v1/jobs/huge/chunks": away}
    page = await web.open("/jobs/huge?by=time", routes=routes)

    frames = page.get_by_role("region", name="Frame map")
    await expect(frames).to_contain_text("which frames are done is not known now")
    await check_accessibility(page)


# Chunks as the page cuts them, each as the numbers of its frames.
CUT = """async (given) => {
    const { FrameLayout } = await import("/static/job/frames.js");
    const layout = new FrameLayout(given);
    return Array.from({ length: layout.chunks }, (_, chunk) => {
        const first = layout.placeOf(chunk);
        return Array.from({ length: layout.countOf(chunk) }, (_, at) => {
            const number = layout.numberAt(first + at);
            const isFound = layout.placeOfNumber(number) === first + at && layout.chunkAt(first + at) === chunk;
            return isFound ? number : null;
        });
    });
}"""


@pytest.mark.parametrize(
    "frames",
    [
        FrameRange(count=7, per_chunk=3),
        FrameRange(first=1001, count=11, step=5, per_chunk=4),
        FrameRange.model_validate({"range": "1-10,15,20-100x2", "per_chunk": 4}),
        FrameRange(first=-5, count=9, per_chunk=2),
    ],
)
async def test_the_page_cuts_frames_into_the_chunks_of_the_job(web: Web, frames: FrameRange) -> None:
    page = await web.open("/farm")

    given = {"chunks": frames.chunk_count, "frames": frames.model_dump(mode="json")}
    assert await page.evaluate(CUT, given) == [list(chunk) for chunk in frames.chunks]

"""What is finished of a film is played in Chromium: with its sound, as AV1, and as a copy where nothing else helps."""

import subprocess
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Page, expect
from support.browser.pages import Web
from support.farm import until, until_state

from longtake import FrameRange, JobHandle, JobState, RenderJobSpec, Retry
from longtake.concurrency import run_in_thread

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=24,trim=start_frame={start},setpts=PTS-STARTPTS")
TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2", "-preset", "ultrafast")
# Six chunks of 12 frames: segments of two seconds and of one.
SECONDS = 3

# What the tracks of a video have played, and what its sound would be heard as.
_LISTEN = """async (video) => {
    const context = new AudioContext(), analyser = context.createAnalyser();
    context.createMediaElementSource(video).connect(analyser);
    await context.resume();
    const samples = new Float32Array(analyser.fftSize);
    let loudest = 0;
    await new Promise((resolve, reject) => {
        video.addEventListener("error", () => reject(new Error(video.error.message)));
        const look = () => {
            analyser.getFloatTimeDomainData(samples);
            loudest = Math.max(loudest, ...samples);
            video.currentTime > 2.5 ? resolve() : setTimeout(look, 20);
        };
        look();
    });
    const { buffered } = video;
    return {
        loudest,
        decoded: video.webkitAudioDecodedByteCount,
        ranges: buffered.length,
        begins: buffered.start(0),
        ends: buffered.end(buffered.length - 1),
    };
}"""


def make_command(ffmpeg: str, *options: str) -> tuple[str, ...]:
    return (ffmpeg, "-nostdin", "-v", "error", *PICTURE, *options, "-frames:v", "{count}", "{output}")


def make_job(web: Web, command: tuple[str, ...], **fields: Any) -> RenderJobSpec:
    usual: dict[str, Any] = {
        "frames": FrameRange(count=24 * SECONDS, per_chunk=12),
        "fps": 24,
        "retry": Retry(attempts=1),
    }
    return web.farm.job(name="preview", command=command, **usual | fields)


async def submit(web: Web, ffmpeg: str, *options: str, suffix: str = ".mov") -> JobHandle:
    """Return a job of chunks that are finished, and make no film."""
    command = make_command(ffmpeg, *options)
    handle = await web.farm.submit(make_job(web, command, chunk_output=f"chunks/{{chunk:06}}{suffix}"))
    status = await until_state(handle, JobState.COMPLETED)
    assert status.state is JobState.COMPLETED, status.error
    return handle


async def open_preview(web: Web, job: JobHandle) -> Page:
    page = await web.open(f"/jobs/{job.id}")
    await page.get_by_role("button", name="Play what is there").click()
    return page


async def until_played(page: Page) -> dict[str, Any]:
    """Return what was played and heard, once the film is nearly over."""
    found: dict[str, Any] = await page.locator("video").evaluate(_LISTEN)
    return found


async def test_the_sound_of_chunks_is_heard_with_their_pictures(web: Web, ffmpeg: str) -> None:
    job = await submit(web, ffmpeg, *TONE, *H264, "-c:a", "pcm_s16le", "-shortest")

    played = await until_played(await open_preview(web, job))

    assert played["decoded"] > 0
    assert played["loudest"] > 0.05
    # Where both tracks have something: neither begins late, nor has a gap between chunks.
    assert (played["ranges"], played["begins"]) == (1, 0)
    assert abs(played["ends"] - SECONDS) < 0.001


async def test_the_sound_of_the_film_is_heard_before_there_is_a_film(web: Web, ffmpeg: str) -> None:
    await run_in_thread(
        partial(subprocess.run, [ffmpeg, "-v", "error", *TONE, "-t", "5", str(web.farm.store / "s.wav")])
    )
    wait = 'while [ "$1" -ge 8 ] && [ ! -e "$2" ]; do sleep 0.05; done; shift 2; exec "$@"'
    job = await web.farm.submit(
        make_job(
            web,
            ("sh", "-c", wait, "sh", "{chunk}", str(web.farm.gate), *make_command(ffmpeg, *H264)),
            chunk_output="chunks/{chunk:06}.mp4",
            frames=FrameRange(count=108, per_chunk=12),
            audio="s.wav",
            output="film.mp4",
            max_parallel=1,
        )
    )
    await until(job, lambda status: status.completed_chunks == 8)

    played = await until_played(await open_preview(web, job))
    web.farm.open_gate()

    assert played["decoded"] > 0
    assert played["loudest"] > 0.05
    assert (played["ranges"], played["begins"]) == (1, 0)
    assert abs(played["ends"] - 4) < 0.001


async def test_av1_is_played_as_it_is(web: Web, ffmpeg: str) -> None:
    job = await submit(web, ffmpeg, "-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p", suffix=".mp4")

    page = await open_preview(web, job)
    played = await until_played(page)

    assert (played["ranges"], played["begins"]) == (1, 0)
    assert await page.locator("video").evaluate("video => video.videoWidth") == 320


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error"), "hvc1"),
        (("-c:v", "prores_ks"), "prores"),
    ],
    ids=["hevc", "prores"],
)
async def test_what_a_browser_cannot_play_is_offered_as_a_copy(
    web: Web, ffmpeg: str, options: tuple[str, ...], why: str
) -> None:
    job = await submit(web, ffmpeg, *TONE, *options, "-c:a", "pcm_s16le", "-shortest")
    web.expect_errors("preview.m3u8")

    page = await open_preview(web, job)
    await expect(page.locator(".proxy-offer")).to_contain_text(why)
    await page.get_by_role("button", name="Make a small copy").click()
    played = await until_played(page)

    assert played["decoded"] > 0
    assert (played["ranges"], played["begins"]) == (1, 0)

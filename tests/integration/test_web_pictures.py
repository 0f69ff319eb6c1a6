"""The API shows small pictures, and plays what is finished of a film while it renders."""

import io
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
import pytest_asyncio
from support.farm import Farm, until, until_state
from support.previews import connected, read_playlist

from longtake import FrameRange, JobHandle, JobState, RenderJobSpec, Retry

pytestmark = pytest.mark.integration

RATE = Fraction(24000, 1001)
FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=24000/1001")
PICK = ("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}")
H264 = (*FFMPEG, *PICK, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-pix_fmt", "yuv420p", "{output}")
PRORES = (*FFMPEG, *PICK, "-c:v", "prores_ks", "{output}")
IMAGES = (*FFMPEG, *PICK, "-start_number", "{start}", "{output}")


def job(store: Path | str, **fields: Any) -> RenderJobSpec:
    place = "base_dir" if isinstance(store, Path) else "store"
    return RenderJobSpec.model_validate(
        {
            "frames": FrameRange(count=120, per_chunk=24),
            "fps": "24000/1001",
            "command": H264,
            "chunk_output": "chunks/{chunk:06}.mp4",
            "retry": Retry(attempts=1),
            place: str(store),
            **fields,
        }
    )


@pytest_asyncio.fixture
async def web(farm: Farm) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(farm) as client:
        yield client


def play(film: bytes) -> list[tuple[Fraction, bytes]]:
    """Return the time of each frame of a film behind its first one, with what it shows."""
    with av.open(io.BytesIO(film), "r") as container:
        frames = [
            ((frame.pts or 0) * (frame.time_base or Fraction(0)), bytes(frame.reformat(format="gray").planes[0]))
            for frame in container.decode(video=0)
        ]
    return [(time - frames[0][0], shown) for time, shown in frames]


def grid(frames: int) -> list[Fraction]:
    return [number / RATE for number in range(frames)]


def decode_chunks(store: Path, names: list[str]) -> list[bytes]:
    found = []
    for name in names:
        with av.open(str(store / name), "r") as container:
            found += [bytes(frame.reformat(format="gray").planes[0]) for frame in container.decode(video=0)]
    return found


async def test_finished_chunks_are_played_without_being_encoded(farm: Farm, web: httpx.AsyncClient) -> None:
    status = await farm.run(job(farm.store))

    playlist = await read_playlist(web, status.id)

    assert playlist.has_ended
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in playlist.text
    assert abs(sum(playlist.seconds) - 120 / RATE) < Fraction(1, 1000)
    assert len(playlist.segments) == 3
    shown = play(await playlist.fetch(web))
    assert [time for time, _ in shown] == grid(120)
    # The very frames of the chunks, in their order.
    assert [frame for _, frame in shown] == decode_chunks(farm.store, [f"chunks/{n:06}.mp4" for n in range(5)])


async def test_the_playlist_grows_while_the_film_renders(farm: Farm, web: httpx.AsyncClient) -> None:
    wait = 'while [ "$1" -ge 3 ] && [ ! -e "$2" ]; do sleep 0.05; done; shift 2; exec "$@"'
    command = ("sh", "-c", wait, "sh", "{chunk}", str(farm.gate), *H264)
    frames = FrameRange(count=240, per_chunk=48)
    handle = await farm.submit(job(farm.store, command=command, max_parallel=1, frames=frames))
    await until(handle, lambda status: status.completed_chunks == 3)

    half = await read_playlist(web, handle.id)
    farm.open_gate()
    await until_state(handle, JobState.COMPLETED)
    whole = await read_playlist(web, handle.id)
    while not whole.has_ended:
        # What was read of a job a moment ago is given out again.
        whole = await read_playlist(web, handle.id)

    assert not half.has_ended
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in half.text
    assert [time for time, _ in play(await half.fetch(web))] == grid(144)
    assert whole.has_ended
    assert whole.segments[: len(half.segments)] == half.segments
    assert whole.maps == half.maps
    assert [time for time, _ in play(await whole.fetch(web))] == grid(240)


async def test_a_run_begins_where_it_is_asked_to_and_ends_before_a_gap(farm: Farm, web: httpx.AsyncClient) -> None:
    fails = ("sh", "-c", '[ "$1" != 0 ] && [ "$1" != 3 ] && shift && exec "$@"', "sh", "{chunk}", *H264)
    status = await farm.run(job(farm.store, command=fails, on_chunk_failure="continue"))
    assert status.state is JobState.FAILED

    first = await read_playlist(web, status.id)
    second = await read_playlist(web, status.id, **{"from": 4})
    missing = await web.get(f"jobs/{status.id}/preview.m3u8", params={"from": 3})

    assert first.address.params["from"] == "1"
    assert [time for time, _ in play(await first.fetch(web))] == grid(48)
    assert [time for time, _ in play(await second.fetch(web))] == grid(24)
    assert missing.status_code == 404
    assert missing.json()["type"] == "nothing-finished"


@pytest.mark.parametrize(
    ("command", "output"), [(PRORES, "chunks/{chunk:06}.mov"), (IMAGES, "f/f_{frame:04}.png")], ids=["prores", "images"]
)
async def test_what_no_browser_plays_has_a_small_copy(
    farm: Farm, web: httpx.AsyncClient, command: tuple[str, ...], output: str
) -> None:
    status = await farm.run(
        job(farm.store, command=command, chunk_output=output, frames=FrameRange(count=70, per_chunk=7))
    )
    assert status.state is JobState.COMPLETED, status.error

    refused = await web.get(f"jobs/{status.id}/preview.m3u8")
    playlist = await read_playlist(web, status.id, proxy=1)

    assert (refused.status_code, refused.json()["type"]) == (409, "needs-proxy")
    film = await playlist.fetch(web)
    assert [time for time, _ in play(film)] == grid(70)
    with av.open(io.BytesIO(film), "r") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 180)


async def test_jobs_without_pictures_have_no_preview(farm: Farm, web: httpx.AsyncClient) -> None:
    status = await farm.run(farm.job(chunks=2))

    for path in ("preview.m3u8", "preview/0.m4s?frames=1", "pictures/000000-0.jpg", "picture"):
        assert (await web.get(f"jobs/{status.id}/{path}")).status_code == 404
    assert (await web.get(f"jobs/{status.id}/pictures")).json() == []


@pytest.mark.parametrize(
    "path",
    [
        "preview/0.m4s?frames=7", "preview/5.m4s?frames=24", "preview/0.m4s?frames=24&skip=3", "preview/x.m4s?frames=1",
        "preview/0.m4s?frames=99999", "preview/..%2F..%2Fjob.json?frames=1", "preview/init-.mp4?frames=24",
        "pictures/..%2Fjob.json", "pictures/%2e%2e%2fjob.json", "pictures/job.json", "pictures/000000-0.jpg%00",
        "pictures/000009-0.jpg", "pictures/..%252Fjob.json",
    ],
)  # fmt: skip
async def test_addresses_that_name_nothing_are_not_found(ended: JobHandle, web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(f"jobs/{ended.id}/{path}")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest_asyncio.fixture
async def ended(farm: Farm) -> JobHandle:
    handle = await farm.submit(job(farm.store))
    await until_state(handle, JobState.COMPLETED)
    return handle


async def test_pictures_are_listed_and_kept_by_browsers(farm: Farm, ended: JobHandle, web: httpx.AsyncClient) -> None:
    folder = farm.store / ".longtake" / ended.id / "pictures"
    (folder / "notes.txt").write_text("no picture")
    (folder / "000001-24.webp").symlink_to("/etc/hostname")

    found = (await web.get(f"jobs/{ended.id}/pictures")).json()
    one = next(each for each in found if each["name"] == "000002-48.jpg")
    kept = await web.get(f"jobs/{ended.id}/pictures/{one['name']}", params={"v": one["version"]})
    asked = await web.get(f"jobs/{ended.id}/pictures/{one['name']}")
    again = await web.get(f"jobs/{ended.id}/pictures/{one['name']}", headers={"If-None-Match": asked.headers["etag"]})

    assert [(each["chunk"], each["frame"]) for each in found if each["name"].endswith(".jpg")] == [
        (number, 24 * number) for number in range(5)
    ]
    assert kept.content == (folder / one["name"]).read_bytes()
    assert kept.headers["content-type"] == "image/jpeg"
    assert "immutable" in kept.headers["cache-control"]
    assert "no-cache" in asked.headers["cache-control"]
    assert again.status_code == 304
    assert (await web.get(f"jobs/{ended.id}/pictures/000001-24.webp")).status_code == 404
    poster = await web.get(f"jobs/{ended.id}/picture")
    assert poster.content.startswith(b"\xff\xd8\xff")


async def test_pictures_and_previews_come_from_buckets(cloud: Farm, bucket: str) -> None:
    films = await cloud.run(job(bucket))
    images = await cloud.run(
        job(bucket, command=IMAGES, chunk_output="f/f_{frame:04}.png", frames=FrameRange(count=20, per_chunk=10))
    )

    async with connected(cloud) as web:
        playlist = await read_playlist(web, films.id)
        small = await read_playlist(web, images.id, proxy=1)
        assert [time for time, _ in play(await playlist.fetch(web))] == grid(120)
        assert [time for time, _ in play(await small.fetch(web))] == grid(20)
        found = (await web.get(f"jobs/{films.id}/pictures")).json()
        assert len(found) == 5
        picture = await web.get(f"jobs/{films.id}/pictures/{found[0]['name']}")
        assert picture.content.startswith(b"\xff\xd8\xff")

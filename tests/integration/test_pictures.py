"""Finished chunks leave small pictures in the store, which never decide about a chunk."""

import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from support.farm import Farm, eventually, until_state

from longtake import FrameRange, JobState, RenderJobSpec, Retry
from longtake.stores.store import Store

pytestmark = pytest.mark.integration

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i")
BARS = "smptehdbars=s=640x360:r=25"
PICK = ("-vf", "trim=start_frame={start},setpts=PTS-STARTPTS", "-frames:v", "{count}")
VIDEO = (*FFMPEG, BARS, *PICK, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-pix_fmt", "yuv420p", "{output}")
MOST_BYTES = 40_000


def job(store: Path | str, **fields: Any) -> RenderJobSpec:
    place = "base_dir" if isinstance(store, Path) else "store"
    return RenderJobSpec.model_validate(
        {
            "frames": FrameRange(count=30, per_chunk=10),
            "fps": 25,
            "command": VIDEO,
            "chunk_output": "chunks/{chunk:06}.mp4",
            "retry": Retry(attempts=1),
            place: str(store),
            **fields,
        }
    )


def images(store: Path | str, source: str, path: str, *options: str, **fields: Any) -> RenderJobSpec:
    command = (*FFMPEG, source, "-frames:v", "{count}", *options, "-start_number", "{start}", "{output}")
    return job(store, command=command, chunk_output=path, **{"fps": None, **fields})


def pictures(store: Path, job_id: str) -> dict[str, bytes]:
    folder = store / ".longtake" / job_id / "pictures"
    # Not those that are still being written.
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[0-9]*.jpg"))}


async def until_there(store: Path, job_id: str, count: int) -> dict[str, bytes]:
    """Return the pictures of a job: those of image files may come a moment after its end where the machine is busy."""
    await eventually(lambda: len(pictures(store, job_id)) == count, f"there are {count} pictures")
    return pictures(store, job_id)


def decode(picture: bytes) -> Any:
    """Return the samples of a JPEG as red, green and blue."""
    assert picture.startswith(b"\xff\xd8\xff")
    assert len(picture) < MOST_BYTES
    with av.open(io.BytesIO(picture), "r", format="jpeg_pipe") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def assert_near(pixel: Sequence[int], wanted: Sequence[int], most: int = 10) -> None:
    assert all(abs(int(mine) - each) <= most for mine, each in zip(pixel, wanted, strict=True)), (pixel, wanted)


async def test_each_chunk_of_video_leaves_its_first_frame(farm: Farm) -> None:
    status = await farm.run(job(farm.store, output="film.mp4"))

    assert status.state is JobState.COMPLETED, status.error
    found = pictures(farm.store, status.id)
    assert list(found) == ["000000-0.jpg", "000001-10.jpg", "000002-20.jpg"]
    for picture in found.values():
        samples = decode(picture)
        assert samples.shape == (180, 320, 3)
        # 75 % yellow of the bars.
        assert_near(samples[40, 75], (191, 191, 0), 12)


async def test_a_sequence_leaves_a_few_pictures_of_each_chunk(farm: Farm) -> None:
    status = await farm.run(images(farm.store, BARS, "f/f_{frame:04}.png", frames=FrameRange(count=20, per_chunk=10)))

    assert status.state is JobState.COMPLETED, status.error
    frames = [0, 2, 5, 7]
    names = [f"000000-{frame}.jpg" for frame in frames] + [f"000001-{10 + frame}.jpg" for frame in frames]
    found = await until_there(farm.store, status.id, len(names))
    assert sorted(found) == sorted(names)
    assert_near(decode(found["000001-17.jpg"])[40, 75], (191, 191, 0), 12)


async def test_linear_pictures_are_shown_as_the_film_shows_them(farm: Farm) -> None:
    source = "color=c=0x808080:s=64x64,format=gbrpf32le"
    alone = {"frames": FrameRange(count=1, per_chunk=1)}
    plain = await farm.run(images(farm.store, source, "plain/f_{frame:04}.exr", **alone))
    named = images(
        farm.store,
        source,
        "named/f_{frame:04}.exr",
        **alone,
        fps=25,
        output="film.mp4",
        colour={"input": "linear", "output": "hdr10", "view": "ACES 2.0 - HDR 1000 nits (P3 D65)"},
        encode=("-c:v", "libx265", "-pix_fmt", "yuv420p10le"),
    )
    hdr = await farm.run(named)

    # Half of the light is 188 in sRGB.
    assert_near(decode((await until_there(farm.store, plain.id, 1))["000000-0.jpg"])[32, 32], (188, 188, 188), 4)
    assert hdr.state is JobState.COMPLETED, hdr.error
    # Of a film of high dynamic range it is the view for screens: tone mapped, and not PQ.
    grey = decode((await until_there(farm.store, hdr.id, 1))["000000-0.jpg"])[32, 32]
    assert 130 < int(grey[0]) < 188
    assert max(grey) - min(grey) <= 3


async def test_what_is_transparent_shows_a_checker(farm: Farm) -> None:
    source = "color=c=red:s=64x64,format=rgba,colorchannelmixer=aa=0"
    alone = {"frames": FrameRange(count=1, per_chunk=1)}
    status = await farm.run(images(farm.store, source, "f/f_{frame:04}.png", **alone))
    film = job(
        farm.store,
        command=(*FFMPEG, source, "-frames:v", "{count}", "-c:v", "prores_ks", "-pix_fmt", "yuva444p10le", "{output}"),
        chunk_output="v/{chunk}.mov",
        frames=FrameRange(count=2, per_chunk=2),
    )
    moving = await farm.run(film)

    for each in (status, moving):
        assert each.state is JobState.COMPLETED, each.error
        samples = decode((await until_there(farm.store, each.id, 1))["000000-0.jpg"])
        assert {int(samples[4, 4, 0]) // 10, int(samples[4, 12, 0]) // 10} == {11, 14}


async def test_pixels_are_square_and_pictures_turned_as_players_do(farm: Farm) -> None:
    # 2:1 pixels; and a film that players turn.
    wide = (*VIDEO[:-1], "-vf", f"{PICK[1]},setsar=2", "{output}")
    status = await farm.run(job(farm.store, command=wide))
    script = 'ffmpeg -nostdin -v error -display_rotation 90 -i "$1.mp4" -c copy "$1" && rm "$1.mp4"'
    plain = " ".join(f"'{word}'" for word in VIDEO[:-1])
    turned = ("sh", "-c", f'{plain} "$1.mp4" && {script}', "sh", "{output}")
    rotated = await farm.run(job(farm.store, command=turned, chunk_output="turned/{chunk}.mp4"))

    assert decode(pictures(farm.store, status.id)["000000-0.jpg"]).shape == (90, 320, 3)
    assert rotated.state is JobState.COMPLETED, rotated.error
    assert decode(pictures(farm.store, rotated.id)["000000-0.jpg"]).shape == (320, 180, 3)


async def test_a_job_may_ask_for_no_pictures_or_larger_ones(farm: Farm) -> None:
    none = await farm.run(job(farm.store, pictures="none"))
    large = await farm.run(job(farm.store, pictures={"size": 480}, chunk_output="large/{chunk}.mp4"))
    # Texts are no pictures.
    text = await farm.run(farm.job(chunks=2))

    assert {each.state for each in (none, large, text)} == {JobState.COMPLETED}
    assert pictures(farm.store, none.id) == {}
    assert pictures(farm.store, text.id) == {}
    assert decode(pictures(farm.store, large.id)["000000-0.jpg"]).shape == (270, 480, 3)


async def test_pictures_that_cannot_be_stored_fail_no_chunk(farm: Farm) -> None:
    job_id = f"job-{uuid.uuid4().hex[:12]}"
    in_the_way = farm.store / ".longtake" / job_id / "pictures"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("no folder")

    handle = await farm.render.submit(job(farm.store, output="film.mp4"), id=job_id)
    status = await until_state(handle, JobState.COMPLETED)

    assert status.failures == ()
    assert in_the_way.read_text() == "no folder"


async def test_pictures_go_with_the_job(farm: Farm) -> None:
    handle = await farm.submit(job(farm.store))
    await until_state(handle, JobState.COMPLETED)
    assert len(pictures(farm.store, handle.id)) == 3

    await handle.stored.delete()

    assert not (farm.store / ".longtake" / handle.id).exists()


async def test_pictures_are_left_in_buckets(cloud: Farm, bucket: str, films: Store) -> None:
    films_status = await cloud.run(job(bucket))
    sequence = await cloud.run(images(bucket, BARS, "f/f_{frame:04}.png", frames=FrameRange(count=2, per_chunk=1)))

    assert films_status.state is JobState.COMPLETED, films_status.error
    folder = f"{films.url}/.longtake/{films_status.id}/pictures"
    assert films.names(folder) == ["000000-0.jpg", "000001-10.jpg", "000002-20.jpg"]
    assert decode(films.read(f"{folder}/000001-10.jpg")).shape == (180, 320, 3)
    of_images = f"{films.url}/.longtake/{sequence.id}/pictures"
    await eventually(lambda: films.names(of_images) == ["000000-0.jpg", "000001-1.jpg"], "there are two pictures")

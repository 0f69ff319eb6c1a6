"""Jobs of image files: all alike, proven by their pixels where that is asked for, in folders of any name."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm
from support.jobs.images import png

from longtake import FrameRange, JobState, RenderJobSpec, Retry
from longtake.templates import escape_template

pytestmark = pytest.mark.integration

# One line of sh that renders frames of `size`, and of another size where the chunk has a number.
_OF_TWO_SIZES = 'S=320x180; [ "$1" = "$2" ] && S=160x90; shift 2; out=$1; shift; "$@" testsrc2=s=$S:r=24 '


def image_job(farm: Farm, *, odd_chunk: int = -1, **fields: Any) -> RenderJobSpec:
    """Six pictures, in chunks of three, of which one chunk may be of another size."""
    script = f'{_OF_TWO_SIZES}-frames:v "$N" -start_number "$F" "$out"'
    return RenderJobSpec.model_validate(
        {
            "name": "pictures",
            "frames": FrameRange(first=1, count=6, per_chunk=3),
            "fps": "24",
            "command": (
                *("env", "N={count}", "F={start}", "sh", "-c", script, "sh", "{chunk}", str(odd_chunk), "{output}"),
                *("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i"),
            ),
            "chunk_output": "f/f_{frame:04}.png",
            "base_dir": str(farm.store),
            "retry": Retry(attempts=1),
            **fields,
        }
    )


async def test_chunks_of_another_size_are_named_with_both_values(farm: Farm) -> None:
    two, four = await asyncio.gather(
        farm.run(image_job(farm, odd_chunk=1, output="film.mp4", chunk_output="two/f_{frame:04}.png")),
        farm.run(image_job(farm, odd_chunk=2, frames=FrameRange(first=1, count=4, per_chunk=1))),
    )

    for status, chunk, path in ((two, 1, "two/f_0004.png"), (four, 2, "f/f_0003.png")):
        assert status.state is JobState.FAILED
        named = f"chunk {chunk} ({farm.store / path})"
        assert f"{named} has another size: 160x90 instead of 320x180" in (status.error or "")
        assert status.needs_change
    assert not (farm.store / "film.mp4").exists()


async def test_chunks_that_write_into_folders_of_their_own_may_differ_where_no_film_is_made(farm: Farm) -> None:
    chunks = [
        {"start": 1, "count": 3, "output": "beauty/f_{frame:04}.png"},
        {"start": 1, "count": 3, "output": "depth/f_{frame:04}.png"},
    ]
    apart, together = await asyncio.gather(
        farm.run(image_job(farm, odd_chunk=1, frames=None, chunks=chunks, chunk_output=None)),
        farm.run(
            image_job(
                farm,
                odd_chunk=1,
                frames=None,
                chunks=[{**chunk, "output": f"film/{chunk['output']}"} for chunk in chunks],
                chunk_output=None,
                output="film/film.mp4",
            )
        ),
    )

    assert apart.state is JobState.COMPLETED, apart.error
    assert "chunk 1" in (together.error or "")
    assert "has another size: 160x90 instead of 320x180" in (together.error or "")


# Checksums are right, and what they are of inflates to nothing.
_WRITE_FRAMES = """
import struct, sys, zlib
first, count, folder, body = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
line = bytes(25)
pixels = zlib.compress(line * 8) if body == "sound" else b"no deflate at all"
chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
data = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
for frame in range(first, first + count):
    open(f"{folder}/f_{frame:04}.{sys.argv[5]}", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n" + data)
"""


def written_job(farm: Farm, body: str, suffix: str = "png", *, pixels: bool) -> RenderJobSpec:
    return image_job(
        farm,
        command=(
            sys.executable,
            "-c",
            escape_template(_WRITE_FRAMES),
            "{start}",
            "{count}",
            "{output_dir}",
            body,
            suffix,
        ),
        chunk_output=f"{body}-{suffix}-{pixels}/f_{{frame:04}}.{suffix}",
        check_pixels=pixels,
    )


async def test_check_pixels_refuses_what_cannot_be_decoded_and_says_how_files_are_proven(farm: Farm) -> None:
    sound, by_structure, refused, unknown = await asyncio.gather(
        farm.run(written_job(farm, "sound", pixels=True)),
        farm.run(written_job(farm, "hollow", pixels=False)),
        # One after the other: a chunk that is stopped by the failure of another keeps frames that nothing has decoded.
        farm.run(written_job(farm, "hollow", pixels=True).model_copy(update={"max_parallel": 1})),
        farm.run(written_job(farm, "sound", "xyz", pixels=True)),
    )

    assert sound.result is not None
    assert (sound.result.image_proof, sound.notices) == ("pixels", ())
    assert by_structure.result is not None
    assert by_structure.result.image_proof == "structure"
    assert refused.state is JobState.FAILED
    assert re.search(r"f_0001\.png cannot be decoded", refused.error or "")
    assert kept_frames(farm.store, refused.id) == []
    assert unknown.result is not None
    assert unknown.result.image_proof == "content"
    assert "chunk 0: .xyz files are proven by their content alone" in unknown.notices


def kept_frames(store: Path, job: str) -> list[Path]:
    return [path for path in (store / ".longtake" / job).rglob("frames/*/*") if path.suffix == ".png"]


async def test_a_picture_that_is_the_one_file_of_its_chunk_is_proven_by_its_structure(farm: Farm) -> None:
    """Many name one frame a chunk by `{start}`, and half a picture is there and not empty, too."""
    sound, cut = farm.store / "sound", farm.store / "cut"
    sound.write_bytes(png(1, size=32))
    cut.write_bytes(png(1, size=32)[:60])
    jobs = [
        image_job(
            farm,
            frames=FrameRange(first=1, count=2, per_chunk=1),
            command=("sh", "-c", 'cp "$0" "$1"', str(content), "{output}"),
            chunk_output=f"{content.name}-{number}/f_{{start:04}}.png",
            pictures=pictures,
        )
        for content in (sound, cut)
        for number, pictures in enumerate(("none", {"size": 320}))
    ]
    states = await asyncio.gather(*map(farm.run, jobs))

    assert [status.state for status in states] == [JobState.COMPLETED] * 2 + [JobState.FAILED] * 2
    assert all("png is cut short" in (status.error or "") for status in states[2:])


async def test_a_picture_of_another_format_is_told_without_the_rate(farm: Farm) -> None:
    picture = farm.store / "p"
    picture.write_bytes(png(1))
    job = image_job(
        farm,
        frames=FrameRange(first=1, count=1, per_chunk=1),
        command=("sh", "-c", 'cp "$0" "$1/f_0001.jpg"', str(picture), "{output_dir}"),
        chunk_output="j/f_{frame:04}.jpg",
    )
    status = await farm.run(job)

    assert "f_0001.jpg is a PNG file, not a JPEG file; it would be the same again, so change the command" in str(status)
    assert "or fps" not in str(status)

"""Chunks and film have digests of their own: another film is made of the chunks that are there."""

import json
from typing import Any

import av
import pytest
from support.farm import Farm

from longtake import JobState, JobStatus, RenderJobSpec

pytestmark = pytest.mark.integration

FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")
PICTURES = (*FFMPEG, "-f", "lavfi", "-i", "color=red:s=64x36:r=24", "-frames:v", "{count}")
# A line for each run of the renderer.
COUNTED = ("sh", "-c", 'echo {chunk} >> rendered.txt; "$@"', "sh")


def sequence(farm: Farm, **fields: Any) -> RenderJobSpec:
    """A film of three chunks of two images."""
    return RenderJobSpec.model_validate(
        {
            "name": "shot",
            "frames": {"first": 1, "count": 6, "per_chunk": 2},
            "fps": "24",
            "command": (*COUNTED, *PICTURES, "-start_number", "{start}", "{output}"),
            "chunk_output": "f/f_{frame:04}.png",
            "output": "film.mp4",
            "encode": ("-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p"),
            "base_dir": str(farm.store),
            **fields,
        }
    )


def rendered(farm: Farm) -> list[str]:
    return sorted((farm.store / "rendered.txt").read_text().split())


async def completed(farm: Farm, job: RenderJobSpec) -> JobStatus:
    status = await farm.run(job)
    assert status.state is JobState.COMPLETED, status.error
    return status


def forget_chunk_digests(farm: Farm, job_id: str) -> None:
    """Make the records of a job those of a version before chunks had digests of their own."""
    for path in (farm.store / ".longtake" / job_id / "chunks").iterdir():
        record = json.loads(path.read_text())
        del record["chunk_digest"]
        path.write_text(json.dumps(record))


async def test_another_film_renders_no_chunk(farm: Farm) -> None:
    first = await completed(farm, sequence(farm))
    old_film = (farm.store / "film.mp4").read_bytes()
    forget_chunk_digests(farm, first.id)

    crf = ("-c:v", "libx264", "-crf", "40", "-pix_fmt", "yuv420p")
    other = await completed(farm, sequence(farm, encode=crf, if_exists="reuse"))
    prores = ("-c:v", "prores_ks", "-vf", "scale=32:18")
    third = await completed(farm, sequence(farm, encode=prores, output="film.mov", fps="12", if_exists="reuse"))
    longer = sequence(farm, frames={"first": 1, "count": 8, "per_chunk": 2}, output="longer.mp4", if_exists="reuse")
    fourth = await completed(farm, longer)

    assert (other.skipped_chunks, third.skipped_chunks, fourth.skipped_chunks) == (3, 3, 3)
    assert rendered(farm) == ["0", "1", "2", "3"]
    assert (farm.store / "film.mp4").read_bytes() != old_film
    assert [path.read_bytes() for path in (farm.store / ".longtake" / other.id / "aside").iterdir()] == [old_film]
    with av.open(farm.store / "film.mov") as film:
        assert [f"{each.width} {each.average_rate}" for each in film.streams.video] == ["32 12"]
    assert fourth.result is not None
    assert fourth.result.frames == 8


async def test_films_and_chunks_of_other_work_are_refused(farm: Farm) -> None:
    await completed(farm, sequence(farm))

    other = sequence(farm, command=(*PICTURES, "-start_number", "{start}", "-y", "{output}"), if_exists="reuse")
    chunks = await farm.run(other)
    film = await farm.run(other.model_copy(update={"chunk_output": "g/g_{frame:04}.png"}))

    assert "f_0001.png is there already" in (chunks.error or "")
    assert "film.mp4 is there already" in (film.error or "")
    assert "g" not in {path.name for path in farm.store.iterdir()}

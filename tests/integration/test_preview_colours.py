"""The small copy of image files has the colours of their film."""

import io
from pathlib import Path
from typing import Any

import av
import numpy
import numpy.typing
import pytest
from support.jobs.stored_jobs import Place
from support.media.colour_config import ROOTS
from support.previews import connected, read_playlist

from longtake import FrameRange, JobState, RenderJobSpec, Retry

pytestmark = pytest.mark.integration

BARS = ("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "smptehdbars=s=192x108:r=25,format=gbrpf32le")
RENDER = (*BARS, "-frames:v", "{count}", "-start_number", "{start}", "{output}")


def first_picture(film: bytes) -> "numpy.typing.NDArray[numpy.int64]":
    with av.open(io.BytesIO(film), "r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)


@pytest.mark.parametrize(
    "colour",
    [
        None,
        {"input": "ACEScg", "output": "sRGB - Display", "view": "ACES 2.0 - SDR 100 nits (Rec.709)"},
        {"input": "light", "output": "roots", "config": "roots.ocio"},
    ],
    ids=["none", "built-in", "file"],
)
async def test_a_copy_of_linear_pictures_looks_as_the_film_does(
    place: Place, tmp_path: Path, colour: dict[str, str] | None
) -> None:
    base = tmp_path / "project" if place.is_bucket else Path(place.url)
    base.mkdir(exist_ok=True)
    (base / "roots.ocio").write_text(ROOTS)
    fields: dict[str, Any] = {"store": place.url} if place.is_bucket else {}
    job = RenderJobSpec.model_validate(
        {
            "frames": FrameRange(count=4, per_chunk=2),
            "fps": 25,
            "command": RENDER,
            "chunk_output": "f/{frame:04}.exr",
            "output": "film.mp4",
            "colour": colour,
            "base_dir": str(base),
            "retry": Retry(attempts=1),
            **fields,
        }
    )
    status = await place.farm.run(job)
    assert status.state is JobState.COMPLETED, status.error

    async with connected(place.farm) as web:
        film = await web.get(f"jobs/{status.id}/outputs/file", params={"path": "film.mp4"})
        copy = await (await read_playlist(web, status.id, proxy=1)).fetch(web)

    wanted, shown = first_picture(film.content), first_picture(copy)
    # Within the bars: their edges are those of two encoders, of which that of the copy is coarse in blue.
    for column in range(36, 160, 20):
        assert abs(shown[20, column] - wanted[20, column]).max() <= 20, (column, shown[20, column], wanted[20, column])

"""Which frames have a small picture: bounded, spread, and the same whoever decides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake import RenderJobSpec
from longtake.jobfile.loader import read_job
from longtake.models.pictures import MOST_PICTURES, MOST_PICTURES_OF_CHUNK, PictureSpec, choose_frames


def job(**fields: Any) -> RenderJobSpec:
    base = {"frames": {"count": 10}, "command": ["render", "{output}"], "chunk_output": "c/{chunk}.mp4", "fps": 24}
    return RenderJobSpec.model_validate({**base, "base_dir": "/farm", **fields})


def test_pictures_do_not_change_the_digest_of_a_job() -> None:
    assert job().digest() == job(pictures="none").digest() == job(pictures={"size": 640}).digest()


def test_a_job_without_pictures_travels_as_it_is_written() -> None:
    assert job().to_wire().get("pictures") is None
    assert job(pictures="none").to_wire()["pictures"] == "none"
    assert RenderJobSpec.model_validate(job(pictures="none").to_wire()).pictures == "none"
    assert RenderJobSpec.model_validate(job(pictures={"size": 640}).to_wire()).pictures == PictureSpec(size=640)


@pytest.mark.parametrize("value", ["never", {"size": 10}, {"size": 100_000}, {"sise": 320}, 5])
def test_other_values_are_refused_with_the_key(value: object) -> None:
    with pytest.raises(Exception, match=r"pictures"):
        read_job({**job().to_wire(), "contract": 1, "pictures": value} if value == 5 else _document(value))


def _document(value: object) -> dict[str, Any]:
    return {
        "frames": {"count": 10},
        "fps": 24,
        "command": ["ffmpeg", "{output}"],
        "chunk_output": "c/{chunk}.mp4",
        "base_dir": "/farm",
        "pictures": value,
    }


@given(st.integers(1, 1_000_000), st.integers(1, 100_000), st.booleans())
def test_a_job_has_a_bounded_number_of_pictures(chunks: int, frames: int, is_sequence: bool) -> None:
    step = -(-chunks // MOST_PICTURES)
    of_one = choose_frames(0, chunks, frames, is_sequence=is_sequence)

    assert 1 <= len(of_one) <= MOST_PICTURES_OF_CHUNK
    assert -(-chunks // step) * len(of_one) <= MOST_PICTURES
    assert list(of_one) == sorted(set(of_one))
    assert of_one[-1] < frames
    if step > 1:
        assert choose_frames(1, chunks, frames, is_sequence=is_sequence) == ()

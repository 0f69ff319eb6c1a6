"""Model the small pictures that finished chunks leave in the store, to be looked at while a job renders."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from longtake.models.fields import Contract

# Of a job; those of a picture have 10 to 40 KB each.
MOST_PICTURES = 2_000
# Of a chunk of image files.
MOST_PICTURES_OF_CHUNK = 4


class PictureSpec(Contract):
    """Settings of the small pictures that finished chunks leave."""

    size: int = Field(default=320, ge=64, le=1024, description="longest side of a picture, in pixels")


def _form(value: object) -> str:
    return "section" if isinstance(value, dict | PictureSpec) else "[name]"


Pictures = Annotated[
    Annotated[Literal["none"], Tag("[name]")] | Annotated[PictureSpec, Tag("section")],
    Discriminator(_form),
]


def choose_frames(chunk: int, chunk_count: int, frame_count: int, *, is_sequence: bool) -> tuple[int, ...]:
    """Choose the frames of a chunk of which there are pictures, counted from its first one.

    By numbers of the job alone, so that any worker chooses alike and a chunk that is rendered again has the same.

    Args:
        chunk: Number of the chunk.
        chunk_count: How many chunks the job has.
        frame_count: How many frames the chunk has.
        is_sequence: Whether each frame is a file of its own; of a video only the first frame is decoded.
    """
    if chunk % -(-chunk_count // MOST_PICTURES):
        return ()
    if not is_sequence:
        return (0,)
    count = min(frame_count, MOST_PICTURES_OF_CHUNK, max(1, MOST_PICTURES // chunk_count))
    return tuple(number * frame_count // count for number in range(count))

"""The first picture of a film, and what the film says of its colours."""

from dataclasses import dataclass
from pathlib import Path

import av


@dataclass(frozen=True)
class FirstPicture:
    """What a film shows first.

    Attributes:
        pixel_format: Pixel format, by ffmpeg's name.
        tags: Matrix, primaries, transfer and range.
        size: Width and height.
        samples: The samples of the first pixel.
    """

    pixel_format: str
    tags: list[int]
    size: tuple[int, int]
    samples: list[int]


def first_picture(film: Path) -> FirstPicture:
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        picture = next(container.decode(stream))
        context = stream.codec_context
        tags = [int(context.colorspace), int(context.color_primaries), int(context.color_trc), int(context.color_range)]
        size = 2 if any(component.bits > 8 for component in picture.format.components) else 1
        samples = [int.from_bytes(bytes(plane)[:size], "little") for plane in picture.planes]
        return FirstPicture(picture.format.name, tags, (context.width, context.height), samples)

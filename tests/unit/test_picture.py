"""Small pictures of decoded frames: their size, their shape, and their weight."""

import os
from fractions import Fraction

import av
import pytest

from activities.media.picture import encode_jpeg, fit_size, make_picture


@pytest.mark.parametrize(
    ("width", "height", "aspect", "wanted"),
    [
        (1920, 1080, 1, (320, 180)),
        (1080, 1920, 1, (180, 320)),
        (720, 576, Fraction(16, 11), (320, 176)),
        (1440, 1080, Fraction(4, 3), (320, 180)),
        (1920, 540, Fraction(1, 2), (320, 180)),
        (100, 50, 1, (100, 50)),
        (100_000, 1, 1, (320, 1)),
    ],
)
def test_the_longest_side_is_bounded_and_none_is_enlarged(
    width: int, height: int, aspect: Fraction, wanted: tuple[int, int]
) -> None:
    assert fit_size(width, height, 320, Fraction(aspect)) == wanted


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuv444p12le", "rgb24", "gray", "yuva420p", "rgba64le", "gbrpf32le", "nv12", "pal8", "ya8"]
)
def test_frames_of_any_pixel_format_make_a_picture(pixels: str) -> None:
    frame = av.VideoFrame(96, 64, "rgba").reformat(format=pixels) if pixels != "pal8" else av.VideoFrame(96, 64, "pal8")

    assert make_picture(frame, longest=48).startswith(b"\xff\xd8\xff")


def test_a_picture_of_noise_is_small_all_the_same() -> None:
    frame = av.VideoFrame(320, 180, "yuvj420p")
    for plane in frame.planes:
        plane.update(os.urandom(plane.buffer_size))

    assert len(encode_jpeg(frame)) < 40_000

"""Small pictures of image files come from a process of their own, which files of others may end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.jobs.images import png

from activities.media.images.picture_process import PictureFailedError, PictureProcess
from longtake.models.colour import DEFAULT_CONFIG


@pytest.fixture(scope="module")
def process() -> Iterator[PictureProcess]:
    with PictureProcess(DEFAULT_CONFIG) as process:
        yield process


def make(process: PictureProcess, path: Path, reader: str = "png") -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return process.make_picture(descriptor, suffix=path.suffix, reader=reader, longest=320, colours=None)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("reader", ["png", ""])
def test_a_file_that_has_lost_its_name_makes_a_picture(process: PictureProcess, tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    try:
        made = process.make_picture(descriptor, suffix=".png", reader=reader, longest=320, colours=None)
    finally:
        os.close(descriptor)

    assert made.startswith(b"\xff\xd8\xff")


def test_a_damaged_file_makes_none_and_the_next_one_does(process: PictureProcess, tmp_path: Path) -> None:
    damaged, sound = tmp_path / "damaged.png", tmp_path / "sound.png"
    damaged.write_bytes(png(7)[:40])
    sound.write_bytes(png(7))

    with pytest.raises(PictureFailedError, match=r"\w"):
        make(process, damaged)
    assert make(process, sound).startswith(b"\xff\xd8\xff")


def test_a_process_that_dies_is_started_again(process: PictureProcess, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    make(process, path)
    assert process.process is not None
    process.process.kill()
    process.process.wait()

    assert make(process, path).startswith(b"\xff\xd8\xff")


def test_an_unknown_conversion_is_a_sentence(process: PictureProcess, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    descriptor = os.open(path, os.O_RDONLY)
    colours = {"input": "no such space", "output": "sRGB", "view": ""}

    with pytest.raises(PictureFailedError, match="no such space"):
        process.make_picture(descriptor, suffix=".png", reader="png", longest=320, colours=colours)
    os.close(descriptor)

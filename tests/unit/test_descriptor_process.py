"""Files of others are read by a process of its own, which they may end."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs.images import png

from activities.attempts.pictures import PictureProcess
from activities.media.images.image_formats import ImageFormat, find_formats
from longtake.descriptor_process import ProcessFailedError
from longtake.models.colour import DEFAULT_CONFIG


@pytest.fixture(scope="module")
def process() -> Iterator[PictureProcess]:
    process = PictureProcess(DEFAULT_CONFIG)
    yield process
    process.close()


(PNG,) = find_formats(".png")


def make(process: PictureProcess, path: Path, kind: ImageFormat = PNG) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return process.make_picture(descriptor, kind, suffix=path.suffix, longest=320, colours=None)[0]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("reader", ["png", ""])
def test_a_file_that_has_lost_its_name_makes_a_picture(process: PictureProcess, tmp_path: Path, reader: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()
    try:
        made = process.make_picture(descriptor, replace(PNG, reader=reader), suffix=".png", longest=320, colours=None)[
            0
        ]
    finally:
        os.close(descriptor)

    assert made.startswith(b"\xff\xd8\xff")


def test_a_damaged_file_makes_none_and_the_next_one_does(process: PictureProcess, tmp_path: Path) -> None:
    damaged, sound = tmp_path / "damaged.png", tmp_path / "sound.png"
    damaged.write_bytes(png(7)[:40])
    sound.write_bytes(png(7))

    with pytest.raises(ProcessFailedError, match=r"\w"):
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

    with pytest.raises(ProcessFailedError, match="no such space"):
        process.make_picture(descriptor, PNG, suffix=".png", longest=320, colours=colours)
    os.close(descriptor)


@pytest.mark.parametrize("reader", ["png", ""])
def test_no_list_of_other_files_is_followed(process: PictureProcess, tmp_path: Path, reader: str) -> None:
    (tmp_path / "secret.png").write_bytes(png(7))
    path = tmp_path / "a.png"
    path.write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret.png'\n")

    with pytest.raises(ProcessFailedError):
        make(process, path, replace(PNG, reader=reader))


def find_folders(place: Path) -> list[Path]:
    return list(place.glob("longtake-files-*"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize("is_killed", [False, True])
def test_its_folder_goes_with_it(tmp_path: Path, temporary: Path, is_killed: bool) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    process = PictureProcess(DEFAULT_CONFIG)
    make(process, path)
    assert process.process is not None
    assert len(find_folders(temporary)) == 1

    if is_killed:
        process.process.kill()
    process.close()

    assert not find_folders(temporary)


def test_it_removes_its_folder_when_the_one_that_asks_is_killed(tmp_path: Path, temporary: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(7))
    process = PictureProcess(DEFAULT_CONFIG)
    make(process, path)
    assert process.process is not None
    assert process.channel is not None

    # As the kernel does it for a killed process.
    process.channel.close()
    process.process.wait(timeout=60)

    assert not find_folders(temporary)
    process.close()

"""Blocks of a large file are found at once, and those that it does not need are given back."""

import sys
from pathlib import Path

import pytest

from activities.media.disk_space import release_space, reserve_space

SIZE_BYTES = 8 << 20


def count_bytes_on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reserves blocks behind the end of a file")
def test_a_file_has_its_blocks_and_keeps_its_length_and_content(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(b"head")

    reserve_space(path, SIZE_BYTES)

    assert count_bytes_on_disk(path) >= SIZE_BYTES
    assert path.read_bytes() == b"head"
    release_space(path)
    assert count_bytes_on_disk(path) < SIZE_BYTES
    assert path.read_bytes() == b"head"


def test_a_disk_without_room_is_left_to_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(b"head")

    reserve_space(path, 1 << 60)
    release_space(path)

    assert count_bytes_on_disk(path) < SIZE_BYTES
    assert path.read_bytes() == b"head"

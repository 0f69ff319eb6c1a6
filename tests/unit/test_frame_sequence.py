"""Frames that are finished: told by their last byte, by rest, or by the next one."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.jobs.images import png

from activities.attempts.frame_sequence import FinishedFrameScanner


def test_a_png_counts_only_when_its_last_byte_is_there(tmp_path: Path) -> None:
    path = tmp_path / "0.png"
    looks = FinishedFrameScanner({0: path})
    whole = png(0)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert looks.take_finished(writer_is_done=True) == []
    assert not looks.is_complete()

    path.write_bytes(whole)

    assert looks.is_complete()
    assert [found.path for found in looks.take_finished()] == [path]
    assert looks.take_finished() == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]

    def forward(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return forward


def test_a_picture_without_an_end_mark_counts_when_it_rests(
    tmp_path: Path, ffmpeg: str, clock: Callable[[float], None]
) -> None:
    path = tmp_path / "0.bmp"
    picture = [ffmpeg, "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=16x16", "-frames:v", "1"]
    subprocess.run([*picture, str(path)], check=True)
    looks = FinishedFrameScanner({0: path})

    assert not looks.is_complete()
    clock(1.9)
    os.utime(path)
    assert not looks.is_complete()
    clock(1.9)
    assert not looks.is_complete()
    clock(0.2)
    assert looks.is_complete()


def test_a_file_of_an_unknown_kind_counts_only_when_the_next_one_is_begun(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    files = {number: tmp_path / f"{number}.raw" for number in range(3)}
    looks = FinishedFrameScanner(files)
    for number in (0, 1):
        files[number].write_bytes(b"lines")
        os.utime(files[number], ns=(number, number + 1))

    assert [found.frame for found in looks.take_finished()] == [0]
    clock(60)
    assert looks.take_finished() == []
    assert [found.frame for found in looks.take_finished(writer_is_done=True)] == [1]

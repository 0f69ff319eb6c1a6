"""Progress: read from what renderers print, cut anywhere, and from the files they finish."""

from pathlib import Path

import pytest

from activities.backends.progress import ProgressReader, last_lines


@pytest.mark.parametrize(
    ("printed", "frames"),
    [
        (b"frame=12\nfps=29.9\nprogress=continue\nframe=27\nprogress=continue\n", 27),
        (b"frame=   12 fps=0.0 q=0.0 size=0kB\rframe=   48 fps= 24 q=28.0 size=1kB\r", 48),
        (b"Progress: Rendered 7 / 100 frames\n", 7),
        (b"Rendered 31/300\n", 31),
        (b"Video: 24 fps, 640x360, 12 frames dropped\n", 0),
        (b"\xff\xfe\x00frame=5\n\x00", 5),
        (b"", 0),
    ],
)
def test_frames_are_read_from_what_renderers_print(tmp_path: Path, printed: bytes, frames: int) -> None:
    log = tmp_path / "log"
    log.write_bytes(printed)

    assert ProgressReader(log, None).read() == frames


def test_a_number_cut_by_two_reads_is_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = ProgressReader(log, None)
    log.write_bytes(b"frame=1")
    assert reader.read() == 1
    log.write_bytes(b"frame=150\n")

    assert reader.read() == 150


def test_progress_never_goes_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader = ProgressReader(log, None)
    log.write_bytes(b"frame=90\n")
    reader.read()
    with log.open("ab") as more:
        more.write(b"second pass\nframe=3\n")

    assert reader.read() == 90


def test_files_are_counted_but_for_the_one_being_written(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    (frames / "beauty").mkdir(parents=True)
    reader = ProgressReader(tmp_path / "log", frames)
    assert reader.read() == 0
    for number in range(4):
        (frames / "beauty" / f"{number}.png").touch()

    assert reader.read() == 3


def test_a_renderer_that_prints_without_end_is_read_from_its_newest_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"frame=1\n" + b"x" * 5_000_000 + b"\nframe=77\n")

    assert ProgressReader(log, None).read() == 77


def test_the_end_of_a_log_is_told_in_one_line_of_plain_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n\x1b[31mError:\x1b[0m no codec\r\n\x00\x07bad \xff byte\n\n")

    assert last_lines(log, lines=2) == "Error: no codec | bad \ufffd byte"

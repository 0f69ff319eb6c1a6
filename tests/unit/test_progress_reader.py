"""Progress as it is read from a log that grows: whole lines, never back, at a bounded cost."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from support.renderers.printed_output import CUTS, OUTPUT, pieces
from support.renderers.progress_printer import ProgressPrinter

from activities.progress.reader import ProgressReader, Reading
from longtake.models.policies import ProgressFormat, ProgressSpec


def test_that_it_failed_is_heard_of_a_renderer_that_prints_very_much_after_it(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path)

    assert (
        log.prints("openjd_fail: No licence\n" + "a line like any other\n" * 40_000).fatal == "openjd_fail: No licence"
    )


def test_redacted_values_are_never_shown(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path)
    log.prints("openjd_redacted_env: KEY=hunter22\n")
    log.prints('openjd_redacted_env: "TWO=lines of\\nsecret text"\n')
    reading = log.prints("openjd_status: using hunter22\nopenjd_fail: secret text and hunter22 refused\n")

    assert reading.message == "using ********"
    assert reading.fatal == "openjd_fail: ******** and ******** refused"


@pytest.mark.parametrize("format", [ProgressFormat.BLENDER, ProgressFormat.NONE, ProgressFormat.HELIOS])
def test_other_formats_than_the_one_asked_for_are_not_read(tmp_path: Path, format: ProgressFormat) -> None:
    assert ProgressPrinter(tmp_path, format).prints("frame=12\nopenjd_progress: 50\nopenjd_fail: no\n") == Reading()


def test_a_number_cut_by_two_reads_is_read_whole(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path, stop=300)

    assert log.prints("Rendered 1/3").frames_done == 0
    assert log.prints("00\n").frames_done == 1


def test_the_last_line_counts_at_the_end_though_nothing_ends_it(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path)
    log.prints("frame=100")

    assert log.reader.read(ended=True).frames_done == 100


def test_the_last_reading_finds_what_no_listing_was_due_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, list_folder = ProgressPrinter(tmp_path, counted_dir=tmp_path), os.listdir

    def list_slowly(folder: Path) -> list[str]:
        time.sleep(0.05)
        return list_folder(folder)

    monkeypatch.setattr("os.listdir", list_slowly)
    log.prints("one line\n")
    # The middle was dropped as a disk was full, so that only a listing finds what comes after it.
    (tmp_path / f"{log.log.name}.500").write_text("cut line\nopenjd_fail: No licence\n")

    assert log.reader.read(ended=True).fatal == "openjd_fail: No licence"


def test_progress_never_goes_back_nor_past_the_end(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path)
    log.prints("frame=90\n")

    assert log.prints("second pass\nframe=3\n").frames_done == 90
    assert log.prints("frame=3000\n").frames_done == 100


def test_a_command_is_not_credited_with_what_the_one_before_it_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("frame=90\nopenjd_fail: no licence\n")
    reader = ProgressReader(log, ProgressSpec(), frames=range(90, 100), counted_dir=None, since=log.stat().st_size)
    with log.open("a") as more:
        more.write("frame=4\n")

    assert reader.read() == Reading(4)
    assert reader.printed_bytes == log.stat().st_size


def test_a_renderer_that_prints_without_end_is_read_from_its_newest_words(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path)

    assert log.prints(b"frame=1\n" + b"x" * 5_000_000 + b"\nframe=77\n").frames_done == 77
    assert log.reader.printed_bytes == 5_000_018


@pytest.mark.parametrize("cut", [b"its end.......\n", b"openjd_fail: a\n"])
def test_what_stands_beside_left_out_output_is_no_whole_line(tmp_path: Path, cut: bytes) -> None:
    log = ProgressPrinter(tmp_path)
    log.prints("openjd_fail: ")
    # The newest 64 KiB are read, and 1 MiB before them is searched; that begins inside of a line.
    searched = cut + b"." + b"at work\n" * ((1024 + 64) * 1024 // 8 - 2)

    assert log.prints(b"x" * 5000 + searched) == Reading()


def test_lines_longer_than_any_are_cut_and_the_next_one_is_read(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path)
    log.prints(b"x" * 60_000)
    log.prints(b"x" * 60_000)

    assert log.prints(b"frame=5\nframe=7\n").frames_done == 7


def test_binary_output(tmp_path: Path) -> None:
    assert ProgressPrinter(tmp_path).prints(b"\xff\xfe\x00fr\x00ame=5\n\x00frame=6\x00\n\xf0\x9f").frames_done == 6


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    log = ProgressPrinter(tmp_path / "later")

    assert log.reader.read() == Reading()


def test_files_are_counted_but_for_the_one_being_written(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    assert ProgressPrinter(tmp_path, counted_dir=frames).reader.read().frames_done == 0
    (frames / "beauty").mkdir(parents=True)
    for number in range(4):
        (frames / "beauty" / f"{number}.png").touch()

    # By another reader: the next listing of the first one is due only when it has waited.
    assert ProgressPrinter(tmp_path, counted_dir=frames).reader.read().frames_done == 3


def followed(printed: list[bytes]) -> list[Reading]:
    """The readings after each piece, and at the end."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        reader = ProgressReader(log, ProgressSpec(), frames=range(1, 40), counted_dir=None)
        readings = []
        with log.open("wb", buffering=0) as file:
            for piece in printed:
                file.write(piece)
                readings.append(reader.read())
        return [*readings, reader.read(ended=True)]


@given(OUTPUT, CUTS)
def test_progress_is_the_same_however_output_is_cut(data: bytes, cuts: list[int]) -> None:
    readings = followed(pieces(data, cuts))

    assert readings[-1] == followed([data])[-1]
    frames = [reading.frames_done for reading in readings]
    assert frames == sorted(frames)
    assert all(0 <= count <= 39 for count in frames)
    assert all(len(reading.message) <= 200 and _is_plain(reading.message) for reading in readings)
    assert all(_is_plain(reading.fatal or "") for reading in readings)


def _is_plain(text: str) -> bool:
    return all(letter == "\t" or (letter >= " " and not "\x7f" <= letter <= "\x9f") for letter in text)

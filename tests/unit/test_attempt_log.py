"""Logs in segments, read while they are written and while their middles are deleted."""

import os
import threading
import time
from pathlib import Path

import pytest

from activities.processes.child import SEGMENT_BYTES, BoundedLog
from longtake.attempt_log import AttemptLog, Piece

NAME = "000007.ab12-chunk-7.1-1.log"


def written(folder: Path, segments: dict[int, bytes]) -> AttemptLog:
    for offset, data in segments.items():
        (folder / (f"{NAME}.{offset}" if offset else NAME)).write_bytes(data)
    return AttemptLog(folder / NAME)


def all_of(log: AttemptLog, most: int = 7) -> list[Piece]:
    pieces, offset = [], 0
    while (piece := log.read(offset, most)).data:
        pieces.append(piece)
        offset = piece.stop
    return pieces


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    log = AttemptLog(tmp_path / "none" / NAME)

    assert log.size == 0
    assert log.segments() == []
    assert log.read(0, 10) == Piece(0, b"")
    assert log.tail(10) == b""


def test_head_and_segments_are_one_log(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"0123456789", 10: b"abcdefghij", 20: b"KLM"})

    assert log.size == 23
    assert [segment.offset for segment in log.segments()] == [0, 10, 20]
    assert b"".join(piece.data for piece in all_of(log)) == b"0123456789abcdefghijKLM"
    assert log.read(8, 100) == Piece(8, b"89abcdefghijKLM")
    assert log.tail(5) == b"ijKLM"
    assert log.tail(100, since=21) == b"LM"
    assert log.read(23, 10) == Piece(23, b"")


def test_what_is_not_kept_is_a_gap(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"0123456789", 30: b"abcdefghij", 40: b"KLM"})

    assert log.size == 43
    assert log.read(5, 100) == Piece(5, b"56789")
    assert log.read(10, 4) == Piece(30, b"abcd")
    assert log.read(15, 100) == Piece(30, b"abcdefghijKLM")


def test_segments_are_in_order_of_their_numbers_and_other_files_are_none(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"0123456789", 900: b"x", 1000: b"y"})
    for name in (
        f"{NAME}.old",
        f"{NAME}.1²",
        f"{NAME}.-5",
        f"{NAME}.{'9' * 40}",
        "000007.other.log.2000",
        f"x{NAME}.3000",
    ):
        (tmp_path / name).write_bytes(b"zzz")

    assert [segment.offset for segment in log.segments()] == [0, 900, 1000]
    assert log.size == 1001


def test_growth_is_seen_in_each_file(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"01"})
    assert log.size == 2
    written(tmp_path, {0: b"0123"})
    assert log.size == 4
    written(tmp_path, {4: b""})
    assert log.size == 4
    written(tmp_path, {4: b"ab"})
    assert log.size == 6
    written(tmp_path, {6: b"c", 7: b"d"})
    assert log.size == 8


def test_a_log_that_begins_after_a_slow_listing_is_seen_at_once(tmp_path: Path) -> None:
    listings: list[list[str]] = []

    def list_slowly() -> list[str]:
        listings.append(os.listdir(tmp_path))
        # The next listing is due in 200 times as long.
        time.sleep(0.05)
        return listings[-1]

    log = AttemptLog(tmp_path / NAME, list_slowly)
    assert log.size == 0
    written(tmp_path, {0: b"0123"})

    assert log.size == 4
    assert log.read(0, 10) == Piece(0, b"0123")
    assert listings == [[]]


def test_a_log_that_ran_away_between_two_looks_is_found_again(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"0123456789", 10: b"a"})
    assert log.size == 11
    (tmp_path / f"{NAME}.10").unlink()
    written(tmp_path, {500: b"xyz"})

    assert log.size == 503
    assert log.read(11, 100) == Piece(500, b"xyz")


def test_what_a_full_disk_swallowed_is_a_gap(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"0123456789"})
    assert log.size == 10
    written(tmp_path, {77: b"again"})

    # The next listing is due after a time that grows with what the last one took.
    deadline = time.monotonic() + 30
    while log.size == 10 and time.monotonic() < deadline:
        pass
    assert log.size == 82


def test_a_segment_that_vanishes_between_listing_and_opening_is_a_gap(tmp_path: Path) -> None:
    log = written(tmp_path, {0: b"0123456789", 10: b"abc", 13: b"xyz"})

    def names() -> list[str]:
        found = os.listdir(tmp_path)
        (tmp_path / f"{NAME}.10").unlink(missing_ok=True)
        return found

    assert AttemptLog(log.path, names).read(10, 100) == Piece(13, b"xyz")


def test_a_folder_is_an_error_and_no_log(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()

    with pytest.raises(IsADirectoryError):
        AttemptLog(tmp_path / NAME).read(0, 10)


def test_a_writer_and_a_reader_at_once(tmp_path: Path) -> None:
    """Each number is written once, in order, by the writer that workers use; none is read twice or out of order."""
    numbers = 6 * SEGMENT_BYTES // 8
    log, done = AttemptLog(tmp_path / NAME), threading.Event()
    writer = BoundedLog(str(tmp_path / NAME))
    writer.create()

    def write() -> None:
        for first in range(0, numbers, 4096):
            writer.write(memoryview(b"".join(b"%07d\n" % number for number in range(first, first + 4096))))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    offset, wrong = 0, []
    while True:
        ended = done.is_set()
        piece = log.read(offset, 8 * 5000)
        if piece.data:
            # Offsets are those of the whole output, and files end where numbers do.
            if piece.offset % 8 == 0 and int(piece.data[:7]) != piece.offset // 8:
                wrong.append(piece.offset)
            offset = piece.stop
        elif ended:
            break
    thread.join(60)

    assert not wrong
    assert offset == log.size == numbers * 8
    kept = [segment.offset for segment in log.segments()]
    assert kept[0] == 0
    assert len(kept) == 3

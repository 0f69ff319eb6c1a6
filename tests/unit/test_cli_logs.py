"""`longtake logs`: tries, segments, lines of any length, and nothing that rules a terminal."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from activities.processes.child import SEGMENT_BYTES, BoundedLog
from longtake.attempt_log import AttemptLog
from longtake.cli.app import main
from longtake.cli.logs import LogLines, LogReader, clean_line

Captured = pytest.CaptureFixture[str]


def tries(folder: Path, *printed: str, chunk: int = 7) -> list[Path]:
    """The logs of a chunk's tries, one after the other."""
    paths = [folder / f"{chunk:06}.ab12-chunk-{chunk}.{number}-1.log" for number in range(1, len(printed) + 1)]
    for age, (path, text) in enumerate(zip(paths, printed, strict=True)):
        path.write_text(text)
        os.utime(path, (1000 + age, 1000 + age))
    return paths


def test_head_and_segments_are_printed_with_what_is_left_out_between_them(tmp_path: Path, capsys: Captured) -> None:
    (head,) = tries(tmp_path, "one\ntw")
    head.with_name(f"{head.name}.6").write_text("o\nthree\nfo")
    head.with_name(f"{head.name}.5000016").write_text("rgotten\nlast")
    LogReader(tmp_path).print_new(final=True)

    written = capsys.readouterr()
    assert written.out.splitlines() == ["one", "two", "three", "fo", "rgotten", "last"]
    assert written.err.splitlines() == [
        f"==> chunk 7, try 1 ({head.name})",
        "... 4.8 MiB are left out here: it printed more than is kept",
    ]


def test_following_goes_on_across_segments(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "000003.a-chunk-3.1-1.log"
    log, reader = BoundedLog(str(path)), LogReader(tmp_path, 3)
    log.create()
    line = b"x" * 1023 + b"\n"
    printed = 0
    for number in range(7):
        log.write(memoryview(line * (SEGMENT_BYTES // len(line) // 2) + b"end of part %d\n" % number))
        reader.print_new()
        printed += capsys.readouterr().out.count("end of part")

    assert len(list(tmp_path.iterdir())) == 4 - 1
    assert printed == 7


def test_following_does_not_print_a_line_before_it_is_complete(tmp_path: Path, capsys: Captured) -> None:
    (head,) = tries(tmp_path, "one\ntw")
    reader = LogReader(tmp_path)
    reader.print_new()
    assert capsys.readouterr().out == "one\n"
    head.with_name(f"{head.name}.6").write_text("o\nthr")
    reader.print_new()
    assert capsys.readouterr().out == "two\n"
    reader.print_new(final=True)

    assert capsys.readouterr().out == "thr\n"


def test_one_try_of_a_chunk_is_printed_alone(tmp_path: Path, capsys: Captured) -> None:
    tries(tmp_path, "first\n", "second\n", "third\n")
    tries(tmp_path, "another\n", chunk=8)
    reader = LogReader(tmp_path, 7, 2)
    reader.print_new(final=True)

    assert capsys.readouterr().out == "second\n"
    assert (reader.log_count, reader.try_count) == (1, 3)


def test_a_try_that_is_not_there_prints_nothing_and_the_others_are_known(tmp_path: Path, capsys: Captured) -> None:
    tries(tmp_path, "first\n", "second\n")
    reader = LogReader(tmp_path, 7, 5)
    reader.print_new(final=True)

    assert capsys.readouterr() == ("", "")
    assert (reader.log_count, reader.try_count) == (0, 2)


def test_a_chunk_of_seven_digits_is_not_taken_for_one_of_six(tmp_path: Path, capsys: Captured) -> None:
    tries(tmp_path, "seven digits\n", chunk=1_000_000)
    tries(tmp_path, "six digits\n", chunk=100_000)
    LogReader(tmp_path, 100_000).print_new(final=True)

    assert capsys.readouterr().out == "six digits\n"


def test_an_attempt_without_its_chunk_is_a_matter_of_usage(capsys: Captured) -> None:
    assert main(["logs", "film-1", "--attempt", "2"]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == ("longtake: --attempt: counts the tries of one chunk; name it, as in --chunk 7 --attempt 2\n")


def test_nothing_that_is_printed_rules_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    every = "".join(map(chr, range(256))).replace("\n", "")
    tries(
        tmp_path,
        f"{every}\n\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b5A\n\x1b[3{'1' * 70_000}m\n\x1b]0;{'x' * 70_000}\x07\n",
    )
    LogReader(tmp_path).print_new(final=True)

    out = capsys.readouterr().out
    assert "red" in out
    assert all(letter in "\n\t" or letter.isprintable() or letter == "\xad" or letter == "\xa0" for letter in out)


def test_redacted_values_are_masked(tmp_path: Path, capsys: Captured) -> None:
    tries(tmp_path, "openjd_redacted_env: KEY=hunter22\nusing hunter22\n")
    LogReader(tmp_path).print_new(final=True)

    assert capsys.readouterr().out == "openjd_redacted_env: KEY=********\nusing ********\n"


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_printed(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "000001.a.log").mkdir()
    tries(tmp_path, "fine\n")
    LogReader(tmp_path).print_new(final=True)

    written = capsys.readouterr()
    assert written.out == "fine\n"
    assert "000001.a.log cannot be read (Is a directory)" in written.err


def test_the_end_is_found_in_a_folder_that_takes_long_to_list(tmp_path: Path) -> None:
    (head,) = tries(tmp_path, "one\n")

    def names() -> list[str]:
        # As if there were thousands of logs: not listed again for half a second.
        time.sleep(0.003)
        return os.listdir(tmp_path)

    lines = LogLines(AttemptLog(head, names))
    assert [*lines.read_new(final=False)] == [(0, [b"one"])]
    head.with_name(f"{head.name}.100").write_text("last")

    assert [*lines.read_new(final=True)] == [(96, []), (0, [b"last"])]


def test_logs_that_vanish_or_never_were(tmp_path: Path, capsys: Captured) -> None:
    LogReader(tmp_path / "none").print_new(final=True)
    (head,) = tries(tmp_path, "one\n")
    reader = LogReader(tmp_path)
    reader.print_new()
    head.unlink()
    reader.print_new(final=True)

    assert capsys.readouterr().out == "one\n"


# Prints logs and tells by how much the process has grown for each at most, in KiB. The peak of `getrusage` would not
# do: a process takes over that of the one that started it.
PRINT = """
import sys
from pathlib import Path
from longtake.cli.logs import LogReader

def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

for folder in sys.argv[1:]:
    # The peak is from now on.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    LogReader(Path(folder)).print_new(final=True)
    print(memory("VmHWM") - before, file=sys.stderr)
    print("\\n=====", flush=True)
"""


def test_10_mb_are_printed_in_little_memory(tmp_path: Path) -> None:
    lines = [b"a line like any other\n", b"x" * 1_000_000 + b"\n", b"\x00\xff\x1b[" * 64, b"frame=1\r"]
    folders = [tmp_path / str(number) for number in range(len(lines))]
    for folder, line in zip(folders, lines, strict=True):
        folder.mkdir()
        (folder / "000000.a.log").write_bytes((line * (1_000_000 // len(line) + 1))[:1_000_000] * 10)
    ran = subprocess.run(
        [sys.executable, "-c", PRINT, *map(str, folders)], capture_output=True, check=True, timeout=120, text=True
    )

    grown = [int(line) for line in ran.stderr.splitlines() if line.isdigit()]
    for line, kib, printed in zip(lines, grown, ran.stdout.split("\n=====\n"), strict=False):
        assert kib < 5_000, line[:30]
        assert len(printed) > 1000, line[:30]
        assert max(map(len, printed.split("\n"))) <= 64 * 1024, line[:30]
    assert len(grown) == ran.stdout.count("\n=====\n") == len(lines)


def test_lines_drawn_over_and_over_are_left_as_drawn_last() -> None:
    assert clean_line("frame=1\rframe=2\r\x1b[Kframe=3\r\n") == "frame=3"


def test_logs_come_in_the_order_of_chunks_and_tries_with_the_film_last(tmp_path: Path, capsys: Captured) -> None:
    names = ("film.a-0-1", "000010.a-chunk-10.5-1", "000002.b-chunk-2.9-2", "000002.a-chunk-2.3-1", "1000000.a-1-1")
    for age, name in enumerate(names):
        path = tmp_path / f"{name}.log"
        path.write_text(f"{name}\n")
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "unfinished.tmp").write_text("x")

    LogReader(tmp_path).print_new(final=True)

    written = capsys.readouterr()
    assert written.out.split() == [names[3], names[2], names[1], names[4], names[0]]
    assert written.err.splitlines()[1] == f"==> chunk 2, try 2 ({names[2]}.log)"


def test_a_growing_log_is_printed_line_by_line_and_never_twice(tmp_path: Path, capsys: Captured) -> None:
    log, reader = tmp_path / "000003.a-chunk-3.1-1.log", LogReader(tmp_path, 3)
    log.write_text("one\ntw")
    reader.print_new()
    reader.print_new()
    log.write_text("one\ntwo\nthree")
    reader.print_new()
    assert capsys.readouterr().out == "one\ntwo\n"

    reader.print_new(final=True)
    assert capsys.readouterr().out == "three\n"

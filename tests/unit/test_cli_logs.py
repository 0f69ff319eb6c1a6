"""`longtake logs`: tries, segments, lines of any length, and nothing that rules a terminal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from activities.processes.child import SEGMENT_BYTES, BoundedLog
from longtake.cli.app import main
from longtake.cli.logs import LogReader
from longtake.stored_logs import clean_line
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import JobRecords

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    return JobRecords(DirectoryStore(tmp_path), "job")


@pytest.fixture
def logs(records: JobRecords) -> Path:
    """The folder of the logs of a job."""
    folder = Path(records.logs_dir)
    folder.mkdir(parents=True)
    return folder


def tries(folder: Path, *printed: str, chunk: int = 7) -> list[Path]:
    """The logs of a chunk's tries, one after the other."""
    paths = [folder / f"{chunk:06}.ab12-chunk-{chunk}.{number}-1.log" for number in range(1, len(printed) + 1)]
    for age, (path, text) in enumerate(zip(paths, printed, strict=True)):
        path.write_text(text)
        os.utime(path, (1000 + age, 1000 + age))
    return paths


def test_head_and_segments_are_printed_with_what_is_left_out_between_them(
    records: JobRecords, logs: Path, capsys: Captured
) -> None:
    (head,) = tries(logs, "one\ntw")
    head.with_name(f"{head.name}.6").write_text("o\nthree\nfo")
    head.with_name(f"{head.name}.5000016").write_text("rgotten\nlast")
    LogReader(records).print_new(final=True)

    written = capsys.readouterr()
    assert written.out.splitlines() == ["one", "two", "three", "fo", "rgotten", "last"]
    assert written.err.splitlines() == [
        f"==> chunk 7, try 1 ({head.name})",
        "... 4.8 MiB are left out here: it printed more than is kept",
    ]


def test_following_goes_on_across_segments(records: JobRecords, logs: Path, capsys: Captured) -> None:
    path = logs / "000003.a-chunk-3.1-1.log"
    log, reader = BoundedLog(str(path)), LogReader(records, 3)
    log.create()
    line = b"x" * 1023 + b"\n"
    printed = 0
    for number in range(7):
        log.write(memoryview(line * (SEGMENT_BYTES // len(line) // 2) + b"end of part %d\n" % number))
        reader.print_new()
        printed += capsys.readouterr().out.count("end of part")

    assert len(list(logs.iterdir())) == 4 - 1
    assert printed == 7


def test_following_does_not_print_a_line_before_it_is_complete(
    records: JobRecords, logs: Path, capsys: Captured
) -> None:
    (head,) = tries(logs, "one\ntw")
    reader = LogReader(records)
    reader.print_new()
    assert capsys.readouterr().out == "one\n"
    head.with_name(f"{head.name}.6").write_text("o\nthr")
    reader.print_new()
    assert capsys.readouterr().out == "two\n"
    reader.print_new(final=True)

    assert capsys.readouterr().out == "thr\n"


def test_one_try_of_a_chunk_is_printed_alone(records: JobRecords, logs: Path, capsys: Captured) -> None:
    tries(logs, "first\n", "second\n", "third\n")
    tries(logs, "another\n", chunk=8)
    reader = LogReader(records, 7, 2)
    reader.print_new(final=True)

    assert capsys.readouterr().out == "second\n"
    assert (reader.log_count, reader.try_count) == (1, 3)


def test_a_try_that_is_not_there_prints_nothing_and_the_others_are_known(
    records: JobRecords, logs: Path, capsys: Captured
) -> None:
    tries(logs, "first\n", "second\n")
    reader = LogReader(records, 7, 5)
    reader.print_new(final=True)

    assert capsys.readouterr() == ("", "")
    assert (reader.log_count, reader.try_count) == (0, 2)


def test_a_chunk_of_seven_digits_is_not_taken_for_one_of_six(records: JobRecords, logs: Path, capsys: Captured) -> None:
    tries(logs, "seven digits\n", chunk=1_000_000)
    tries(logs, "six digits\n", chunk=100_000)
    LogReader(records, 100_000).print_new(final=True)

    assert capsys.readouterr().out == "six digits\n"


def test_an_attempt_without_its_chunk_is_a_matter_of_usage(capsys: Captured) -> None:
    assert main(["logs", "film-1", "--attempt", "2"]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == ("longtake: --attempt: counts the tries of one chunk; name it, as in --chunk 7 --attempt 2\n")


def test_nothing_that_is_printed_rules_the_terminal(records: JobRecords, logs: Path, capsys: Captured) -> None:
    every = "".join(map(chr, range(256))).replace("\n", "")
    tries(
        logs,
        f"{every}\n\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x9b5A\n\x1b[3{'1' * 70_000}m\n\x1b]0;{'x' * 70_000}\x07\n",
    )
    LogReader(records).print_new(final=True)

    out = capsys.readouterr().out
    assert "red" in out
    assert all(letter in "\n\t" or letter.isprintable() or letter == "\xad" or letter == "\xa0" for letter in out)


def test_redacted_values_are_masked(records: JobRecords, logs: Path, capsys: Captured) -> None:
    tries(logs, "openjd_redacted_env: KEY=hunter22\nusing hunter22\n")
    LogReader(records).print_new(final=True)

    assert capsys.readouterr().out == "openjd_redacted_env: KEY=********\nusing ********\n"


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_printed(
    records: JobRecords, logs: Path, capsys: Captured
) -> None:
    (logs / "000001.a.log").symlink_to("/etc/hostname")
    tries(logs, "fine\n")
    LogReader(records).print_new(final=True)

    written = capsys.readouterr()
    assert written.out == "fine\n"
    assert "000001.a.log cannot be read (is no file of the job)" in written.err


def test_logs_that_vanish_or_never_were(records: JobRecords, logs: Path, capsys: Captured) -> None:
    LogReader(JobRecords(records.store, "none")).print_new(final=True)
    (head,) = tries(logs, "one\n")
    reader = LogReader(records)
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
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import JobRecords

def memory(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

for folder in sys.argv[1:]:
    # The peak is from now on.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    LogReader(JobRecords(DirectoryStore(Path(folder)), "job")).print_new(final=True)
    print(memory("VmHWM") - before, file=sys.stderr)
    print("\\n=====", flush=True)
"""


def test_10_mb_are_printed_in_little_memory(tmp_path: Path) -> None:
    lines = [b"a line like any other\n", b"x" * 1_000_000 + b"\n", b"\x00\xff\x1b[" * 64, b"frame=1\r"]
    folders = [tmp_path / str(number) for number in range(len(lines))]
    for folder, line in zip(folders, lines, strict=True):
        logs = folder / ".longtake" / "job" / "logs"
        logs.mkdir(parents=True)
        (logs / "000000.a.log").write_bytes((line * (1_000_000 // len(line) + 1))[:1_000_000] * 10)
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


def test_logs_come_in_the_order_of_chunks_and_tries_with_the_film_last(
    records: JobRecords, logs: Path, capsys: Captured
) -> None:
    names = ("film.a-0-1", "000010.a-chunk-10.5-1", "000002.b-chunk-2.9-2", "000002.a-chunk-2.3-1", "1000000.a-1-1")
    for age, name in enumerate(names):
        path = logs / f"{name}.log"
        path.write_text(f"{name}\n")
        os.utime(path, (1000 - age, 1000 - age))
    (logs / "unfinished.tmp").write_text("x")

    LogReader(records).print_new(final=True)

    written = capsys.readouterr()
    assert written.out.split() == [names[3], names[2], names[1], names[4], names[0]]
    assert written.err.splitlines()[1] == f"==> chunk 2, try 2 ({names[2]}.log)"


def test_a_growing_log_is_printed_line_by_line_and_never_twice(
    records: JobRecords, logs: Path, capsys: Captured
) -> None:
    log, reader = logs / "000003.a-chunk-3.1-1.log", LogReader(records, 3)
    log.write_text("one\ntw")
    reader.print_new()
    reader.print_new()
    log.write_text("one\ntwo\nthree")
    reader.print_new()
    assert capsys.readouterr().out == "one\ntwo\n"

    reader.print_new(final=True)
    assert capsys.readouterr().out == "three\n"

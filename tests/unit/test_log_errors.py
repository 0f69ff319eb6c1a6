"""The lines of a log that say why a renderer failed."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.renderers.printed_output import CUTS, OUTPUT, pieces

from activities.processes.child import SEGMENT_BYTES, BoundedLog
from activities.progress.log_errors import (
    LONGEST_LINE_BYTES,
    LineSplitter,
    decode_line,
    find_error_lines,
    read_log_tail,
)

FFMPEG_PROGRESS = (
    "frame=0\nfps=0.00\nstream_0_0_q=0.0\nbitrate=  -0.0kbits/s\ntotal_size=0\nout_time_us=N/A\nout_time=N/A\n"
    "dup_frames=0\ndrop_frames=0\nspeed=N/A\nprogress=end\n"
)
SAMPLES = {
    "ffmpeg, an odd height": (
        f"[libx264 @ 0x1] height not divisible by 2 (48x27)\n{FFMPEG_PROGRESS}",
        "[libx264 @ 0x1] height not divisible by 2 (48x27)",
    ),
    "Blender, a folder that is not there": (
        "Fra:1 Mem:10.33M (Peak 10.47M) | Time:00:00.26 | Mem:0.84M, Peak:0.84M | Scene, ViewLayer | Finished\n"
        "imb_savepng: Cannot open file for writing: '/full/f_0001.png'\n"
        "/full/f_0001.png: No such file or directory\n"
        "Error: Render error (Invalid argument) cannot save: '/full/f_0001.png'\n"
        " Time: 00:00.52 (Saving: 00:00.25)\n\n\nBlender quit\n",
        "imb_savepng: Cannot open file for writing: '/full/f_0001.png' | /full/f_0001.png: No such file or directory"
        " | Error: Render error (Invalid argument) cannot save: '/full/f_0001.png'",
    ),
    "Blender, a scene that is not there": (
        "Blender 3.4.1\nError: Cannot read file '/shots/a.blend': No such file or directory\n\nBlender quit\n",
        "Error: Cannot read file '/shots/a.blend': No such file or directory",
    ),
    "Blender 5, out of memory": (
        "00:01.327  render           | Fra: 3 | Sample 1/4\nSystem is out of GPU memory\nError: Out of memory\n"
        "00:01.400  render           | Saved: '/shots/f_0002.png'\n",
        "Error: Out of memory",
    ),
    "Python": (
        "loading\nTraceback (most recent call last):\n"
        '  File "render.py", line 1, in <module>\n    raise Quota("seats")\n__main__.Quota: 3 seats of 3 taken\n',
        "__main__.Quota: 3 seats of 3 taken",
    ),
    "OpenJD": (
        "openjd_status: working\nopenjd_fail: No seat\nopenjd_progress: 50\ncleaning up\n",
        "openjd_fail: No seat",
    ),
    "no errors at all": ("pass 1\npass 2: 0 errors\npass 3\npass 4\n", "pass 2: 0 errors | pass 3 | pass 4"),
    "progress alone": ("frame=1\nprogress=continue\n", "frame=1 | progress=continue"),
    "a status line drawn over and over": (
        "Unknown encoder 'x'\nframe=   12 fps=0.0 q=28.0 size=  0KiB time=00:00:00.40 bitrate=   0.1kbits/s speed=1x\r",
        "Unknown encoder 'x'",
    ),
    "colours and control characters": ("first\n\x1b[31mError:\x1b[0m no codec\r\n\x00\x07\x1b[2J\n", "Error: no codec"),
    "an old error, not taken for the cause of a later one": (
        "EGL Error (0x3001)\n" + "a line of work\n" * 20 + "Error: no codec\nand its details\nError: giving up\n",
        "Error: no codec | Error: giving up",
    ),
    "blank": ("\n \r\n\x00\n", ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_matters_is_told_as_one_plain_line(tmp_path: Path, sample: str) -> None:
    printed, told = SAMPLES[sample]
    log = tmp_path / "log"
    log.write_text(printed)

    assert find_error_lines(log) == told


def test_of_many_errors_the_first_and_the_last_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Error: the cause\n" + "".join(f"Error: follows {n}\n" for n in range(5)))

    assert find_error_lines(log) == "Error: the cause | Error: follows 3 | Error: follows 4"
    assert find_error_lines(log, lines=1) == "Error: the cause"


def test_what_ffmpeg_itself_says(ffmpeg: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30", "-frames:v", "9", "-progress", "pipe:1")
    with log.open("wb") as file:
        subprocess.run(
            [ffmpeg, "-nostdin", *options, str(tmp_path / "no" / "x.mp4")], stdout=file, stderr=file, timeout=60
        )

    assert "No such file or directory" in find_error_lines(log)


def test_long_lines_keep_their_beginning_and_their_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"Error {n}: {'x' * 100_000} disk {n} is full\n" for n in range(3)))
    told = find_error_lines(log)

    assert len(told) <= 600
    assert told.endswith("disk 2 is full")


def test_the_end_of_a_log_in_segments_is_its_newest_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    written = BoundedLog(str(log))
    written.create()
    for _ in range(5):
        written.write(memoryview(b"x" * (SEGMENT_BYTES - 1) + b"\n"))
    written.write(memoryview(b"Error: no codec\n"))

    assert find_error_lines(log) == "Error: no codec"


def test_what_an_earlier_command_printed_is_not_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Error: of the render\n")
    since = log.stat().st_size
    assert find_error_lines(log, since=since) == ""
    with log.open("a") as more:
        more.write("the check says no\n")

    assert find_error_lines(log, since=since) == "the check says no"


def test_redacted_values_are_told_nowhere_however_long_ago_they_were_declared(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("openjd_redacted_env: KEY=hunter22\n" + "at work\n" * 50_000 + "Error: hunter22 was refused\n")

    assert find_error_lines(log) == "Error: ******** was refused"
    assert "hunter22" not in read_log_tail(log)


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert find_error_lines(tmp_path / "none" / "log") == read_log_tail(tmp_path / "log") == ""


@given(OUTPUT, CUTS, st.integers(0, 3))
def test_lines_are_the_same_however_output_is_cut(data: bytes, cuts: list[int], longer: int) -> None:
    # Some of it in one line that is longer than any is kept.
    data = data.replace(b"ViewLayer", b"x" * (LONGEST_LINE_BYTES * longer // 2))
    splitter, at_once = LineSplitter(), LineSplitter()
    lines = [line for piece in pieces(data, cuts) for line in splitter.feed(piece)] + [*splitter.finish()]

    assert lines == [*at_once.feed(data), *at_once.finish()]
    assert all(0 < len(line) <= LONGEST_LINE_BYTES for line in lines)
    assert all(_is_plain(decode_line(line)) for line in lines)


@given(OUTPUT)
def test_the_end_of_any_log_can_be_told(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.write_bytes(data)
        told = find_error_lines(log)

        assert len(told) <= 600
        assert _is_plain(told)
        assert all(_is_plain(line) for line in read_log_tail(log).split("\n"))


def _is_plain(text: str) -> bool:
    return all(letter == "\t" or (letter >= " " and not "\x7f" <= letter <= "\x9f") for letter in text)

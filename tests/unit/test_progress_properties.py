"""Whatever is printed and however it is cut: nothing raises, nothing goes back, and the end is the same."""

from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from activities.progress.log_errors import (
    LONGEST_LINE_BYTES,
    LineSplitter,
    decode_line,
    find_error_lines,
    read_log_tail,
)
from activities.progress.reader import ProgressReader, Reading
from longtake.models.policies import ProgressSpec

PRINTED = Path(__file__).parent / "printed"

CAPTURED = [
    *(PRINTED / "blender-3.4-cycles.txt").read_bytes().splitlines(keepends=True),
    *(PRINTED / "blender-3.4-workbench-video.txt").read_bytes().splitlines(keepends=True),
    *(b"frame=7\n", b"speed=1.2x\n", b"progress=continue\n", b"frame=   12 fps=0.0 q=28.0 speed=N/A\r"),
    *(b"openjd_progress: 12.5\n", b"openjd_status: working\n", b"openjd_fail: no\n", b"openjd_progress: x\n"),
    *(b"openjd_redacted_env: KEY=hunter22\n", b"openjd_status: hunter22\n", b"openjd_redacted_env: [[[[\n"),
    *(b"Rendered 3/9\r", b"Progress: Rendered 4 / 9 frames\n", b"Fra:", b"Saved: '", b"\x1b[2K", b"\x1b]0;", b"\x00"),
    *(
        b"Error: no\n",
        b"Traceback (most recent call last):\n",
        b"  File\n",
        b"ValueError: x\n",
        b"\xff",
        b"\xc3",
        b"\r\n",
    ),
]

OUTPUT = st.lists(st.one_of(st.sampled_from(CAPTURED), st.binary(max_size=40)), max_size=60).map(b"".join)
CUTS = st.lists(st.integers(0, 4000), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(edges)]


def followed(printed: list[bytes]) -> list[Reading]:
    """The readings after each piece, and at the end."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        reader = ProgressReader(log, ProgressSpec(), start=1, stop=40, counted_dir=None)
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

"""A job's own patterns: what they say, and that no pattern can hold a worker up."""

import gc
import logging
import time
from pathlib import Path

import psutil
import pytest

from activities.progress.patterns import LogPatternSearch, UserPatterns
from activities.progress.reader import ProgressReader, Reading
from longtake.models.policies import ProgressFormat, ProgressSpec


def read(folder: Path, printed: str, *patterns: str, fatal: tuple[str, ...] = ()) -> Reading:
    """What is read of a render of frames 100 to 149."""
    spec = ProgressSpec(format=ProgressFormat.NONE, patterns=patterns, fatal_patterns=fatal)
    log = folder / "log"
    log.write_text(printed)
    return ProgressReader(log, spec, frames=range(100, 150), counted_dir=None).read()


@pytest.mark.parametrize(
    ("pattern", "printed", "frames"),
    [
        (r"Frame (?P<frame>\d+)", "Frame 112 begins\n", 12),
        (r"Frame (?P<frame>\d+)", "Frame 0112\n", 12),
        (r"Frame (?P<frame>\d+)", "Frame 12\n", 0),
        (r"did (?P<done>\d+)$", "did 12\n", 12),
        (r"(?P<done>\d+) of (?P<total>\d+)", "12 of 24\n", 25),
        (r"(?P<done>\d+) of (?P<total>\d+)", "12 of 0\n", 0),
        (r"(?P<done>\d+)(?: of (?P<total>\d+))?", "12\n", 12),
        (r"(?P<percent>[\d.,]+)%", "42.5%\r44%\r", 22),
        (r"(?P<percent>[\d.,]+)%", "44,5%\n4000%\n", 0),
        (r"(?P<frame>\w+)", "none\n", 0),
        (r"(?P<done>.*)", f"{'9' * 5000}\n-5\n\n", 0),
        (r"(?P<done>\d+)", "\N{ARABIC-INDIC DIGIT ONE}\n", 0),
        (r"\[(?P<done>\d+)\]", "\x1b[1m[7]\x1b[0m\n", 7),
    ],
)
def test_groups_say_how_far_it_is(tmp_path: Path, pattern: str, printed: str, frames: int) -> None:
    assert read(tmp_path, printed, pattern).frames_done == frames


def test_every_pattern_is_looked_for(tmp_path: Path) -> None:
    assert read(tmp_path, "one 3\ntwo 5\n", r"one (?P<done>\d+)", r"two (?P<done>\d+)").frames_done == 5


def test_a_fatal_line_is_told_as_plain_text(tmp_path: Path) -> None:
    printed = "fine\nlicence \x1b[31mexpired\x1b[0m today\nlicence expired again\nno GPU\n"

    assert read(tmp_path, printed, fatal=("no GPU", "licence (expired|gone)")).fatal == "licence expired today"


def test_a_fatal_line_is_found_in_more_than_one_look_reads(tmp_path: Path) -> None:
    printed = "licence expired\n" + "and so it went on\n" * 20_000

    assert read(tmp_path, printed, fatal=("^licence",)).fatal == "licence expired"


# Exponential, exponential, and of the fourth power of a line's length.
ILL_BEHAVED = (r"(?P<done>(a+)+)$", r"^(?:(?P<done>a|aa)+)+$", r"a*a*a*a*(?P<done>\d)")


@pytest.mark.parametrize("pattern", ILL_BEHAVED)
def test_a_pattern_that_runs_away_is_given_up_and_the_others_go_on(
    tmp_path: Path, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ProgressSpec(
        format=ProgressFormat.NONE, patterns=(pattern, r"frame (?P<frame>\d+)"), fatal_patterns=(pattern, "no licence")
    )
    log = tmp_path / "log"
    reader = ProgressReader(log, spec, frames=range(0, 150), counted_dir=None)
    log.write_text(f"{'a' * 4000}!\nframe 12\n")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        first = reader.read()
    with log.open("a") as more:
        more.write(f"{'a' * 4000}!\nframe 13\nno licence\n")

    assert first == Reading(12)
    assert reader.read() == Reading(13, fatal="no licence")
    # Half a second of CPU time, once; the rest is for a busy host. Without a limit it would be hours.
    assert time.monotonic() - began < 30
    assert caplog.text.count("no longer looked for") == 1


def test_what_is_searched_of_one_line_is_bounded(tmp_path: Path) -> None:
    assert read(tmp_path, f"{'x' * 5000} 12\n", r"(?P<done>\d+)$") == Reading()


def test_patterns_leave_no_process_behind() -> None:
    patterns = UserPatterns([r"(?P<done>\d+)"], [])
    before = set(psutil.Process().children())
    assert [update.frames_done for update in patterns.find_updates(["12"])] == [12]
    (child,) = set(psutil.Process().children()) - before
    assert child.environ() == {}

    del patterns
    gc.collect()

    assert not child.is_running()


def test_without_patterns_there_is_no_process(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    log = tmp_path / "log"
    log.write_text("frame=12\n")
    reader = ProgressReader(log, ProgressSpec(), frames=range(0, 100), counted_dir=None)

    assert reader.read().frames_done == 12
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("^second$", True), ("first\nsecond", True), ("^ec", False), ("third", False), ("(?i)FIRST", True)],
)
def test_patterns_are_looked_for_in_lines_and_across_them(pattern: str, found: bool) -> None:
    assert LogPatternSearch("first\nsecond\n").has_match(pattern) is found


def test_a_pattern_that_runs_away_is_not_found_and_bounded() -> None:
    began = time.monotonic()

    assert not LogPatternSearch("a" * 60 + "b\n").has_match("(a+)+$")
    # Half a second of CPU time, on a machine that may be busy.
    assert time.monotonic() - began < 30

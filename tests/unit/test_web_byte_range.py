"""Ranges of bytes: one at a time, and whatever somebody asks for, within the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.web.byte_range import ByteRange, UnsatisfiableError, parse_range


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10), ("bytes=5-", 5, 100), ("bytes=-7", 93, 100), ("bytes=0-999999999999999999999999", 0, 100),
        ("bytes=99-99", 99, 100), ("bytes=-1000", 0, 100), ("bytes = 3-4", 3, 5), (f"bytes=-{'9' * 50}", 0, 100),
    ],
)  # fmt: skip
def test_a_range_is_what_it_says(asked: str, start: int, stop: int) -> None:
    assert parse_range(asked, 100) == ByteRange(start, stop, 100)


@pytest.mark.parametrize(
    "asked",
    [
        None,
        "",
        "bytes=",
        "bytes=-",
        "bytes=9-3",
        "bytes=0-1,5-6",
        "bytes=" + "0-1," * 5000,
        "lines=0-1",
        "bytes=a-b",
        "bytes=\u0661-\u0662",
    ],
)
def test_what_is_no_single_range_is_answered_with_all(asked: str | None) -> None:
    assert parse_range(asked, 100) is None


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=1000-2000", "bytes=-0", f"bytes={'9' * 5000}-"])
def test_what_begins_behind_the_end_is_refused(asked: str) -> None:
    with pytest.raises(UnsatisfiableError):
        parse_range(asked, 100)


@given(st.text() | st.from_regex(r"bytes=\d{0,30}-\d{0,30}", fullmatch=True), st.integers(0, 10**12))
def test_no_range_reaches_out_of_the_file(asked: str, size: int) -> None:
    try:
        part = parse_range(asked, size)
    except UnsatisfiableError:
        return
    assert part is None or 0 <= part.start < part.stop <= size

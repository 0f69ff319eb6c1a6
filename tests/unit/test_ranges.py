"""Ranges of numbers do what sets of numbers do."""

import base64
import random
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.ranges import MOST_NUMBERS, Range, RangeSet, format_ranges, pack_ranges, unpack_ranges

numbers = st.integers(min_value=-5, max_value=60)
ranges = st.tuples(numbers, numbers)
range_lists = st.lists(ranges)


def numbers_of(listed: list[Range]) -> set[int]:
    return {number for start, stop in listed for number in range(start, stop)}


def assert_same(found: RangeSet, expected: set[int]) -> None:
    assert set(found) == expected
    assert list(found) == sorted(expected)
    assert len(found) == len(expected)
    assert bool(found) is bool(expected)
    assert all(start < stop for start, stop in found.ranges)
    assert all(stop < start for (_, stop), (start, _) in pairwise(found.ranges)), "sorted, and never touching"


@given(range_lists)
def test_it_holds_what_was_added(added: list[Range]) -> None:
    assert_same(RangeSet(added), numbers_of(added))


@given(range_lists, ranges)
def test_adding_is_a_union(held: list[Range], more: Range) -> None:
    found = RangeSet(held)
    found.add(*more)

    assert_same(found, numbers_of(held) | set(range(*more)))


@given(range_lists, ranges)
def test_removing_is_a_difference(held: list[Range], less: Range) -> None:
    found = RangeSet(held)
    found.remove(*less)

    assert_same(found, numbers_of(held) - set(range(*less)))


@given(range_lists, range_lists)
def test_whole_sets_are_added_removed_and_compared(held: list[Range], other: list[Range]) -> None:
    united, left = RangeSet(held), RangeSet(held)
    united.add_all(RangeSet(other))
    left.remove_all(RangeSet(other))

    assert_same(united, numbers_of(held) | numbers_of(other))
    assert_same(left, numbers_of(held) - numbers_of(other))
    assert_same(RangeSet(held).overlap(RangeSet(other)), numbers_of(held) & numbers_of(other))


@given(range_lists, ranges)
def test_gaps_are_what_is_missing(held: list[Range], window: Range) -> None:
    assert_same(RangeSet(held).gaps(*window), set(range(*window)) - numbers_of(held))


@given(range_lists, numbers)
def test_it_knows_what_it_holds(held: list[Range], number: int) -> None:
    assert (number in RangeSet(held)) is (number in numbers_of(held))


@given(range_lists.filter(numbers_of), st.integers(min_value=1, max_value=70))
def test_taking_removes_consecutive_numbers_from_the_front(held: list[Range], size: int) -> None:
    found, expected = RangeSet(held), numbers_of(held)
    start, stop = found.take(size)

    assert start == min(expected)
    assert 0 < stop - start <= size
    assert set(range(start, stop)) <= expected
    assert stop - start == size or stop not in expected, "as many as there are"
    assert_same(found, expected - set(range(start, stop)))


@given(range_lists, range_lists)
def test_equal_means_the_same_numbers(one: list[Range], other: list[Range]) -> None:
    assert (RangeSet(one) == RangeSet(other)) is (numbers_of(one) == numbers_of(other))


@given(range_lists)
def test_the_front_is_the_first_range(held: list[Range]) -> None:
    found = RangeSet(held)
    if found:
        assert found.front == found.ranges[0]


def test_an_empty_set_has_no_front() -> None:
    with pytest.raises(IndexError):
        _ = RangeSet().front
    with pytest.raises(IndexError):
        RangeSet().take(1)


def test_half_a_million_ranges_take_a_moment() -> None:
    found = RangeSet((number, number + 1) for number in range(0, 1_000_000, 2))
    found.remove(400_000, 600_000)
    found.add(1, 2)

    assert len(found) == 400_001
    assert found.gaps(100, 104).ranges == ((101, 102), (103, 104))
    assert 399_998 in found
    assert 400_000 not in found


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        ([], ""),
        ([(3, 4)], "3"),
        ([(3, 4), (7, 10)], "3, 7-9"),
        ([(n, n + 1) for n in range(0, 10, 2)], "0, 2, 4, 6, 8"),
        ([(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 22)], "0, 2, 4, 6, 8 and 12 more"),
    ],
)
def test_ranges_are_shown_as_people_write_them(listed: list[Range], text: str) -> None:
    assert format_ranges(listed) == text


@given(range_lists.filter(lambda listed: all(start < stop for start, stop in listed)), st.integers(1, 70))
def test_the_first_numbers_reach_so_far(held: list[Range], size: int) -> None:
    numbers = sorted(numbers_of(held))

    if numbers:
        assert RangeSet(held).reach(size) == numbers[:size][-1] + 1


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000))))
def test_a_set_comes_back_from_its_bitmap(held: list[Range]) -> None:
    assert unpack_ranges(pack_ranges(held)) == RangeSet(held).ranges


def test_a_million_chunks_travel_in_a_small_text() -> None:
    holes = pack_ranges((chunk, chunk + 1) for chunk in range(0, MOST_NUMBERS, 2))
    noise = random.Random(7)
    chance = pack_ranges((chunk, chunk + 1) for chunk in range(MOST_NUMBERS) if noise.random() < 0.5)

    assert len(holes) < 500
    assert len(chance) < 170_000
    assert len(unpack_ranges(holes)) == MOST_NUMBERS // 2


@pytest.mark.parametrize(
    "text",
    [
        "7",
        "x:",
        "-1:eJw=",
        "0:?",
        "0:AAAA",
        "99999999:eJxjAAAAAQAB",
        f"{10**9}:eJxjAAAAAQAB",
        pack_ranges([(0, 9)])[:-4],
    ],
)
def test_what_is_no_bitmap_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="bitmap"):
        unpack_ranges(text)


def test_a_bitmap_that_would_fill_the_memory_is_not_unpacked() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(50_000_000))).decode()

    with pytest.raises(ValueError, match="bitmap"):
        unpack_ranges(f"0:{bomb}")

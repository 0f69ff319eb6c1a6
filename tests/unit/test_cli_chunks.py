"""Chunks as people name them: read from options, and written so that they can be copied into one."""

import pytest

from longtake.cli.formatting import format_chunks, parse_chunks
from longtake.errors import BadJobError
from longtake.ranges import Range, RangeSet, shown


@pytest.mark.parametrize(
    ("words", "ranges"),
    [
        (["3"], ((3, 4),)),
        (["3-7"], ((3, 8),)),
        (["3", "5-6", "4"], ((3, 7),)),
        (["3, 7-9"], ((3, 4), (7, 10))),
        (["0", "999999"], ((0, 1), (999_999, 1_000_000))),
        ([], ()),
    ],
)
def test_both_ends_of_a_range_belong_to_it(words: list[str], ranges: tuple[Range, ...]) -> None:
    assert parse_chunks(words) == ranges


@pytest.mark.parametrize(
    "word", ["", "x", "-3", "3-", "3-x", "3,,4", "1.5", "1000000", "0-1000000", "9" * 30, "\uff13"]
)
def test_what_is_no_chunk_is_refused_with_how_to_write_one(word: str) -> None:
    with pytest.raises(
        BadJobError, match=r"^--chunk: .* is no chunk; write its number, as in --chunk 3 or --chunk 3-7"
    ):
        parse_chunks(["1", word])


def test_a_range_that_runs_backwards_is_refused_with_the_one_meant() -> None:
    with pytest.raises(BadJobError, match=r"^--chunk: '7-3' ends before it begins; write --chunk 3-7$"):
        parse_chunks(["7-3"])


def test_what_messages_show_can_be_copied_into_the_option() -> None:
    failed = RangeSet([(3, 4), (7, 10), (12, 13)]).ranges

    assert format_chunks(failed) == "3,7-9,12"
    assert parse_chunks([format_chunks(failed)]) == parse_chunks([shown(failed)]) == failed
    assert format_chunks(failed, most=2) == "3,7-9"

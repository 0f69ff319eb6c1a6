"""Times, amounts and foreign text in a report."""

import pytest

from longtake.report.markup import count_nouns, format_span, format_work, to_code, to_text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.416, "0.42 s"),
        (9.97, "10 s"),
        (48.2, "48 s"),
        (372, "6 min 12 s"),
        (3300, "55 min"),
        (8040, "2 h 14 min"),
        (7200, "2 h"),
        (360_000, "4 d 4 h"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert format_span(seconds) == shown


def test_the_work_of_many_hosts_is_counted_in_hours() -> None:
    assert format_work(6_428_000) == "1,786 h"
    assert format_work(60) == "1 min"


def test_counts_have_their_nouns() -> None:
    assert [count_nouns(1, "failed try"), count_nouns(2, "failed try"), count_nouns(2400, "frame")] == [
        "1 failed try",
        "2 failed tries",
        "2,400 frames",
    ]


def test_foreign_text_is_one_line_without_markup() -> None:
    assert to_text("<b>\n\x1b[31m & 'x'") == "&lt;b&gt;  &amp; &#x27;x&#x27;"
    assert to_code("use `retry.rules` <now>") == "use <code>retry.rules</code> &lt;now&gt;"

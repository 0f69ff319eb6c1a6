"""Texts of others without what rules a terminal."""

import pytest

from longtake.text import strip_controls


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x1b[1;31mred\x1b[0m", "ared"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1b(Bplain\x1bc", "plain"),
        ("bell\x07back\x08nul\x00del\x7f", "bellbacknuldel"),
        ("\u202eevil\u2066", "evil"),
        ("tab\tstays ü", "tab\tstays ü"),
        ("\x1b[31", "31"),
    ],
)
def test_control_characters_are_taken_out(text: str, left: str) -> None:
    assert strip_controls(text) == left

"""Texts of others without what rules a terminal, cut where they are long, and sizes."""

import pytest

from longtake.text import format_bytes, shorten_line, strip_controls


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


@pytest.mark.parametrize("most", [60, 61, 62, 245])
def test_a_long_line_keeps_its_beginning_and_its_end(most: int) -> None:
    short = shorten_line(f"ffmpeg exited {'x' * 1000}\nNo space left on device", most)
    assert len(short) == most
    assert short.startswith("ffmpeg exited")
    assert short.endswith("No space left on device")


def test_a_line_that_fits_is_not_cut() -> None:
    assert shorten_line("x" * 60, 60) == "x" * 60


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"),
        (812 * 2**20, "812 MiB"), (1023 * 2**20, "1.0 GiB"), (int(9.96 * 2**30), "10 GiB"), (5 * 2**40, "5.0 TiB"),
        (5 * 2**50, "5120 TiB"),
    ],
)  # fmt: skip
def test_sizes_are_readable(count: int, words: str) -> None:
    assert format_bytes(count) == words

"""Texts that fit a terminal."""

from longtake.cli.terminal import shortened


def test_long_errors_keep_their_beginning_and_their_end() -> None:
    short = shortened(f"ffmpeg exited {'x' * 1000} No space left on device")
    assert len(short) < 250
    assert short.startswith("ffmpeg exited")
    assert short.endswith("No space left on device")

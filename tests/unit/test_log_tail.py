from pathlib import Path

from activities.backends.progress import last_lines


def test_an_error_is_not_hidden_by_the_progress_that_ffmpeg_prints_after_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "[libx264 @ 0x1] height not divisible by 2 (48x27)\nframe=0\nfps=0.00\nstream_0_0_q=0.0\n"
        "bitrate=  -0.0kbits/s\n"
        "total_size=0\nout_time_us=N/A\nout_time=N/A\ndup_frames=0\ndrop_frames=0\nspeed=N/A\nprogress=end\n"
    )

    assert last_lines(log) == "[libx264 @ 0x1] height not divisible by 2 (48x27)"


def test_progress_is_told_where_nothing_else_was_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("frame=1\nprogress=continue\n")

    assert last_lines(log) == "frame=1 | progress=continue"

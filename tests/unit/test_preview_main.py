"""Chunks of any container become fragments that follow each other on one clock, with the frames that they had."""

import io
import os
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import pytest

from longtake.descriptor_process import DescriptorProcess, ProcessFailedError
from longtake.web import preview_main
from longtake.web.preview_media import PreviewFragment

FRAMES = 12
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-b_strategy", "0", "-g", "24")


@pytest.fixture(scope="module")
def process() -> Iterator[DescriptorProcess]:
    process = DescriptorProcess(preview_main.__file__, most_seconds=120)
    yield process
    process.close()


def encode(folder: Path, suffix: str, rate: str, *options: str) -> list[Path]:
    """Two chunks of a film."""
    files = [folder / f"{number}{suffix}" for number in range(2)]
    for number, file in enumerate(files):
        pick = f"trim=start_frame={FRAMES * number},setpts=PTS-STARTPTS"
        source = ("-f", "lavfi", "-i", f"testsrc2=s=192x108:r={rate}", "-vf", pick, "-frames:v", str(FRAMES))
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, *options, str(file)], check=True)
    return files


def ask(
    process: DescriptorProcess, files: list[Path], rate: str, *, longest: int = 0
) -> dict[str, object] | PreviewFragment:
    descriptors = [os.open(file, os.O_RDONLY) for file in files]
    exact = Fraction(rate)
    request = {"suffix": files[0].suffix, "rate": [exact.numerator, exact.denominator], "longest": longest}
    try:
        told, data = process.ask(request, descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if "unplayable" in told:
        return told
    return PreviewFragment(data[: told["init_bytes"]], data[told["init_bytes"] :], told["tick"])


def decode(source: Path | bytes) -> list[tuple[Fraction, bytes]]:
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r") as container:
        frames = list(container.decode(video=0))
        first = (frames[0].pts or 0) * (frames[0].time_base or Fraction(0))
        return [
            ((each.pts or 0) * (each.time_base or Fraction(0)) - first, bytes(each.reformat(format="gray").planes[0]))
            for each in frames
        ]


@pytest.mark.parametrize(
    ("suffix", "rate", "options"),
    [
        (".mp4", "25", (*X264, "-bf", "3")),
        (".mkv", "24000/1001", (*X264, "-bf", "3", "-x264-params", "b-pyramid=normal")),
        (".ts", "30000/1001", (*X264, "-bf", "2")),
        (".mov", "25", (*X264, "-bf", "0")),
        (".webm", "30", ("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-cpu-used", "8")),
        (
            ".mkv",
            "25",
            ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", "log-level=error", "-preset", "ultrafast"),
        ),
    ],
)
def test_packets_are_taken_as_they_are(
    process: DescriptorProcess, tmp_path: Path, suffix: str, rate: str, options: tuple[str, ...]
) -> None:
    files = encode(tmp_path, suffix, rate, *options)

    made = [ask(process, [file], rate) for file in files]

    assert all(isinstance(each, PreviewFragment) for each in made), made
    first, second = (each for each in made if isinstance(each, PreviewFragment))
    shown = decode(first.init + first.begin_at(0) + second.begin_at(FRAMES))
    assert [time for time, _ in shown] == [number / Fraction(rate) for number in range(2 * FRAMES)]
    assert [frame for _, frame in shown] == [frame for file in files for _, frame in decode(file)]


@pytest.mark.parametrize(
    ("suffix", "options", "named"),
    [
        (".mov", ("-c:v", "prores_ks"), "prores"),
        (".mp4", (*X264[:4], "-pix_fmt", "yuv444p"), "h264 yuv444p"),
        (".mkv", ("-c:v", "ffv1"), "ffv1"),
    ],
)
def test_what_no_browser_plays_is_named_and_has_a_small_copy(
    process: DescriptorProcess, tmp_path: Path, suffix: str, options: tuple[str, ...], named: str
) -> None:
    files = encode(tmp_path, suffix, "25", *options)

    refused = ask(process, files[:1], "25")
    first, second = (ask(process, [file], "25", longest=96) for file in files)

    assert isinstance(refused, dict)
    assert named in str(refused["unplayable"])
    assert isinstance(first, PreviewFragment)
    assert isinstance(second, PreviewFragment)
    assert first.init == second.init
    shown = decode(first.init + first.begin_at(0) + second.begin_at(FRAMES))
    assert [time for time, _ in shown] == [Fraction(number, 25) for number in range(2 * FRAMES)]
    assert len(shown[0][1]) >= 96 * 54


def test_a_file_that_is_damaged_is_said_and_ends_nothing(process: DescriptorProcess, tmp_path: Path) -> None:
    sound = encode(tmp_path, ".mp4", "25", *X264)[0]
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(sound.read_bytes()[:1000])

    with pytest.raises(ProcessFailedError, match=r"libav|pictures"):
        ask(process, [damaged], "25")
    assert isinstance(ask(process, [sound], "25"), PreviewFragment)


def test_no_list_of_other_files_is_followed(process: DescriptorProcess, tmp_path: Path) -> None:
    sound = encode(tmp_path, ".mp4", "25", *X264)[0]
    for suffix in (".mp4", ".mkv", ".ts", ".png"):
        script = tmp_path / f"script{suffix}"
        script.write_text(f"ffconcat version 1.0\nfile '{sound}'\n")
        with pytest.raises(ProcessFailedError):
            ask(process, [script], "25", longest=64)

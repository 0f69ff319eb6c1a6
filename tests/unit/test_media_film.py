"""Films: proven whole, evenly timed, and like the chunks they were made of."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from activities.media.facts import DamagedOutput, MediaError, MismatchedOutput
from activities.media.film import verify_film
from activities.media.video import inspect_video

Render = Callable[..., Path]
FPS = Fraction(30)
H264 = ("-c:v", "libx264", "-bf", "2")


def refusal(path: Path, *, frames: int = 12, fps: Fraction = FPS, audio: bool = False) -> MediaError:
    with pytest.raises(MediaError) as caught:
        verify_film(path, fps=fps, frames=frames, audio=audio)
    return caught.value


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_a_film_encoded_by_ffmpeg_is_proven(suffix: str, render: Render) -> None:
    facts = verify_film(render(suffix, *H264), fps=FPS, frames=12)
    assert (facts.frames, facts.duration_seconds, facts.codec) == (12, 0.4, "h264")


def test_a_film_with_a_frame_too_few_is_refused(render: Render) -> None:
    film = render(".mp4", *H264)
    assert refusal(film, frames=13).sentence == f"{film.name} holds 12 frames instead of 13"


def test_a_cut_film_is_refused(render: Render, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(render(".mp4", *H264, "-movflags", "+faststart").read_bytes()[:-1])
    assert refusal(film).sentence == "film.mp4 is cut short: 1 bytes are missing"


def test_a_film_of_another_rate_is_refused(render: Render) -> None:
    assert isinstance(refusal(render(".mp4", *H264, fps="24")), MismatchedOutput)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_film_that_starts_late_is_refused(suffix: str, render: Render) -> None:
    late = render(suffix, *H264, "-output_ts_offset", "0.5")
    assert refusal(late).problem == "starts at 0.500 s instead of 0"


def test_a_film_that_others_joined_is_given_some_slack(ffmpeg: str, tmp_path: Path) -> None:
    # Joins by `ffmpeg -f concat -c copy` shift what follows by the rounding of each chunk's length.
    film = tmp_path / "film.mp4"
    shifted = "settb=1/90000,setpts='PTS+if(gte(N,10),450,0)'"
    timing = ("-fps_mode", "passthrough", "-enc_time_base", "1:90000", "-video_track_timescale", "90000")
    source = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30", "-vf", shifted, "-frames:v", "20")
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *source, *timing, str(film)], check=True)
    slack = Fraction(1, 60)

    assert "unevenly timed: frame 10" in refusal(film, frames=20).sentence
    assert verify_film(film, fps=FPS, frames=20, slack_seconds=slack).frames == 20
    with pytest.raises(DamagedOutput, match="holds 20 frames instead of 21"):
        verify_film(film, fps=FPS, frames=21, slack_seconds=slack)
    with pytest.raises(MismatchedOutput):
        verify_film(film, fps=Fraction(24), frames=20, slack_seconds=slack)


def test_a_film_unlike_its_chunks_is_refused(render: Render) -> None:
    like = inspect_video(render(".mp4", *H264, size="128x72"), fps=FPS)
    with pytest.raises(MismatchedOutput, match="has another size: 64x64 instead of 128x72"):
        verify_film(render(".mp4", *H264), fps=FPS, frames=12, like=like)


def test_a_film_without_its_sound_is_refused(render: Render) -> None:
    assert refusal(render(".mp4", *H264), audio=True).problem == "has no sound"


@pytest.mark.parametrize(
    ("seconds", "problem"),
    [("0.2", "has sound that ends at 0.200 s instead of 0.400 s"), ("2", "lasts 2.000 s instead of 0.400 s")],
)
def test_sound_of_another_length_is_refused(
    seconds: str, problem: str, render: Render, ffmpeg: str, tmp_path: Path
) -> None:
    film = tmp_path / "film.mov"
    tone = ("-f", "lavfi", "-i", f"sine=d={seconds}", "-c:v", "copy", "-c:a", "pcm_s16le")
    subprocess.run([ffmpeg, "-v", "error", "-i", str(render(".mp4", *H264)), *tone, str(film)], check=True)
    error = refusal(film, audio=True)
    assert isinstance(error, DamagedOutput)
    assert error.problem == problem

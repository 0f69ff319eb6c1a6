"""Pictures that become a film."""

import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from activities.media.encode import build_encode_command, build_image_pattern, find_language
from activities.media.facts import MediaError
from activities.media.film import verify_film

FrameHashes = Callable[[Path], list[str]]
FPS = Fraction(30)


def refusal(path: Path, *, frames: int = 12, fps: Fraction = FPS, audio: bool = False) -> MediaError:
    with pytest.raises(MediaError) as caught:
        verify_film(path, fps=fps, frames=frames, audio=audio)
    return caught.value


@pytest.fixture
def stills(ffmpeg: str, tmp_path: Path) -> Path:
    """A folder with eight pictures, numbered from 7, in a place with an awkward name."""
    folder = tmp_path / "100% it's [mine] %04d"
    folder.mkdir()
    plain = tmp_path / "plain"
    plain.mkdir()
    source = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=30", "-frames:v", "8", "-start_number", "7")
    subprocess.run([ffmpeg, "-v", "error", *source, str(plain / "f_%04d.png")], check=True)
    for path in plain.iterdir():
        shutil.move(path, folder / path.name)
    return folder


@pytest.mark.parametrize("rate", ["30000/1001", "24"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".mxf"])
def test_pictures_become_a_film_on_the_exact_grid(
    suffix: str, rate: str, stills: Path, ffmpeg: str, tmp_path: Path
) -> None:
    pattern = build_image_pattern(f"{stills}/f_", 4, ".png")
    film, fps = tmp_path / f"film{suffix}", Fraction(rate)
    subprocess.run(build_encode_command(ffmpeg, pattern, 7, fps, [], film), check=True, stdout=subprocess.DEVNULL)
    facts = verify_film(film, fps=fps, frames=8)
    assert (facts.width, facts.height) == (64, 64)


def test_the_users_encoder_options_count(stills: Path, ffmpeg: str, tmp_path: Path, frame_hashes: FrameHashes) -> None:
    command = build_encode_command(
        ffmpeg, build_image_pattern(f"{stills}/f_", 4, ".png"), 7, FPS, ["-c:v", "png"], tmp_path / "film.mov"
    )
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "frame=8\n" in output
    assert "progress=end" in output
    assert not {"-frames:v", "-vframes", "-shortest"} & set(command), "ffmpeg 5 ends sounds with the pictures then"
    assert verify_film(tmp_path / "film.mov", fps=FPS, frames=8).codec == "png"
    assert len(set(frame_hashes(tmp_path / "film.mov"))) == 8


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mxf"])
def test_pictures_of_odd_size_become_a_film(suffix: str, ffmpeg: str, tmp_path: Path) -> None:
    film, pattern = tmp_path / f"film{suffix}", build_image_pattern(f"{tmp_path}/f_", 4, ".png")
    source = ("-f", "lavfi", "-i", "testsrc2=s=161x127:r=25,format=rgb24", "-frames:v", "3", f"{tmp_path}/f_%04d.png")
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *source], check=True)
    subprocess.run(build_encode_command(ffmpeg, pattern, 1, FPS, [], film), check=True, stdout=subprocess.DEVNULL)

    facts = verify_film(film, fps=FPS, frames=3)
    assert (facts.width, facts.height) == (162, 128)


def test_the_language_of_the_pictures_is_found_in_the_options() -> None:
    assert find_language(["-c:v", "png", "-metadata", "title=language=eng", "-metadata:s:v", "language=deu"]) == "deu"
    assert find_language(["-c:v", "png"]) == ""


def test_a_gap_in_the_pictures_never_passes_for_a_film(stills: Path, ffmpeg: str, tmp_path: Path) -> None:
    (stills / "f_0010.png").unlink()
    film = tmp_path / "film.mp4"
    command = build_encode_command(ffmpeg, build_image_pattern(f"{stills}/f_", 4, ".png"), 7, FPS, [], film)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    assert refusal(film, frames=8).sentence == "film.mp4 holds 3 frames instead of 8"


def test_a_missing_first_picture_is_no_start(stills: Path, ffmpeg: str, tmp_path: Path) -> None:
    (stills / "f_0007.png").unlink()
    pattern = build_image_pattern(f"{stills}/f_", 4, ".png")
    command = build_encode_command(ffmpeg, pattern, 7, FPS, [], tmp_path / "film.mp4")
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0

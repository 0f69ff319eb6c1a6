"""Languages of QuickTime films: those that libav's writer has no number for are there all the same."""

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest

from activities.media.quicktime import set_languages
from activities.media.video import inspect_video


@pytest.mark.parametrize("faststart", [True, False])
def test_each_track_says_its_language(faststart: bool, ffmpeg: str, tmp_path: Path) -> None:
    film = tmp_path / "film.mov"
    sources = ("testsrc2=s=64x64:r=25:d=0.4", "sine=440:d=0.4", "sine=880:d=0.4", "sine=220:d=0.4")
    inputs = [word for source in sources for word in ("-f", "lavfi", "-i", source)]
    tracks = [word for number, _ in enumerate(sources) for word in ("-map", str(number))]
    said = ("-metadata:s:a:0", "language=deu", "-metadata:s:a:1", "language=eng", "-metadata:s:a:2", "language=cym")
    moved = ("-movflags", "+faststart") if faststart else ()
    subprocess.run([ffmpeg, "-v", "error", *inputs, *tracks, "-c:v", "prores_ks", *said, *moved, film], check=True)
    assert [language for _, language in languages(film)] == [None, None, "eng", None]

    set_languages(film, video="cat", sounds=["deu", "", "de"])

    assert languages(film) == [("video", "cat"), ("audio", "deu"), ("audio", "eng"), ("audio", None)]
    assert inspect_video(film, fps=Fraction(25)).frames == 10


def languages(film: Path) -> list[tuple[str, str | None]]:
    with av.open(str(film)) as opened:
        return [(stream.type, stream.metadata.get("language")) for stream in opened.streams]

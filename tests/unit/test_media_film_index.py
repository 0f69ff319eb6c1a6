"""The index of a film that was just written must be that of the packets that were written."""

import threading
from array import array
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from activities.media.containers import AnyPacket, find_video_stream, open_media
from activities.media.facts import ChunkFile, DamagedOutput
from activities.media.film import verify_film
from activities.media.film_index import read_index
from activities.media.join import join_video
from activities.media.seams import JoinedFilm

Render = Callable[..., Path]

PRORES = ("-c:v", "prores_ks")
FPS = Fraction(30)


@pytest.fixture
def film(render: Render, tmp_path: Path) -> tuple[Path, JoinedFilm]:
    """Return a film of three chunks of 12 frames."""
    clip = render(".mov", *PRORES, frames=12)
    path = tmp_path / "film.mov"
    chunks = [ChunkFile(clip, f"chunk {number}", 12) for number in range(3)]
    return path, join_video(chunks, path, fps=FPS, progress=lambda _: None, stop=threading.Event())


def read(path: Path, written: "array[int]", *numbers: int) -> tuple[dict[int, AnyPacket], "array[int] | None"]:
    """Read the index of a film, and the packets of these numbers."""
    found: dict[int, AnyPacket] = {}

    def add(packet: AnyPacket, number: int) -> None:
        found[number] = packet

    with open_media(path) as container:
        stream = find_video_stream(container, path.name)
        return found, read_index(path, stream, written, needs=lambda number: number in numbers, add=add)


def test_only_the_packets_that_are_needed_are_read(film: tuple[Path, JoinedFilm]) -> None:
    path, joined = film

    found, times = read(path, joined.sizes, 0, 11, 12, 35)

    assert times is not None
    assert len(times) == 36
    assert {number: (packet.size, packet.pts) for number, packet in found.items()} == {
        number: (joined.sizes[number], times[number]) for number in (0, 11, 12, 35)
    }
    assert verify_film(path, fps=FPS, frames=36, joined=joined).proof == (
        "first and last frame, and frames around 2 of 2 seams decoded and compared with the chunks"
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda sizes: sizes[:-1], "holds 36 frames instead of 35"),
        (lambda sizes: sizes[:7] + array("q", [sizes[7] + 1]) + sizes[8:], "has another frame 7 than was written"),
    ],
)
def test_an_index_of_other_packets_is_refused(
    change: "Callable[[array[int]], array[int]]", problem: str, film: tuple[Path, JoinedFilm]
) -> None:
    path, joined = film

    with pytest.raises(DamagedOutput) as caught:
        read(path, change(joined.sizes))

    assert caught.value.sentence == f"film.mov {problem}"


def test_a_film_that_is_damaged_at_its_end_is_refused(film: tuple[Path, JoinedFilm]) -> None:
    path, joined = film
    data = bytearray(path.read_bytes())
    start = data.rindex(b"icpf")
    data[start + 8 : start + 64] = bytes(56)
    path.write_bytes(data)

    with pytest.raises(DamagedOutput):
        verify_film(path, fps=FPS, frames=36, joined=joined)


def test_films_of_other_codecs_or_with_sound_are_read_whole(render: Render, tmp_path: Path) -> None:
    h264 = render(".mp4", "-c:v", "libx264", "-g", "1", frames=12)
    sound = ("-f", "lavfi", "-i", "sine=d=0.4", "-c:a", "pcm_s16le", "-shortest")
    heard = render(".mov", *PRORES, frames=12, extra=sound[:4])

    for path in (h264, heard):
        assert read(path, array("q"))[1] is None

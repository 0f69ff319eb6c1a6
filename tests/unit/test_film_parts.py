"""Parts of films of many chunks: the film is the same, and what is finished is not made again."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from support.s3.server import S3Server
from support.s3.stores import bucket_store

from activities.attempts import film_parts
from activities.attempts.film_parts import FilmParts, FilmShape, has_parts
from activities.media.facts import ChunkFile, DamagedOutput, MismatchedOutput
from activities.media.film import verify_film
from activities.media.join import join_video
from activities.media.video import inspect_video
from activities.stores.job_folder import JobFolder
from longtake.sound_formats import StreamKind
from longtake.stores.directory import DirectoryStore, file_digest
from longtake.stores.store import Store

Render = Callable[..., Path]

FPS = Fraction("30000/1001")
FRAMES = 4
CHUNKS = 7
SHAPE = FilmShape(FPS, frozenset(), has_audio=False, full=True)
H264 = ("-c:v", "libx264", "-bf", "2", "-pix_fmt", "yuv420p")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven chunks make three parts."""
    monkeypatch.setattr(film_parts, "PART_CHUNKS", 3)
    monkeypatch.setattr(film_parts, "_LEAST_PARTS", 2)


def chunks_of(render: Render, suffix: str, *options: str) -> list[ChunkFile]:
    places = [(number * FRAMES, FRAMES) for number in range(CHUNKS)]
    chunks = []
    for number, (start, frames) in enumerate(places):
        path = render(suffix, *options, start=start, frames=frames, fps=str(FPS), beside=places)
        facts = inspect_video(path, fps=FPS, frames=frames)
        chunks.append(ChunkFile(path, f"chunk {number}", frames, facts=facts, sha256=file_digest(path)))
    return chunks


class Bring:
    """Has all chunks here, and notes which were asked for."""

    def __init__(self, chunks: list[ChunkFile]) -> None:
        self.chunks = chunks
        self.asked: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int, place: Path) -> list[ChunkFile]:
        self.asked.append((start, stop))
        return self.chunks[start:stop]


def parts_of(store: Store, place: Path) -> FilmParts:
    return FilmParts(JobFolder(store, "job"), "film", place, SHAPE, threading.Event())


def make(parts: FilmParts, bring: Bring, progress: Callable[[int], None] = lambda _: None) -> list[ChunkFile]:
    return parts.make_all([(chunk.sha256, chunk.frames) for chunk in bring.chunks], bring, progress)


def join(chunks: list[ChunkFile], film: Path, pattern: Path | None = None) -> None:
    """Join and verify a film, all frames of it."""
    joined = join_video(chunks, film, fps=FPS, progress=lambda _: None, stop=threading.Event(), pattern=pattern)
    verify_film(film, fps=FPS, frames=CHUNKS * FRAMES, joined=joined, full=True)


def describe(film: Path) -> tuple[dict[str, object], list[object]]:
    """Describe all that a film holds: its stream and its packets."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        about: dict[str, object] = {
            "extradata": context.extradata,
            "tag": context.codec_tag,
            "base": stream.time_base,
            "duration": stream.duration,
            "pixels": context.pix_fmt,
            "shape": stream.sample_aspect_ratio,
            "tags": {**container.metadata, **stream.metadata},
        }
        packets: list[object] = [
            (packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]
    return about, packets


@pytest.mark.parametrize(
    ("suffix", "target", "options"),
    [
        (".mp4", ".mp4", H264),
        (".mp4", ".mkv", H264),
        (".mp4", ".avi", ("-c:v", "libx264", "-bf", "0", "-pix_fmt", "yuv420p")),
        (".mp4", ".mp4", ("-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1")),
        (".mov", ".mov", ("-c:v", "prores_ks", "-profile:v", "3", "-vf", "setsar=4/3")),
        (".mov", ".mkv", ("-c:v", "hap")),
        (".mkv", ".mkv", ("-c:v", "ffv1", "-metadata:s:v:0", "language=deu")),
        (".mkv", ".mkv", ("-c:v", "utvideo")),
        (".webm", ".webm", ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-b:v", "1M")),
        (".ts", ".ts", H264),
        (".ts", ".mp4", ("-c:v", "mpeg2video", "-bf", "2")),
    ],
)
def test_a_film_of_parts_is_the_film_of_its_chunks(
    suffix: str, target: str, options: tuple[str, ...], render: Render, tmp_path: Path
) -> None:
    chunks = chunks_of(render, suffix, *options)
    assert has_parts(iter(chunks), len(chunks), SHAPE)
    parts = parts_of(DirectoryStore(tmp_path / "store"), tmp_path / "place")
    made = make(parts, Bring(chunks))
    assert [part.frames for part in made] == [12, 12, 4]

    join(chunks, tmp_path / f"at-once{target}")
    join(made, tmp_path / f"of-parts{target}", parts.pattern)

    assert describe(tmp_path / f"of-parts{target}") == describe(tmp_path / f"at-once{target}")


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "store")
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        yield bucket_store(server, tmp_path / "scratch")


def test_another_host_goes_on_where_a_killed_one_was(store: Store, render: Render, tmp_path: Path) -> None:
    bring = Bring(chunks_of(render, ".mp4", *H264))

    def kill(frames: int) -> None:
        if frames > 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(parts_of(store, tmp_path / "killed"), bring, kill)
    assert bring.asked == [(0, 1), (0, 3), (3, 6), (6, 7)]

    bring.asked.clear()
    counted: list[int] = []
    parts = parts_of(store, tmp_path / "other")
    made = make(parts, bring, counted.append)

    assert bring.asked == [(0, 1), (6, 7)]
    assert counted[:2] == [12, 24]
    assert counted[-1] == 28
    join(made, tmp_path / "film.mp4", parts.pattern)
    bring.asked.clear()
    make(parts_of(store, tmp_path / "third"), bring)
    assert bring.asked == [(0, 1)]


def test_a_part_that_was_damaged_is_made_again(store: Store, render: Render, tmp_path: Path) -> None:
    bring = Bring(chunks_of(render, ".mp4", *H264))
    make(parts_of(store, tmp_path / "one"), bring)
    folder = f"{JobFolder(store, 'job').attempts_dir('film')}/parts"
    damaged = next(file.location for file in store.files(folder) if file.location.endswith(".mp4"))
    store.replace(damaged, b"something else")

    bring.asked.clear()
    parts = parts_of(store, tmp_path / "other")
    join(make(parts, bring), tmp_path / "film.mp4", parts.pattern)

    assert len(bring.asked) == 2


def test_a_chunk_that_was_exchanged_makes_its_part_another(render: Render, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    bring = Bring(chunks_of(render, ".mp4", *H264))
    make(parts_of(store, tmp_path / "one"), bring)
    bring.chunks[4] = replace(bring.chunks[4], sha256="0" * 64)

    bring.asked.clear()
    make(parts_of(store, tmp_path / "other"), bring)

    assert bring.asked == [(0, 1), (3, 6)]


def test_of_two_attempts_at_once_the_first_one_counts(store: Store, render: Render, tmp_path: Path) -> None:
    bring = Bring(chunks_of(render, ".mp4", *H264))
    quick: list[ChunkFile] = []

    def overtake(frames: int) -> None:
        if not quick:
            quick.extend(make(parts_of(store, tmp_path / "quick"), Bring(bring.chunks)))

    parts = parts_of(store, tmp_path / "slow")
    slow = make(parts, bring, overtake)

    assert [part.sha256 for part in slow] == [part.sha256 for part in quick]
    join(slow, tmp_path / "film.mp4", parts.pattern)


def test_a_damaged_chunk_is_named_by_its_number_in_the_film(render: Render, tmp_path: Path) -> None:
    chunks = chunks_of(render, ".mp4", *H264)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(chunks[4].path.read_bytes()[:-100])
    chunks[4] = replace(chunks[4], path=bad)

    with pytest.raises(DamagedOutput, match=r"^chunk 4 ") as raised:
        make(parts_of(DirectoryStore(tmp_path / "store"), tmp_path / "place"), Bring(chunks))

    assert raised.value.chunk == 4


def test_chunks_that_do_not_fit_are_refused_before_anything_is_made(render: Render) -> None:
    chunks = chunks_of(render, ".mp4", *H264)
    facts = chunks[5].facts
    assert facts is not None
    chunks[5] = replace(chunks[5], facts=facts.model_copy(update={"width": 32}))

    with pytest.raises(MismatchedOutput, match=r"^chunk 5 .* has another size") as raised:
        has_parts(iter(chunks), len(chunks), SHAPE)

    assert raised.value.chunk == 5


@pytest.mark.parametrize(
    ("changes", "shape", "wanted"),
    [
        ({}, SHAPE, True),
        ({"sounds": ("pcm_s16le 48000 stereo",)}, SHAPE, False),
        ({"sounds": ("pcm_s16le 48000 stereo",)}, replace(SHAPE, has_audio=True), True),
        ({"sounds": ("pcm_s16le 48000 stereo",)}, replace(SHAPE, drop=frozenset({StreamKind.AUDIO})), True),
        ({"sounds": None}, SHAPE, False),
        ({"timecode": "01:00:00:00"}, SHAPE, False),
        ({"alpha": "1"}, SHAPE, False),
    ],
)
def test_a_film_that_parts_would_change_is_made_at_once(
    changes: dict[str, object], shape: FilmShape, wanted: bool, render: Render
) -> None:
    (chunk, *_) = chunks_of(render, ".mov", *H264)
    assert chunk.facts is not None
    changed = [replace(chunk, facts=chunk.facts.model_copy(update=changes))] * CHUNKS

    assert has_parts(iter(changed), CHUNKS, shape) is wanted
    assert not has_parts(iter(changed[:5]), 5, shape)
    assert not has_parts((replace(each, path=Path("chunk.avi")) for each in changed), CHUNKS, shape)

"""Joining chunks into one film without encoding: nothing is lost, and what does not fit is named."""

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from support.media.film_matrix import BEGIN, CODECS, END, JOINED, heads, measure_codec
from support.media.image_matrix import PAGE

from activities.media import seams
from activities.media.decoder import decode_pictures
from activities.media.facts import ChunkFile, DamagedOutput, JoinStopped, MediaError, MismatchedOutput
from activities.media.film import verify_film
from activities.media.join import join_video
from activities.media.sample import shorten_chunk
from activities.media.seams import JoinedFilm
from activities.media.video import inspect_video

Render = Callable[..., Path]
FrameHashes = Callable[[Path], list[str]]
LOSSLESS = ("-c:v", "libx264", "-qp", "0", "-bf", "0")
B_FRAMES = ("-c:v", "libx264", "-bf", "3", "-g", "6")
# The last chunk is shorter, as in most films.
LENGTHS = (12, 12, 5)


def chunk_list(paths: Sequence[Path], lengths: Sequence[int] = LENGTHS) -> list[ChunkFile]:
    return [
        ChunkFile(path, f"chunk {index}", frames)
        for index, (path, frames) in enumerate(zip(paths, lengths, strict=True))
    ]


def rendered(render: Render, suffix: str, *options: str, fps: str = "30") -> list[ChunkFile]:
    starts = [sum(LENGTHS[:index]) for index in range(len(LENGTHS))]
    parts = list(zip(starts, LENGTHS, strict=True))
    return chunk_list(
        [render(suffix, *options, start=start, frames=frames, fps=fps, beside=parts) for start, frames in parts]
    )


def join(
    chunks: Sequence[ChunkFile],
    target: Path,
    fps: Fraction = Fraction(30),
    progress: Callable[[int], None] = lambda frames: None,
    stop: threading.Event | None = None,
) -> JoinedFilm:
    return join_video(chunks, target, fps=fps, progress=progress, stop=stop or threading.Event())


def join_refusal(chunks: Sequence[ChunkFile], target: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        join(chunks, target)
    assert not target.exists()
    return caught.value


@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "25"])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".mp4", LOSSLESS), (".mkv", ("-c:v", "ffv1")), (".ts", LOSSLESS), (".mov", LOSSLESS)],
)
def test_a_joined_film_equals_one_unchunked_render(
    suffix: str,
    options: tuple[str, ...],
    rate: str,
    render: Render,
    frame_hashes: FrameHashes,
    tmp_path: Path,
) -> None:
    film, fps = tmp_path / f"film{suffix}", Fraction(rate)
    made = join(rendered(render, suffix, *options, fps=rate), film, fps)
    verify_film(film, fps=fps, frames=29, joined=made)
    assert frame_hashes(film) == frame_hashes(render(".mkv", "-c:v", "ffv1", frames=29, fps=rate))


@pytest.mark.parametrize("into", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_b_frames_survive_from_any_container_into_any(
    suffix: str, into: str, render: Render, frame_hashes: FrameHashes, tmp_path: Path
) -> None:
    chunks = rendered(render, suffix, *B_FRAMES, fps="30000/1001")
    film, fps = tmp_path / f"film{into}", Fraction(30000, 1001)
    made = join(chunks, film, fps)
    verify_film(film, fps=fps, frames=29, joined=made)
    assert frame_hashes(film) == [line for chunk in chunks for line in frame_hashes(chunk.path)]


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mp4", ("-c:v", "libx265", "-x265-params", "log-level=none:open-gop=0")),
        (".mov", ("-c:v", "prores_ks", "-profile:v", "4")),
        (".mp4", ("-c:v", "mpeg4", "-bf", "2")),
        (".webm", ("-c:v", "libvpx-vp9", "-lag-in-frames", "10", "-auto-alt-ref", "1")),
        (".mp4", ("-c:v", "libaom-av1", "-cpu-used", "8")),
        (".mov", ("-c:v", "mjpeg")),
    ],
)
def test_other_codecs_are_joined_losslessly(
    suffix: str, options: tuple[str, ...], render: Render, frame_hashes: FrameHashes, tmp_path: Path
) -> None:
    chunks = rendered(render, suffix, *options)
    made = join(chunks, tmp_path / f"film{suffix}")
    verify_film(tmp_path / f"film{suffix}", fps=Fraction(30), frames=29, joined=made)
    joined = frame_hashes(tmp_path / f"film{suffix}")
    assert joined == [line for chunk in chunks for line in frame_hashes(chunk.path)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_hundred_chunks_add_no_time(suffix: str, render: Render, tmp_path: Path) -> None:
    clip = render(suffix, *B_FRAMES, frames=7, fps="30000/1001")
    chunks = chunk_list([clip] * 100, [7] * 100)
    film, fps = tmp_path / f"film{suffix}", Fraction(30000, 1001)
    made = join(chunks, film, fps)
    assert verify_film(film, fps=fps, frames=700, joined=made).duration_seconds == 700 * 1001 / 30000
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        base = stream.time_base or Fraction(0)
        times = sorted(packet.pts * base for packet in container.demux(stream) if packet.pts is not None)
        allowed = Fraction(1, 2000) if suffix == ".mkv" else Fraction(0)
        assert max(abs(time - index / fps) for index, time in enumerate(times)) <= allowed
        if suffix == ".mp4":
            assert (stream.duration or 0) * base == 700 / fps


def test_an_mp4_film_begins_with_its_index(render: Render, tmp_path: Path) -> None:
    join(rendered(render, ".mp4", *LOSSLESS), tmp_path / "film.mp4")
    head = (tmp_path / "film.mp4").read_bytes()
    assert 0 < head.index(b"moov") < head.index(b"mdat")


def test_the_tag_players_choose_hevc_by_is_kept(render: Render, tmp_path: Path) -> None:
    options = ("-c:v", "libx265", "-x265-params", "log-level=none:open-gop=0", "-tag:v", "hvc1")
    join(rendered(render, ".mp4", *options), tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize(
    "name", ["it's here.mp4", "100%d done.mp4", "two\nlines.mp4", "a:b,c.mp4", "-f.mp4", "étoile.mp4"]
)
def test_any_file_name_can_be_joined(name: str, render: Render, tmp_path: Path) -> None:
    source = Path(shutil.copy(render(".mp4", *LOSSLESS), tmp_path / name))
    join(chunk_list([source] * 2, [12] * 2), tmp_path / f"film {name}")
    verify_film(tmp_path / f"film {name}", fps=Fraction(30), frames=24)


@pytest.mark.parametrize(
    ("options", "clip", "frames", "error", "problem"),
    [
        (LOSSLESS, None, 12, DamagedOutput, "is missing"),
        (LOSSLESS, {}, 50, DamagedOutput, "holds 12 frames instead of 50"),
        (LOSSLESS, {"size": "128x72"}, 12, MismatchedOutput, "has another size: 128x72 instead of 64x64"),
        (LOSSLESS, {"fps": "25"}, 12, MismatchedOutput, "runs at 25 frames a second instead of 30"),
        (("-c:v", "mpeg4"), {}, 12, MismatchedOutput, "has another codec: mpeg4 instead of h264"),
    ],
    ids=["missing", "short", "of another size", "of another rate", "of another codec"],
)
def test_a_chunk_that_does_not_fit_the_others_is_named(
    options: tuple[str, ...],
    clip: dict[str, str] | None,
    frames: int,
    error: type[MediaError],
    problem: str,
    render: Render,
    tmp_path: Path,
) -> None:
    chunks = rendered(render, ".mp4", *LOSSLESS)
    path = tmp_path / "000001.mp4" if clip is None else render(".mp4", *options, **clip)
    chunks[1] = ChunkFile(path, "chunk 1", frames)

    refusal = join_refusal(chunks, tmp_path / "film.mp4")

    assert refusal.sentence == f"chunk 1 ({path}) {problem}"
    assert type(refusal) is error
    assert refusal.chunk == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_cut_chunk_is_named(suffix: str, render: Render, tmp_path: Path) -> None:
    chunks = rendered(render, suffix, *LOSSLESS)
    cut = tmp_path / f"000001{suffix}"
    cut.write_bytes(chunks[1].path.read_bytes()[:-300])
    chunks[1] = ChunkFile(cut, "chunk 1", 12)
    error = join_refusal(chunks, tmp_path / f"film{suffix}")
    assert isinstance(error, DamagedOutput)
    assert (error.chunk, error.subject) == (1, f"chunk 1 ({cut})")


def test_a_chunk_that_needs_the_one_before_is_named(render: Render, tmp_path: Path, ffmpeg: str) -> None:
    """A transport stream cut from a longer one begins in the middle of a group of pictures."""
    data = render(".ts", "-c:v", "mpeg2video", "-bf", "0", "-g", "6", "-q:v", "2").read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    starts = [
        index
        for index, packet in enumerate(packets)
        if packet[1] & 0x40 and int.from_bytes(packet[1:3], "big") & 0x1FFF == 256
    ]
    headless = tmp_path / "headless.ts"
    # The first three packets are the stream's own tables; the sequence header comes with the key frames.
    headless.write_bytes(b"".join(packets[:3] + packets[starts[3] :]))
    chunks = [ChunkFile(headless, "chunk 0", 9)]
    assert join_refusal(chunks, tmp_path / "film.ts").chunk == 0


def test_a_codec_the_container_cannot_hold_is_named(render: Render, tmp_path: Path) -> None:
    chunks = rendered(render, ".mov", "-c:v", "prores_ks")
    assert join_refusal(chunks, tmp_path / "film.mp4").sentence == "film.mp4 cannot hold prores"


def test_a_container_nobody_can_join_into_is_refused(render: Render, tmp_path: Path) -> None:
    chunks = rendered(render, ".mp4", *LOSSLESS)
    assert "film.gif cannot be joined" in join_refusal(chunks, tmp_path / "film.gif").sentence


def test_progress_ends_at_the_last_frame(render: Render, tmp_path: Path) -> None:
    seen: list[int] = []
    join(rendered(render, ".mp4", *LOSSLESS), tmp_path / "film.mp4", progress=seen.append)
    assert seen == [12, 24, 29]


def test_stop_before_the_join_writes_nothing(render: Render, tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JoinStopped):
        join(rendered(render, ".mp4", *LOSSLESS), tmp_path / "film.mp4", stop=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_stop_in_the_middle_removes_the_half_made_film(suffix: str, render: Render, tmp_path: Path) -> None:
    stop = threading.Event()
    chunks = rendered(render, suffix, *LOSSLESS)
    with pytest.raises(JoinStopped):
        join(chunks, tmp_path / f"film{suffix}", progress=lambda frames: stop.set(), stop=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_as_such(render: Render, tmp_path: Path) -> None:
    target = tmp_path / "film.mkv"
    target.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        join(rendered(render, ".mkv", "-c:v", "ffv1"), target)


def test_a_large_film_begins_with_its_index_without_being_written_twice(render: Render, tmp_path: Path) -> None:
    raw = ("-c:v", "rawvideo", "-pix_fmt", "uyvy422")
    clip = render(".mov", *raw, frames=40, size="1280x720")
    film = tmp_path / "film.mov"
    facts = join(chunk_list([clip], [40]), film)
    verify_film(film, fps=Fraction(30), frames=40, joined=facts)
    with film.open("rb") as file:
        head = file.read(1 << 22)
    # The room that the index has not used is free space, which no writer that moves the index would leave.
    assert 0 < head.index(b"moov") < head.index(b"free") < head.index(b"mdat")
    # Nor does it hold blocks that were reserved for more than it has become.
    assert film.stat().st_blocks * 512 < film.stat().st_size + (1 << 16)


def test_errors_of_a_chunk_that_is_opened_ahead_name_it(render: Render, tmp_path: Path) -> None:
    chunks = rendered(render, ".mp4", *LOSSLESS)
    facts = [inspect_video(chunk.path, fps=Fraction(30)) for chunk in chunks]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(chunks[1].path.read_bytes()[:-300])
    chunks = [
        ChunkFile(chunk.path, chunk.name, chunk.frames, found) for chunk, found in zip(chunks, facts, strict=True)
    ]
    chunks[1] = ChunkFile(cut, "chunk 1", 12, facts[1])

    error = join_refusal(chunks, tmp_path / "film.mp4")

    assert (error.chunk, error.sentence) == (1, f"chunk 1 ({cut}) is cut short: 300 bytes are missing")


def test_a_seam_that_shows_another_picture_is_refused(render: Render, tmp_path: Path) -> None:
    """Bits that change after the proof of a chunk are seen at the seam, though container and packets are whole."""
    chunks = rendered(render, ".mov", "-c:v", "rawvideo", "-pix_fmt", "uyvy422")
    facts = [inspect_video(chunk.path, fps=Fraction(30)) for chunk in chunks]
    data = bytearray(chunks[1].path.read_bytes())
    data[data.index(b"mdat") + 100] ^= 0xFF
    changed = tmp_path / "changed.mov"
    changed.write_bytes(data)
    sha256 = hashlib.sha256(chunks[1].path.read_bytes()).hexdigest()
    chunks = [
        ChunkFile(chunk.path, chunk.name, chunk.frames, found) for chunk, found in zip(chunks, facts, strict=True)
    ]
    chunks[1] = ChunkFile(changed, "chunk 1", 12, facts[1], sha256)
    film = tmp_path / "film.mov"
    made = join(chunks, film)

    with pytest.raises(DamagedOutput) as caught:
        verify_film(film, fps=Fraction(30), frames=29, joined=made)

    assert caught.value.sentence == f"chunk 1 ({changed}) has another content than was published"
    assert caught.value.chunk == 1


@pytest.mark.parametrize(
    ("suffix", "options"), [(".mov", ("-c:v", "hap", "-format", "hap_q")), (".mp4", B_FRAMES), (".ts", B_FRAMES)]
)
def test_every_frame_of_the_beginning_of_a_chunk_is_compared(
    suffix: str, options: tuple[str, ...], render: Render, tmp_path: Path
) -> None:
    """Only the beginning of a chunk is joined when a film is tried: the frames after it are missing on purpose."""
    fps = Fraction(30)
    path = render(suffix, *options, frames=12, fps="30")
    short = shorten_chunk(ChunkFile(path, "chunk 0", 12, inspect_video(path, fps=fps)), fps, 4)
    film = tmp_path / f"film{suffix}"

    made = join([short], film)
    found = verify_film(film, fps=fps, frames=short.frames, joined=made, full=True)

    assert 4 <= short.frames < 12
    assert found.proof == f"all {short.frames} frames decoded and compared with the chunks"


def test_a_film_that_lacks_frames_of_a_chunk_is_refused(render: Render, tmp_path: Path) -> None:
    path = render(".mov", "-c:v", "rawvideo", "-pix_fmt", "uyvy422", frames=12, fps="30")
    facts = inspect_video(path, fps=Fraction(30)).model_copy(update={"frames": 4, "last_picture": ""})
    film = tmp_path / "film.mov"
    made = join([ChunkFile(path, "chunk 0", 4, facts)], film)

    with pytest.raises(DamagedOutput) as caught:
        verify_film(film, fps=Fraction(30), frames=4, joined=made, full=True)

    assert caught.value.sentence == "film.mov shows only 4 frames when it is decoded: chunk 0 has more"


@pytest.mark.parametrize("name", CODECS)
def test_chunks_become_the_film_that_the_page_tells(name: str, tmp_path: Path, ffmpeg: str) -> None:
    row = measure_codec(name, tmp_path, ffmpeg)

    assert row.films[".mkv"] == JOINED
    assert f"\n{row}\n" in PAGE.read_text(), f"`make media-matrix ARGS=--write`: {row}"


def test_the_table_holds_all_codecs_and_no_others() -> None:
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip().splitlines()

    assert table[:2] == list(heads())
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(CODECS)


def test_every_seam_of_chunks_that_took_time_to_render_is_decoded(render: Render, tmp_path: Path) -> None:
    """Decoding 99 seams, each a group of pictures, takes more than the tenth of the join that is allowed otherwise."""
    clip = render(".mp4", *LOSSLESS, frames=12)
    facts = inspect_video(clip, fps=Fraction(30))
    chunks = [ChunkFile(clip, f"chunk {index}", 12, facts, render_seconds=60) for index in range(100)]
    film = tmp_path / "film.mp4"

    found = verify_film(film, fps=Fraction(30), frames=1200, joined=join(chunks, film))

    assert "around 99 of 99 seams decoded" in found.proof


def test_frames_that_were_too_dear_for_the_chunk_are_left_out_at_the_seams(render: Render, tmp_path: Path) -> None:
    """The first frame after a seam tells whether its parameters fit, and the last frame is decoded anyway."""
    clip = render(".mp4", *LOSSLESS, frames=12)
    facts = inspect_video(clip, fps=Fraction(30)).model_copy(update={"last_picture": ""})
    chunks = [ChunkFile(clip, f"chunk {number}", 12, facts) for number in range(3)]
    film = tmp_path / "film.mp4"

    found = verify_film(film, fps=Fraction(30), frames=36, joined=join(chunks, film))

    compared = "first and last frame, and the first frame after 2 of 2 seams"
    assert found.proof == f"{compared} decoded and compared with the chunks"


@pytest.mark.parametrize(("suffix", "decoded"), [(".mp4", 0), (".ts", 1)])
def test_a_chunk_is_decoded_for_the_end_of_its_film_only_where_the_film_has_other_packets(
    suffix: str, decoded: int, render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same packets are the same picture; those of a transport stream are written otherwise."""
    clip = render(suffix, *B_FRAMES, frames=10)
    facts = inspect_video(clip, fps=Fraction(30)).model_copy(update={"last_picture": ""})
    film = tmp_path / "film.mp4"
    made = join([ChunkFile(clip, f"chunk {number}", 10, facts) for number in range(2)], film)
    calls: list[str] = []

    def decode(container: InputContainer, stream: VideoStream, name: str) -> Iterator[VideoFrame]:
        calls.append(name)
        return decode_pictures(container, stream, name)

    monkeypatch.setattr(seams, "decode_pictures", decode)
    verify_film(film, fps=Fraction(30), frames=20, joined=made)

    assert len(calls) == decoded


def test_the_last_frame_of_a_film_is_compared_with_one_that_was_too_dear_for_the_chunk(
    render: Render, tmp_path: Path
) -> None:
    chunk = render(".mov", "-c:v", "rawvideo", "-pix_fmt", "uyvy422", frames=12, fps="30")
    facts = inspect_video(chunk, fps=Fraction(30)).model_copy(update={"last_picture": ""})
    film = tmp_path / "film.mov"
    made = join([ChunkFile(chunk, "chunk 0", 12, facts)], film)
    data = bytearray(film.read_bytes())
    end = data.index(b"mdat") + 4 + 12 * (facts.width * facts.height * 2) - 1
    data[end] ^= 0xFF
    film.write_bytes(data)

    with pytest.raises(DamagedOutput) as caught:
        verify_film(film, fps=Fraction(30), frames=12, joined=made)

    assert caught.value.sentence == "film.mov shows another picture at its frame 11 than chunk 0 does"

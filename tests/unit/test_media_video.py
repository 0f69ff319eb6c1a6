"""Videos of chunks: what is accepted and described, and what is refused with its reason."""

import shutil
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from activities.media import decoder
from activities.media.containers import has_complete_tail
from activities.media.facts import DamagedOutput, JoinStopped, MediaError, MismatchedOutput, UnknownOutput
from activities.media.video import inspect_video, read_video

Render = Callable[..., Path]
FPS = Fraction(30)
H264 = ("-c:v", "libx264", "-bf", "2")
KINDS = {
    "mp4": (".mp4", *H264),
    "mp4-faststart": (".mp4", *H264, "-movflags", "+faststart"),
    "mp4-fragmented": (".mp4", *H264, "-g", "4", "-movflags", "+frag_keyframe+empty_moov"),
    "mov": (".mov", "-c:v", "prores_ks"),
    "mkv": (".mkv", "-c:v", "ffv1"),
    "mkv-piped": (".mkv", *H264, "-live", "1"),
    "webm": (".webm", "-c:v", "libvpx-vp9", "-cpu-used", "8"),
    "ts": (".ts", *H264),
    "avi": (".avi", "-c:v", "mjpeg"),
    "mxf": (".mxf", "-c:v", "prores_ks"),
    "mxf-interlaced": (".mxf", "-c:v", "mpeg2video", "-bf", "2", "-flags", "+ildct+ilme"),
}


def refusal(path: Path, *, frames: int | None = 12, fps: Fraction = FPS) -> MediaError:
    with pytest.raises(MediaError) as caught:
        inspect_video(path, fps=fps, frames=frames)
    assert str(caught.value) == caught.value.sentence
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_file_is_accepted_and_described(kind: str, render: Render) -> None:
    facts = inspect_video(render(*KINDS[kind]), fps=FPS, frames=12)
    assert (facts.frames, facts.width, facts.height) == (12, 64, 64)
    assert facts.starts_clean


@pytest.mark.parametrize(
    ("suffix", "options", "codec"),
    [
        (".mp4", ("-c:v", "libx264"), "h264"),
        (".mp4", ("-c:v", "libx265", "-x265-params", "log-level=none"), "hevc"),
        (".mov", ("-c:v", "prores_ks", "-profile:v", "3"), "prores"),
        (".mkv", ("-c:v", "ffv1", "-level", "3"), "ffv1"),
        (".mp4", ("-c:v", "mpeg4", "-bf", "2"), "mpeg4"),
        (".webm", ("-c:v", "libvpx-vp9", "-lag-in-frames", "10", "-auto-alt-ref", "1"), "vp9"),
        (".mp4", ("-c:v", "libaom-av1", "-cpu-used", "8"), "av1"),
        (".mov", ("-c:v", "mjpeg"), "mjpeg"),
    ],
)
def test_every_codec_counts_one_packet_a_frame(
    suffix: str, options: tuple[str, ...], codec: str, render: Render
) -> None:
    assert inspect_video(render(suffix, *options), fps=FPS, frames=12).codec == codec


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_refused(kind: str, render: Render, tmp_path: Path) -> None:
    whole = render(*KINDS[kind])
    data = whole.read_bytes()
    size = len(data)
    cuts = {1, 2, 7, 8, 100, 188, 1880, size // 100, size // 10, size // 2, size * 9 // 10, size - 1}
    cut_file = tmp_path / whole.name
    accepted = []
    for cut in sorted(cut for cut in cuts if 0 < cut < size):
        cut_file.write_bytes(data[:-cut])
        try:
            inspect_video(cut_file, fps=FPS, frames=12)
            accepted.append(cut)
        except DamagedOutput:
            pass
    assert accepted == []


def test_a_transport_stream_cut_between_packets_is_refused_at_every_packet(render: Render, tmp_path: Path) -> None:
    data = render(".ts", "-c:v", "mpeg2video", "-q:v", "2").read_bytes()
    cut_file = tmp_path / "cut.ts"
    inside_a_frame = 0
    for cut in range(188, len(data) - 4 * 188, 188):
        cut_file.write_bytes(data[:-cut])
        assert isinstance(refusal(cut_file), DamagedOutput)
        inside_a_frame += not has_complete_tail(cut_file, 256)
    assert inside_a_frame > 12


def test_a_cut_inside_the_last_frame_is_refused_without_a_known_count(render: Render, tmp_path: Path) -> None:
    data = render(".ts", "-c:v", "mpeg2video", "-q:v", "2").read_bytes()
    cut_file = tmp_path / "cut.ts"
    cut_file.write_bytes(data[:-188])
    assert refusal(cut_file, frames=None).sentence == "cut.ts is cut short inside its last frame"


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_file_that_holds_nothing_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "chunk.mkv"
    if content is not None:
        path.write_bytes(content)
    assert refusal(path).sentence == f"chunk.mkv is {'missing' if content is None else 'empty'}"


@pytest.mark.parametrize(
    ("rate", "frames", "error", "problem"),
    [
        ("30", 50, DamagedOutput, "holds 12 frames instead of 50"),
        ("25", 12, MismatchedOutput, "runs at 25 frames a second instead of 30"),
    ],
    ids=["count", "rate"],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    rate: str, frames: int, error: type[MediaError], problem: str, render: Render
) -> None:
    clip = render(".mp4", *H264, fps=rate)
    wrong = refusal(clip, frames=frames)
    assert wrong.sentence == f"{clip.name} {problem}"
    assert type(wrong) is error


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi", ".mxf", ".flv"])
def test_what_is_no_video_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"chunk{suffix}"
    path.write_bytes(b"Traceback (most recent call last):\n" * 40)
    assert isinstance(refusal(path), DamagedOutput)


def test_a_playlist_under_a_films_name_is_not_followed(render: Render, tmp_path: Path) -> None:
    secret = render(*KINDS["ts"])
    path = tmp_path / "chunk.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    assert isinstance(refusal(path), DamagedOutput)


def test_a_container_under_another_containers_name_is_refused(render: Render, tmp_path: Path) -> None:
    path = tmp_path / "chunk.mkv"
    shutil.copy(render(*KINDS["mp4"]), path)
    assert isinstance(refusal(path), DamagedOutput)


def test_a_file_without_video_is_refused(render: Render, tmp_path: Path, ffmpeg: str) -> None:
    sound = render(".mov", "-map", "1:a", "-c:a", "pcm_s16le", extra=("-f", "lavfi", "-i", "sine=d=0.1"))
    assert refusal(sound).problem == "holds no video stream"


@pytest.mark.parametrize("kind", ["mp4", "mov", "ts"])
def test_a_thousandth_of_rate_is_noticed_within_twelve_frames(kind: str, render: Render) -> None:
    assert refusal(render(*KINDS[kind]), fps=Fraction(30000, 1001)).problem == (
        "runs at 30 frames a second instead of 29.97"
    )


@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "25", "60000/1001", "120", "12"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_frames_lie_on_the_grid_of_every_rate(rate: str, suffix: str, render: Render) -> None:
    clip = render(suffix, *H264, fps=rate)
    assert inspect_video(clip, fps=Fraction(rate), frames=12).frames == 12


def test_millisecond_times_kept_in_mp4_are_allowed(render: Render, ffmpeg: str, tmp_path: Path) -> None:
    clip = render(".mp4", *H264, "-enc_time_base", "1/1000", fps="30000/1001")
    assert inspect_video(clip, fps=Fraction(30000, 1001), frames=12).frames == 12


def test_uneven_timing_names_the_frame(render: Render) -> None:
    late = ("-vf", "settb=1/30000,setpts=PTS+gte(N\\,5)*300", "-fps_mode", "passthrough")
    clip = render(".mp4", *H264, *late, "-enc_time_base", "1/30000")
    assert "is unevenly timed: frame 5 is shown at 0.1767 s instead of 0.1667 s" in refusal(clip).sentence


def test_uneven_timing_is_found_where_a_tick_is_a_frame(render: Render) -> None:
    late = ("-vf", "setpts=PTS+gte(N\\,1)/(30*TB)", "-fps_mode", "passthrough")
    clip = render(".avi", "-c:v", "mjpeg", *late)
    assert "is unevenly timed: frame 1 is shown at 0.0667 s instead of 0.0333 s" in refusal(clip).sentence


@pytest.mark.parametrize("suffix", [".avi", ".mxf"])
def test_frames_whose_times_have_no_place_are_refused(suffix: str, render: Render) -> None:
    """AVI and MXF files store H.264 in the order of decoding, and libav takes that for the order of display."""
    clip = render(suffix, *H264)

    error = refusal(clip)

    assert isinstance(error, MismatchedOutput)
    assert error.problem == (
        f"stores its frames in another order than they are shown in, and {suffix} has no place for their times; encode "
        "without B-frames (-bf 0), or into .mov or .mkv"
    )
    assert inspect_video(render(suffix, "-c:v", "libx264", "-bf", "0"), fps=FPS).reorder_frames == 0


def test_facts_do_not_depend_on_the_container(render: Render) -> None:
    facts = [inspect_video(render(suffix, *H264), fps=FPS) for suffix in (".mp4", ".mov", ".mkv", ".ts")]
    assert [each.find_mismatch(facts[0]) for each in facts] == [None] * 4


def test_facts_survive_their_sidecar(render: Render) -> None:
    facts = inspect_video(render(*KINDS["mp4"]), fps=FPS)
    assert type(facts).model_validate_json(facts.model_dump_json()) == facts


def test_other_encoder_settings_are_noticed(render: Render) -> None:
    usual = inspect_video(render(*KINDS["mp4"]), fps=FPS)
    other = inspect_video(render(".mp4", "-c:v", "libx264", "-refs", "5", "-bf", "0"), fps=FPS)
    assert other.find_mismatch(usual) == "was encoded with other settings: its codec parameters differ"


def test_threads_of_the_machine_do_not_make_hevc_chunks_differ(render: Render) -> None:
    clips = [
        render(".mp4", "-c:v", "libx265", "-x265-params", f"log-level=none:frame-threads={count}") for count in (1, 2)
    ]
    one, two = (inspect_video(clip, fps=FPS) for clip in clips)
    assert one.find_mismatch(two) is None


def test_stop_ends_an_inspection(render: Render) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JoinStopped):
        inspect_video(render(*KINDS["mp4"]), fps=FPS, stop=stop)


def test_a_codec_that_nothing_here_can_read_is_refused_with_a_sentence(render: Render, tmp_path: Path) -> None:
    """HAP R is one: libav has no name for it, and no decoder."""
    unknown = tmp_path / "unknown.mov"
    unknown.write_bytes(render(".mov", "-c:v", "prores_ks").read_bytes().replace(b"apch", b"Hap7"))

    error = refusal(unknown)

    # Another host may have a newer libav: this is worth another try.
    assert isinstance(error, UnknownOutput)
    assert error.sentence == "unknown.mov holds video of a codec that nothing here can read; render another one"


def test_the_last_frame_is_decoded_where_that_costs_little_beside_the_render(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "_LEAST_SECONDS", 0.0)
    clip = render(*KINDS["mp4"])

    cheap, dear, unknown = (read_video(clip, fps=FPS, render_seconds=seconds).facts for seconds in (6000, 0, None))

    assert cheap.last_picture == unknown.last_picture != ""
    assert dear == cheap.model_copy(update={"last_picture": ""})

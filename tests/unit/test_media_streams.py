"""What chunks say of themselves stays in the film, in each container; what differs is named with both values."""

import subprocess
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from activities.media.audio import SoundSpan
from activities.media.facts import ChunkFile, DamagedOutput, MismatchedOutput, VideoFacts
from activities.media.film import FilmFacts, verify_film
from activities.media.join import find_join_problem, join_video
from activities.media.video import inspect_video
from longtake.sound_formats import StreamKind

Make = Callable[..., Path]
FPS = Fraction(25)
FRAMES = 10
PRORES = ("-c:v", "prores_ks")
H264 = ("-c:v", "libx264")
# As a camera of 1,000 nits and a display with the primaries of P3 have it.
HDR_DISPLAY = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = "-x265-params", f"log-level=none:hdr10=1:open-gop=0:{HDR_DISPLAY}:max-cll="
H265 = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1", HDR10[0])
FFV1 = ("-c:v", "ffv1", "-pix_fmt", "yuv420p")
UTVIDEO = ("-c:v", "utvideo", "-pix_fmt", "yuv422p")
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "200k")


@pytest.fixture
def make(ffmpeg: str, tmp_path: Path) -> Make:
    """Make a chunk of ten frames, with what filters and options put into it."""

    def run(name: str, *options: str, filters: str = "null", before: Sequence[str] = ()) -> Path:
        path = tmp_path / name
        picture = ("-f", "lavfi", "-i", f"testsrc2=s=160x128:r=25,{filters}")
        command = [ffmpeg, "-nostdin", "-v", "error", "-y", *picture, *before, "-frames:v", str(FRAMES), *options]
        subprocess.run([*command, str(path)], check=True)
        return path

    return run


def chunks_of(*paths: Path) -> list[ChunkFile]:
    return [ChunkFile(path, f"chunk {number}", FRAMES) for number, path in enumerate(paths)]


def join(target: Path, *paths: Path, drop: Sequence[StreamKind] = ()) -> tuple[VideoFacts, FilmFacts]:
    """Join chunks, verify the film against every frame of them, and return what a fresh look finds in it."""
    made = join_video(chunks_of(*paths), target, fps=FPS, drop=drop, progress=lambda _: None, stop=threading.Event())
    film = verify_film(target, fps=FPS, frames=FRAMES * len(paths), joined=made, full=True)
    return inspect_video(target, fps=FPS), film


def refusal(target: Path, *paths: Path) -> str:
    with pytest.raises(MismatchedOutput) as caught:
        join(target, *paths)
    assert not target.exists()
    return caught.value.sentence


@pytest.mark.parametrize(
    ("suffix", "options", "filters", "fact", "value"),
    [
        (".mov", PRORES, "setsar=64/45", "sample_aspect_ratio", "64:45"),
        (".mkv", VP9, "setsar=64/45", "sample_aspect_ratio", "64:45"),
        # WebM stores whole display sizes: 228 by 128.
        (".webm", VP9, "setsar=64/45", "sample_aspect_ratio", "57:40"),
        (".mp4", H264, "setsar=64/45", "sample_aspect_ratio", "64:45"),
        (".webm", (*VP9, "-auto-alt-ref", "0"), "format=yuva420p", "alpha", "1"),
        (".mov", ("-c:v", "hap", "-format", "hap_q"), "format=rgba", "sample_tag", "HapY"),
        (".mov", ("-c:v", "hap", "-format", "hap_alpha"), "format=rgba", "sample_tag", "Hap5"),
        (".mov", (*PRORES, "-profile:v", "4444"), "null", "sample_tag", "ap4h"),
        (".mov", (*PRORES, "-timecode", "01:00:00:00"), "null", "timecode", "01:00:00:00"),
        (".mp4", (*H264, "-metadata", "title=My Film"), "null", "title", "My Film"),
        (".mp4", (*H264, "-metadata:s:v", "language=deu"), "null", "language", "deu"),
        (".mkv", (*H264, "-metadata:s:v", "language=deu"), "null", "language", "deu"),
        (".mkv", (*H264, "-metadata:s:v", "title=Picture"), "null", "stream_tags", {"title": "Picture"}),
        (".mkv", (*UTVIDEO, "-metadata:s:v", "title=Picture"), "setsar=64/45", "stream_tags", {"title": "Picture"}),
        (".mp4", (*H264, "-metadata", "comment=v003"), "null", "tags", {"comment": "v003"}),
        (".mkv", (*H264, "-metadata", "comment=v003"), "null", "tags", {"comment": "v003"}),
        (".mov", (*PRORES, "-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc"),
         "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc", "colour_transfer", "16"),
        (".mov", (*PRORES, "-flags", "+ildct"), "setfield=tff", "field_order", "tb"),
        (".mp4", (*H265, f"{HDR10[1]}1000,400"), "null", "mastering_display",
         "red (0.68, 0.32), green (0.265, 0.69), blue (0.15, 0.06), white (0.3127, 0.329), 0.005 to 1000 cd/m2"),
        (".mp4", (*H265, f"{HDR10[1]}1000,400"), "null", "content_light", "1000 and 400 cd/m2"),
        (".mkv", FFV1, "setparams=chroma_location=topleft", "chroma_location", "top left"),
        (".avi", (*UTVIDEO, "-metadata", "comment=v003"), "null", "tags", {"comment": "v003"}),
        (".avi", UTVIDEO, "setsar=64/45", "sample_aspect_ratio", "64:45"),
        (".avi", (*UTVIDEO, "-timecode", "01:00:00:00"), "null", "timecode", "01:00:00:00"),
        (".mxf", (*PRORES, "-timecode", "01:00:00:00"), "setsar=64/45", "timecode", "01:00:00:00"),
        (".mxf", PRORES, "setsar=64/45", "sample_aspect_ratio", "64:45"),
        (".mxf", (*PRORES, "-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc"),
         "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc", "colour_transfer", "16"),
        (".mp4", (*H264, "-pix_fmt", "yuv420p", "-x264-params", "chromaloc=2"), "null", "chroma_location", "top left"),
    ],
)  # fmt: skip
def test_a_film_says_what_its_chunks_say(
    suffix: str, options: tuple[str, ...], filters: str, fact: str, value: object, make: Make, tmp_path: Path
) -> None:
    chunk = make(f"c0{suffix}", *options, filters=filters)
    told = getattr(inspect_video(chunk, fps=FPS), fact)
    found, film = join(tmp_path / f"film{suffix}", chunk, chunk)

    assert told == value
    assert getattr(found, fact) == told
    assert film.notes == ()
    assert film.proof == "all 20 frames decoded and compared with the chunks"


@pytest.mark.parametrize("kind", ["hap_alpha", "hap_q"])
@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_kinds_of_hap_keep_their_tags_in_a_quicktime_film(suffix: str, kind: str, make: Make, tmp_path: Path) -> None:
    chunk = make(f"c{suffix}", "-c:v", "hap", "-format", kind, filters="format=rgba")
    found, _ = join(tmp_path / "film.mov", chunk, chunk)

    assert found.sample_tag == {"hap_alpha": "Hap5", "hap_q": "HapY"}[kind]


def test_dvcpro_hd_keeps_the_tag_of_its_rate(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mov", "-c:v", "dvvideo", "-pix_fmt", "yuv422p", "-s", "1440x1080")
    found, _ = join(tmp_path / "film.mov", chunk, chunk)

    # Of 50 fields a second; dvh6 has 60.
    assert found.sample_tag == "dvh5"


def test_h264_in_avi_has_its_parameter_sets_as_its_pictures_have_theirs(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mp4", *H264, "-bf", "0")
    join(tmp_path / "film.avi", chunk, chunk)

    with av.open(str(tmp_path / "film.avi")) as film:
        extradata = film.streams.video[0].codec_context.extradata or b""
    assert extradata.startswith(b"\0\0\0\1")


def test_fields_that_a_container_names_otherwise_are_the_same(make: Make, tmp_path: Path) -> None:
    # Matroska says which field is stored first, and which one is shown first; the pictures say the latter alone.
    interlaced = ("-flags", "+ildct+ilme", "-x264-params", "bff=1")
    chunk = make("c.mkv", *H264, *interlaced, filters="setfield=bff")
    found, _ = join(tmp_path / "film.mp4", chunk, chunk)

    assert (inspect_video(chunk, fps=FPS).field_order, found.field_order) == ("bt", "bb")


def test_h265_of_hdr_goes_into_a_transport_stream(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mp4", *H265, f"{HDR10[1]}1000,400")
    found, _ = join(tmp_path / "film.ts", chunk, chunk)

    assert found.content_light == "1000 and 400 cd/m2"


def test_a_palette_that_a_container_has_lost_is_found(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mov", "-c:v", "qtrle", "-pix_fmt", "gray")

    with pytest.raises(MismatchedOutput) as caught:
        join(tmp_path / "film.mkv", chunk, chunk)
    assert caught.value.sentence == (
        "film.mkv cannot hold qtrle as the chunks have it: the film shows another picture at its frame 0 than chunk 0 "
        "does; end output in the extension of the chunks"
    )
    found, _ = join(tmp_path / "film.mov", chunk, chunk)
    assert found.pixel_format == "pal8"


def test_raw_samples_that_quicktime_has_no_tag_for_are_refused(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mkv", "-c:v", "rawvideo", "-pix_fmt", "yuv420p")

    with pytest.raises(
        MismatchedOutput, match=r"film\.mov cannot hold rawvideo as the chunks have it: the film cannot"
    ):
        join(tmp_path / "film.mov", chunk, chunk)


def test_kinds_of_side_data_that_the_decoder_has_no_name_for_hide_no_others(make: Make) -> None:
    # TIFF pictures carry EXIF.
    chunk = make("c.mov", "-c:v", "tiff", "-pix_fmt", "rgb24")

    assert inspect_video(chunk, fps=FPS).rotation == ""


def test_a_title_of_the_pictures_that_a_container_has_no_place_for_is_said(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mkv", *H264, "-metadata:s:v", "title=Picture")
    _, film = join(tmp_path / "film.mp4", chunk, chunk)

    assert film.notes == ("its container has no place for title of the pictures of the chunks",)


def test_dispositions_stay(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mkv", *H264, "-disposition:v", "default+comment")
    join(tmp_path / "film.mkv", chunk, chunk)

    with av.open(str(tmp_path / "film.mkv")) as film:
        assert film.streams.video[0].disposition == Disposition.default | Disposition.comment


@pytest.mark.parametrize("language", ["deu", "fra", "cat", "eng"])
def test_a_quicktime_film_of_other_files_says_their_language(language: str, make: Make, tmp_path: Path) -> None:
    sound = ("-f", "lavfi", "-i", "sine=440:r=48000")
    said = [word for kind in "va" for word in (f"-metadata:s:{kind}", f"language={language}")]
    chunk = make("c.mkv", *PRORES, "-c:a", "pcm_s16le", "-t", "0.4", *said, before=sound)
    found, film = join(tmp_path / "film.mov", chunk, chunk)

    assert found.language == language
    assert film.notes == ()
    with av.open(str(tmp_path / "film.mov")) as opened:
        assert [stream.metadata["language"] for stream in opened.streams.audio] == [language]


def test_alpha_of_a_webm_film_is_said_in_the_element_that_browsers_read(make: Make, tmp_path: Path) -> None:
    chunk = make("c.webm", *VP9, "-auto-alt-ref", "0", filters="format=yuva420p")
    join(tmp_path / "film.webm", chunk, chunk)

    assert b"\x53\xc0\x81\x01" in (tmp_path / "film.webm").read_bytes()[:4096]


@pytest.mark.parametrize(
    ("suffix", "options", "filters", "other_options", "other_filters", "sentence"),
    [
        (".mov", PRORES, "setsar=64/45", PRORES, "setsar=1", "has another pixel shape: 1:1 instead of 64:45"),
        (".mp4", (*H264, "-metadata", "title=A"), "null", (*H264, "-metadata", "title=B"), "null",
         "has another title: B instead of A"),
        (".mp4", (*H264, "-metadata:s:v", "language=deu"), "null", (*H264, "-metadata:s:v", "language=fra"), "null",
         "has another language: fra instead of deu"),
        (".mov", (*PRORES, "-timecode", "01:00:00:00"), "null", (*PRORES, "-timecode", "02:00:00:00"), "null",
         "has another timecode: 02:00:00:00 instead of 01:00:00:00, or one that continues it"),
        (".mov", ("-c:v", "hap"), "format=rgba", ("-c:v", "hap", "-format", "hap_q"), "format=rgba",
         "has another sample tag: HapY instead of Hap1"),
        (".mkv", FFV1, "setparams=chroma_location=topleft", FFV1, "setparams=chroma_location=left",
         "has another chroma location: left instead of top left"),
        (".mp4", (*H265, f"{HDR10[1]}1000,400"), "null", (*H265, f"{HDR10[1]}4000,400"), "null",
         "has another content light level: 4000 and 400 cd/m2 instead of 1000 and 400 cd/m2"),
    ],
)  # fmt: skip
def test_a_chunk_that_says_something_else_is_named_with_both_values(
    suffix: str, options: tuple[str, ...], filters: str, other_options: tuple[str, ...], other_filters: str,
    sentence: str, make: Make, tmp_path: Path,
) -> None:  # fmt: skip
    first = make(f"c0{suffix}", *options, filters=filters)
    second = make(f"c1{suffix}", *other_options, filters=other_filters)

    assert refusal(tmp_path / f"film{suffix}", first, second) == f"chunk 1 ({second}) {sentence}"


def test_a_chunk_that_is_turned_is_named(make: Make, ffmpeg: str, tmp_path: Path) -> None:
    straight = make("c0.mp4", *H264, filters="scale=256:256")
    turned = tmp_path / "c1.mp4"
    turn = ("-display_rotation", "90", "-i", str(straight), "-c", "copy", str(turned))
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *turn], check=True)

    assert "has another rotation: " in refusal(tmp_path / "film.mp4", straight, turned)
    found, _ = join(tmp_path / "turned.mp4", turned, turned)
    assert found.rotation == inspect_video(turned, fps=FPS).rotation


def test_a_timecode_that_goes_on_is_that_of_one_film(make: Make, tmp_path: Path) -> None:
    paths = [make(f"c{number}.mov", *PRORES, "-timecode", f"01:00:00:{10 * number:02}") for number in range(2)]
    found, _ = join(tmp_path / "film.mov", *paths)

    assert found.timecode == "01:00:00:00"


@pytest.mark.parametrize(
    ("rate", "timecodes"),
    [("25", ("23:59:59:22", "00:00:00:07")), ("30000/1001", ("23:59:59;28", "00:00:00;08"))],
)
def test_a_timecode_goes_on_over_midnight(rate: str, timecodes: tuple[str, str], make: Make, tmp_path: Path) -> None:
    paths = [
        make(f"c{number}.mov", *PRORES, "-timecode", timecode, filters=f"settb=AVTB,setpts=N/({rate})/TB,fps={rate}")
        for number, timecode in enumerate(timecodes)
    ]
    film, fps = tmp_path / "film.mov", Fraction(rate)
    join_video(chunks_of(*paths), film, fps=fps, progress=lambda _: None, stop=threading.Event())

    assert inspect_video(film, fps=fps).timecode == timecodes[0]


def test_chapters_of_all_chunks_are_those_of_the_film(make: Make, tmp_path: Path) -> None:
    listing = tmp_path / "chapters.txt"
    chapters = ("TIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=One", "TIMEBASE=1/1000\nSTART=200\nEND=400\ntitle=Two")
    listing.write_text(";FFMETADATA1\n" + "".join(f"[CHAPTER]\n{chapter}\n" for chapter in chapters))
    chunk = make("c.mp4", "-map", "0:v", "-map_chapters", "1", *H264, before=("-i", str(listing)))
    for suffix in (".mp4", ".mkv"):
        found, film = join(tmp_path / f"film{suffix}", chunk, chunk)

        assert [(round(start, 3), round(stop, 3), title) for start, stop, title in found.chapters] == [
            (0, 0.2, "One"), (0.2, 0.4, "Two"), (0.4, 0.6, "One"), (0.6, 0.8, "Two"),
        ]  # fmt: skip
        assert film.notes == ()


def test_what_a_container_has_no_place_for_is_said(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mp4", *H264, "-metadata", "title=My Film")
    _, film = join(tmp_path / "film.ts", chunk, chunk)

    assert film.notes == ("its container has no place for title of the chunks",)


def test_colours_that_a_container_has_no_place_for_are_refused_with_both_values(make: Make, tmp_path: Path) -> None:
    tags = ("-color_trc", "bt709", "-color_primaries", "bt709", "-colorspace", "bt709")
    chunk = make("c.mkv", *UTVIDEO, *tags, filters="setparams=color_trc=bt709:color_primaries=bt709:colorspace=bt709")

    with pytest.raises(MismatchedOutput, match=r"film\.avi has another set of colour primaries: 2 instead of 1"):
        join(tmp_path / "film.avi", chunk, chunk)


@pytest.mark.parametrize("suffix", [".avi", ".mxf"])
def test_frames_whose_times_a_container_has_no_place_for_are_refused(suffix: str, make: Make, tmp_path: Path) -> None:
    chunk = make("c.mp4", *H264, "-bf", "2")

    assert refusal(tmp_path / f"film{suffix}", chunk, chunk) == (
        f"film{suffix} cannot hold h264 whose frames are stored in another order than they are shown in; encode the "
        "chunks without B-frames (-bf 0), or end output in .mkv or .mov"
    )


def test_raw_samples_that_avi_has_no_tag_for_are_refused(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mov", "-c:v", "rawvideo", "-pix_fmt", "uyvy422")

    assert refusal(tmp_path / "film.avi", chunk, chunk) == "film.avi cannot hold rawvideo"


SINES = ("-f", "lavfi", "-i", "sine=440:r=48000:d=0.4", "-f", "lavfi", "-i", "sine=880:r=48000:d=0.4")


@pytest.mark.parametrize("suffix", [".mov", ".mkv", ".mp4", ".avi", ".mxf"])
def test_all_sounds_of_chunks_are_joined(suffix: str, make: Make, tmp_path: Path) -> None:
    streams = ("-map", "0", "-map", "1", "-map", "2")
    chunk = make("c.mov", *streams, *H264, "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "pcm_s16be", before=SINES)
    found, _ = join(tmp_path / f"film{suffix}", chunk, chunk)

    assert len(found.sounds or ()) == 2
    # Each is as long as the film.
    with av.open(str(tmp_path / f"film{suffix}")) as film:
        for number in range(2):
            span = SoundSpan()
            span.add_all(film.demux(film.streams.audio[number]))
            film.seek(0)
            assert abs(span.end - 2 * FRAMES / FPS) <= span.packet


@pytest.mark.parametrize(
    ("options", "others", "sentence"),
    [
        (("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=fra"),
         ("-metadata:s:a:0", "language=fra", "-metadata:s:a:1", "language=eng"),
         "has other sound: fra (mono) and eng (mono) instead of eng (mono) and fra (mono)"),
        (("-af", "aformat=channel_layouts=quad"), ("-af", "aformat=channel_layouts=4.0"),
         "has other sound: und (4.0) and und (4.0) instead of und (quad) and und (quad)"),
    ],
)  # fmt: skip
def test_sounds_of_other_languages_or_speakers_are_named(
    options: tuple[str, ...], others: tuple[str, ...], sentence: str, make: Make, tmp_path: Path
) -> None:
    streams = ("-map", "0", "-map", "1", "-map", "2", *PRORES, "-c:a", "pcm_s16le")
    paths = [make(f"c{n}.mov", *streams, *words, before=SINES) for n, words in enumerate((options, others))]

    assert refusal(tmp_path / "film.mov", *paths) == f"chunk 1 ({paths[1]}) {sentence}"
    join(tmp_path / "film.mov", *paths, drop=[StreamKind.AUDIO])


def test_sound_that_cannot_be_joined_is_refused_with_its_chunk_unless_it_is_dropped(make: Make, tmp_path: Path) -> None:
    chunk = make("c.mp4", "-map", "0", "-map", "1", *H264, "-c:a", "aac", before=SINES)
    problem = find_join_problem(inspect_video(chunk, fps=FPS), drop=(), has_audio=False)

    assert problem is not None
    assert problem.startswith("holds aac sound, which cannot be joined without a gap at each seam")
    assert "holds aac sound" in refusal(tmp_path / "film.mp4", chunk, chunk)
    found, _ = join(tmp_path / "film.mp4", chunk, chunk, drop=[StreamKind.AUDIO])
    assert found.sounds == ()


def test_a_chunk_cut_out_of_a_group_of_pictures_is_refused(make: Make, ffmpeg: str, tmp_path: Path) -> None:
    source = make("source.mp4", *H264, "-g", "10", "-bf", "0")
    cut = tmp_path / "c.mp4"
    words = ("-ss", "0.2", "-i", str(source), "-c", "copy", str(cut))
    subprocess.run([ffmpeg, "-nostdin", "-v", "error", *words], check=True)

    with pytest.raises(MismatchedOutput, match="hides some of its frames by an edit list"):
        inspect_video(cut, fps=FPS)


def test_a_film_of_a_codec_without_a_decoder_is_proven_as_far_as_that_goes(make: Make, tmp_path: Path) -> None:
    film = tmp_path / "film.mov"
    # libav knows the name of AVS3, and needs a library for it that no wheel of PyAV holds.
    film.write_bytes(make("c.mov", "-c:v", "hap", filters="format=rgba").read_bytes().replace(b"Hap1", b"avs3"))

    facts = verify_film(film, fps=FPS, frames=FRAMES)
    assert (facts.frames, facts.codec, facts.width, facts.height, facts.proof) == (FRAMES, "avs3", 160, 128, "")
    assert facts.notes == (
        "its pictures are avs3, which cannot be decoded here: frames and times are proven, pictures not",
    )
    problem = find_join_problem(inspect_video(film, fps=FPS), drop=(), has_audio=False)
    assert problem is not None
    assert problem.startswith("holds avs3, which nothing here can read")


def test_a_chunk_of_which_no_picture_can_be_decoded_is_damaged(make: Make) -> None:
    chunk = make("c.mov", "-c:v", "hap", filters="format=rgba")
    chunk.write_bytes(chunk.read_bytes().replace(b"Hap1", b"cavs"))

    with pytest.raises(DamagedOutput, match="shows no picture when it is decoded"):
        inspect_video(chunk, fps=FPS)

"""Read what a container says of its streams: codec, shape, colour, field order, sound, language, timecode and tags."""

import io
import re
from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from activities.media.containers import find_codec_name, find_stream_line
from activities.media.decoder import describe_display, hash_picture
from activities.media.facts import Chapter, VideoFacts
from activities.media.matroska import find_chroma_location

# What every muxer writes anew, and what has a field of its own.
_TECHNICAL = re.compile(
    r"encoder|duration|handler_name|vendor_id|major_brand|minor_version|compatible_brands|creation_time|timecode|"
    r"language|alpha_mode|stereo_mode|rotate|bps(-.*)?|number_of_.*|_statistics_.*|source_id.*|filename|mimetype|"
    r"encoding_tool|variant_bitrate|reel_umid|(material|file)_.*|.*_uid|generation_uid|operational_pattern_ul|"
    r"modification_date|product_.*|toolkit_.*|application_platform|company_name|track_name|data_type|file_package_name|"
    # Of MXF and AVI files: a number of their own, and the program that wrote them.
    r"uid|software",
    re.IGNORECASE,
)
# Of these the parameter sets say more than the tag: hvc1 and hev1 differ in where the sets stand.
_TAGLESS = frozenset({"h264", "hevc"})
# AVFieldOrder; 0 is unknown. The last two store one field first and show the other one first.
_FIELD_ORDERS = {1: "progressive", 2: "tt", 3: "bb", 4: "tb", 5: "bt"}
_SIZE = re.compile(r"[ ,](\d{1,6})x(\d{1,6})\b")


def describe_undecodable(
    container: InputContainer, stream: VideoStream, frames: int, reorder_frames: int
) -> VideoFacts:
    """Describe a stream whose codec has a name, and no decoder here: size and times are known, pictures are not."""
    codec = find_codec_name(container, stream)
    size = _SIZE.search(find_stream_line(container, stream))
    return VideoFacts(
        frames=frames,
        codec=codec,
        profile="",
        width=int(size[1]) if size else 0,
        height=int(size[2]) if size else 0,
        pixel_format="",
        sample_aspect_ratio="1:1",
        colour_range="limited",
        colour_space="2",
        colour_primaries="2",
        colour_transfer="2",
        extradata_sha256="",
        reorder_frames=reorder_frames,
        unproven=f"its pictures are {codec}, which cannot be decoded here: frames and times are proven, pictures not",
    )


def describe_stream(
    container: InputContainer,
    stream: VideoStream,
    *,
    frames: int,
    extradata_sha256: str,
    reorder_frames: int,
    starts_clean: bool,
    first: VideoFrame | None,
    last: VideoFrame | None,
    needs_last: bool,
) -> VideoFacts:
    """Describe a video stream and what lies beside it in its file."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio or Fraction(1)
    sounds = tuple(describe_sound(each) for each in container.streams.audio)
    display = dict.fromkeys(_DISPLAY, "") | describe_display(first) if first is not None else {}
    tags, stream_tags = dict(container.metadata), dict(stream.metadata)
    unproven = ""
    if first is None or (last is None and needs_last):
        unproven = f"its {'first' if first is None else 'last'} frame was not decoded"
    return VideoFacts(
        frames=frames,
        codec=codec,
        profile=context.profile or "",
        width=context.width,
        height=context.height,
        pixel_format=context.pix_fmt or "",
        sample_aspect_ratio=f"{aspect.numerator}:{aspect.denominator}",
        colour_range=_colour_range(context),
        colour_space=str(int(context.colorspace)),
        colour_primaries=str(int(context.color_primaries)),
        colour_transfer=str(int(context.color_trc)),
        extradata_sha256=extradata_sha256,
        reorder_frames=reorder_frames,
        starts_clean=starts_clean,
        audio=sounds[0] if sounds else "",
        sounds=sounds,
        sound_labels=tuple(describe_labels(each) for each in container.streams.audio),
        other_streams=tuple(_other_streams(container, stream)),
        sample_tag=_sample_tag(container, stream),
        field_order=_FIELD_ORDERS.get(context.field_order),
        chroma_location=_find_chroma_location(stream),
        alpha=find_tag(stream_tags, "alpha_mode"),
        language=find_tag(stream_tags, "language") or "und",
        title=find_tag(tags, "title"),
        tags={key: text for key, text in _own_tags(tags).items() if key != "title"},
        stream_tags=_own_tags(stream_tags),
        timecode=_timecode(container, stream),
        chapters=tuple(_chapters(container)),
        first_picture=hash_picture(first) if first is not None else "",
        last_picture=hash_picture(last) if last is not None else "",
        unproven=unproven,
        **display,
    )


_DISPLAY = ("rotation", "stereo", "projection", "mastering_display", "content_light")


def find_tag(tags: dict[str, str], name: str) -> str:
    """Find a tag by its name in any letter case, which containers choose for themselves; empty without one."""
    return next((text for key, text in tags.items() if key.lower() == name), "")


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): text for key, text in tags.items() if not _TECHNICAL.fullmatch(key)}


def _timecode(container: InputContainer, stream: VideoStream) -> str:
    places: list[dict[str, str]] = [stream.metadata, *(each.metadata for each in container.streams.data)]
    return next(filter(None, (find_tag(place, "timecode") for place in [*places, container.metadata])), "")


def _chapters(container: InputContainer) -> Iterator[Chapter]:
    for chapter in container.chapters():
        base = chapter["time_base"]
        assert base is not None
        title = find_tag(chapter["metadata"], "title")
        yield float(chapter["start"] * base), float(chapter["end"] * base), title


def _sample_tag(container: InputContainer, stream: VideoStream) -> str | None:
    """Return the sample tag; only QuickTime and MP4 files tell kinds of one codec apart by it."""
    context = stream.codec_context
    if "mov" not in container.format.name.split(",") or context.codec.canonical_name in _TAGLESS:
        return None
    return context.codec_tag


def _other_streams(container: InputContainer, video: VideoStream) -> list[str]:
    """List the kinds of all streams that are neither the picture nor sound, nor made anew: timecode and chapters."""
    found = []
    chapters = 1 if container.chapters() else 0
    for stream in container.streams:
        if stream.index == video.index or isinstance(stream, AudioStream):
            continue
        if isinstance(stream, VideoStream):
            is_cover = stream.disposition & Disposition.attached_pic
            found.append("cover picture" if is_cover else "video")
        elif not find_tag(stream.metadata, "timecode"):
            if chapters and _holds_chapters(stream):
                chapters -= 1
            else:
                found.append(_kind(stream))
    return found


def _holds_chapters(stream: Stream) -> bool:
    """Tell whether a stream may be the text track in which QuickTime and MP4 files keep the titles of chapters."""
    return stream.type in ("data", "subtitle") and find_tag(stream.metadata, "handler_name") in (
        "SubtitleHandler", "TextHandler", "VideoHandler", "Apple Text Media Handler", "",
    )  # fmt: skip


def _kind(stream: Stream) -> str:
    name = getattr(stream, "name", None) or ""
    return f"{stream.type} {name}".strip()


def describe_sound(stream: AudioStream) -> str:
    """Describe codec, rate and channels of a sound; equal for sounds that can be joined."""
    context = stream.codec_context
    if context is None:
        return "unknown codec"
    return f"{context.name} {context.sample_rate} Hz {context.channels} channels"


def describe_labels(stream: AudioStream) -> str:
    """Describe language and speakers of a sound, as far as its container names them; the same in all chunks."""
    context = stream.codec_context
    layout = context.layout if context is not None else None
    # Matroska does not say which speaker a channel belongs to.
    is_named = layout is not None and all(channel.name != "NONE" for channel in layout.channels)
    speakers = layout.name if layout is not None and is_named else "speakers not named"
    return f"{find_tag(stream.metadata, 'language') or 'und'} ({speakers})"


def _find_chroma_location(stream: VideoStream) -> str | None:
    """Find where the colour samples lie: PyAV does not tell, but a head of Matroska with such a stream does."""
    pixels = stream.codec_context.format
    if pixels is None or pixels.chroma_width(2) == 2:
        return ""
    head = io.BytesIO()
    try:
        with av.open(head, "w", format="matroska") as probe:
            probe.add_stream_from_template(stream, opaque=True)
            probe.start_encoding()
            return find_chroma_location(head)
    except (av.error.FFmpegError, ValueError):
        # Not every codec has a name there.
        return None


def _colour_range(context: VideoCodecContext) -> str:
    """Name the range of the samples; containers differ in whether they spell out the usual one."""
    if context.color_range == ColorRange.UNSPECIFIED:
        pixels = context.format
        full = pixels is not None and (pixels.is_rgb or pixels.name.startswith("yuvj"))
        return "full" if full else "limited"
    return "full" if context.color_range == ColorRange.JPEG else "limited"

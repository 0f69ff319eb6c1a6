"""One pass over all packets of a video file."""

import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from activities.media.audio import SoundSpan
from activities.media.containers import check_structure
from activities.media.errors import DamagedOutput, JoinStopped, MismatchedOutput
from activities.media.facts import VideoFacts
from activities.media.parameters import parameters_sha256
from activities.media.source import open_media, video_stream
from activities.media.timeline import Timeline
from activities.media.transport import tail_is_complete


@dataclass(frozen=True)
class VideoReading:
    """All that one pass over a video file has found.

    Attributes:
        facts: The facts of its pictures.
        begin: When the first picture is shown, in seconds of the file's own clock.
        sound: From when to when the first audio stream is heard, if it was asked for and exists.
        duration_seconds: How long the container says that it lasts; zero when it says nothing.
    """

    facts: VideoFacts
    begin: Fraction
    sound: SoundSpan | None
    duration_seconds: float


def read_video(
    path: Path,
    *,
    fps: Fraction,
    frames: int | None = None,
    stop: threading.Event | None = None,
    with_sound: bool = False,
    slack_seconds: Fraction = Fraction(0),
) -> VideoReading:
    """Does what `inspect_video` promises and keeps what a finished film is judged by besides."""
    proven = check_structure(path)
    with open_media(path) as container:
        stream = video_stream(container, path.name)
        sound = SoundSpan() if with_sound and container.streams.audio else None
        timeline, key_first = _read_timeline(container, stream, path.name, stop, sound)
        _check_count(path.name, len(timeline.pts), frames)
        if container.format.name == "mpegts":
            proven = tail_is_complete(path, stream.id)
        if not proven:
            _decode_tail(path)
        problem = timeline.grid_problem(fps, slack_seconds)
        if problem is not None:
            raise MismatchedOutput(path.name, problem)
        return VideoReading(
            facts=_describe(container, stream, timeline, key_first, fps),
            begin=min(timeline.pts) * timeline.time_base,
            sound=sound,
            duration_seconds=(container.duration or 0) / av.time_base,
        )


def _read_timeline(
    container: InputContainer,
    stream: VideoStream,
    name: str,
    stop: threading.Event | None,
    sound: SoundSpan | None,
) -> tuple[Timeline, bool]:
    timeline = Timeline(stream.time_base or Fraction(1, 1000))
    key_first = False
    latest_dts: int | None = None
    streams: list[Stream] = [stream, container.streams.audio[0]] if sound is not None else [stream]
    for packet in container.demux(*streams):
        if stop is not None and stop.is_set():
            raise JoinStopped(name)
        if packet.size == 0:
            continue
        if packet.stream_index != stream.index:
            if sound is not None:
                sound.add(packet)
            continue
        number = len(timeline.pts)
        if packet.is_corrupt:
            raise DamagedOutput(name, f"is damaged at its frame {number}")
        if packet.is_discard:
            raise MismatchedOutput(name, "hides some of its frames by an edit list, so it cannot be joined")
        if packet.pts is None:
            raise MismatchedOutput(name, f"does not say when its frame {number} is shown")
        if packet.dts is not None:
            if latest_dts is not None and packet.dts <= latest_dts:
                raise DamagedOutput(name, f"stores its frame {number} out of order")
            latest_dts = packet.dts
        if number == 0:
            key_first, timeline.first_dts = packet.is_keyframe, packet.dts
        timeline.pts.append(packet.pts)
    return timeline, key_first


def _check_count(name: str, count: int, frames: int | None) -> None:
    if count == 0:
        raise DamagedOutput(name, "holds no frames")
    if frames is not None and count != frames:
        raise DamagedOutput(name, f"holds {count} frame{'s' if count > 1 else ''} instead of {frames}")


def _describe(
    container: InputContainer, stream: VideoStream, timeline: Timeline, key_first: bool, fps: Fraction
) -> VideoFacts:
    context = stream.codec_context
    aspect = context.sample_aspect_ratio or Fraction(1)
    sound = container.streams.audio[0] if container.streams.audio else None
    return VideoFacts(
        frames=len(timeline.pts),
        codec=context.codec.canonical_name,
        profile=context.profile or "",
        width=context.width,
        height=context.height,
        pixel_format=context.pix_fmt or "",
        sample_aspect_ratio=f"{aspect.numerator}:{aspect.denominator}",
        colour_range=_colour_range(context),
        colour_space=str(int(context.colorspace)),
        colour_primaries=str(int(context.color_primaries)),
        colour_transfer=str(int(context.color_trc)),
        extradata_sha256=parameters_sha256(context.codec.canonical_name, context.extradata),
        reorder_frames=timeline.reorder_frames(fps),
        starts_clean=key_first and timeline.pts[0] == min(timeline.pts),
        audio=_describe_sound(sound) if sound else "",
    )


def _colour_range(context: VideoCodecContext) -> str:
    """Names the range of the samples; containers differ in whether they spell out the usual one."""
    if context.color_range == ColorRange.UNSPECIFIED:
        pixels = context.format
        full = pixels is not None and (pixels.is_rgb or pixels.name.startswith("yuvj"))
        return "full" if full else "limited"
    return "full" if context.color_range == ColorRange.JPEG else "limited"


def _describe_sound(stream: AudioStream) -> str:
    context = stream.codec_context
    return f"{context.name} {context.sample_rate} Hz {context.channels} channels"


def _decode_tail(path: Path) -> None:
    """Decodes from the last key frame on, and refuses what a decoder has to guess."""
    with open_media(path) as container:
        stream = video_stream(container, path.name)
        starts = [packet.dts for packet in container.demux(stream) if packet.is_keyframe]
    last = starts[-1] if starts else None
    with open_media(path) as container:
        stream = video_stream(container, path.name)
        stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}
        for packet in container.demux(stream):
            if last is not None and packet.dts is not None and packet.dts < last:
                continue
            try:
                whole = not any(frame.is_corrupt for frame in stream.decode(packet))
            except av.error.InvalidDataError:
                whole = False
            if not whole:
                raise DamagedOutput(path.name, "is cut short inside its last frame")

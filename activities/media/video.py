"""Checking that a video file is whole: container, frame times, codec parameters, and the last frames decoded."""

import hashlib
import math
import re
import struct
import threading
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from activities.media.audio import SoundSpan
from activities.media.containers import (
    TIMED_BY_PICTURES,
    AnyPacket,
    check_structure,
    find_video_stream,
    has_complete_tail,
    open_media,
)
from activities.media.decoder import EdgeDecoder, decode_pictures
from activities.media.facts import DamagedOutput, JoinStopped, MismatchedOutput, VideoFacts
from activities.media.film_index import read_index
from activities.media.streams import describe_stream, describe_undecodable

# Matroska, WebM and FLV store whole milliseconds, and files made from them keep that rounding.
_MILLISECOND = Fraction(1, 1000)

# These carry all they need in every frame; what a container keeps beside them is its own business.
_SELF_CONTAINED = frozenset(
    {"prores", "mjpeg", "vp8", "vp9", "png", "dnxhd", "rawvideo", "v210", "gif"}
    # Of these QuickTime files keep a copy of their own heads.
    | {"qtrle", "cfhd", "hap", "dvvideo", "magicyuv"}
)
_HEVC_PARAMETER_SETS = frozenset({32, 33, 34})
_START_CODE = re.compile(b"\x00\x00\x00?\x01")


def format_rate(rate: Fraction) -> str:
    """Format a frame rate for people: 25, 29.97, 23.976."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def round_half_up(top: int, bottom: int) -> int:
    """Round a fraction, without making one."""
    return (2 * top + bottom) // (2 * bottom)


@dataclass
class Timeline:
    """Presentation times of all frames of one stream, in the order they are stored."""

    time_base: Fraction
    pts: "array[int]" = field(default_factory=lambda: array("q"))
    first_dts: int | None = None

    def find_grid_problem(self, fps: Fraction, slack_seconds: Fraction = Fraction(0)) -> str | None:
        """Find how the frames miss the grid of `fps`; None when each lies on it.

        A frame may be off by the rounding of its own container and no more, so 29.97 and 30 are told apart
        from the second frame on; films that others joined may be given some slack.
        """
        if self._is_exact(fps):
            return None
        shown = sorted(self.pts)
        allowed = self._rounding(shown) + slack_seconds
        # In whole numbers, at a common denominator: fractions took a third of the time of join and check.
        common = math.lcm(self.time_base.denominator, fps.numerator, allowed.denominator)
        tick, frame, most = int(self.time_base * common), int(common / fps), int(allowed * common)
        for index, pts in enumerate(shown):
            if abs((pts - shown[0]) * tick - index * frame) > most:
                return self._describe(shown, index, fps, allowed)
        return None

    def _is_exact(self, fps: Fraction) -> bool:
        """Tell whether the frames are stored as they are shown, each exactly at its time, as those of most films are.

        It takes a tenth of the time of looking at them one by one.
        """
        ticks = 1 / (fps * self.time_base)
        if ticks.denominator > 1:
            return False
        first, step = self.pts[0], int(ticks)
        return self.pts == array("q", range(first, first + step * len(self.pts), step))

    def _rounding(self, shown: "array[int] | list[int]") -> Fraction:
        tick = self.time_base
        if tick >= _MILLISECOND:
            return tick if tick == _MILLISECOND else _MILLISECOND
        milliseconds = tick * 1000
        top, bottom = milliseconds.numerator, milliseconds.denominator
        for pts in shown:
            elapsed = (pts - shown[0]) * top
            if abs(elapsed - round_half_up(elapsed, bottom) * bottom) > top:
                return tick
        return _MILLISECOND + tick

    def _describe(self, shown: list[int], index: int, fps: Fraction, allowed: Fraction) -> str:
        span = (shown[-1] - shown[0]) * self.time_base
        if span > 0:
            real = (len(shown) - 1) / span
            # Where a tick is a frame, as in AVI files, any times are within one.
            close = allowed + min(self.time_base, _MILLISECOND)
            steady = all(abs((pts - shown[0]) * self.time_base - k / real) <= close for k, pts in enumerate(shown))
            if steady and format_rate(real) != format_rate(fps):
                return f"runs at {format_rate(real)} frames a second instead of {format_rate(fps)}"
        real_seconds = float((shown[index] - shown[0]) * self.time_base)
        seconds = float(index / fps)
        return f"is unevenly timed: frame {index} is shown at {real_seconds:.4f} s instead of {seconds:.4f} s"

    def _list_frame_indices(self, fps: Fraction) -> list[int]:
        """List the number of each frame in display order, in storage order."""
        first = min(self.pts)
        frames = self.time_base * fps
        top, bottom = frames.numerator, frames.denominator
        return [round_half_up((pts - first) * top, bottom) for pts in self.pts]

    def count_reorder_frames(self, fps: Fraction) -> int:
        """Count by how many frames decoding must run ahead of display, so that no frame comes too late."""
        indices = range(1) if self._is_exact(fps) else self._list_frame_indices(fps)
        needed = max(place - index for place, index in enumerate(indices))
        # An encoder may ask for more than it used; its players were promised that much.
        promised = round((self.pts[0] - self.first_dts) * self.time_base * fps) if self.first_dts is not None else 0
        return max(needed, promised)


def hash_parameters(codec: str, extradata: bytes | None) -> str:
    """Hash codec parameters: equal for streams that one decoder set-up can play one after the other.

    The parameter sets of h264 and hevc count one by one: mp4 and transport streams wrap them differently,
    and x265 adds a comment that names the machine's number of threads.
    """
    data = extradata or b""
    if codec in _SELF_CONTAINED:
        data = b""
    elif codec in ("h264", "hevc") and data:
        units = _START_CODE.split(data) if data[0] == 0 else list(_UNWRAP[codec](data))
        # Transport streams repeat them where the pictures hold them, too.
        kept = dict.fromkeys(unit.rstrip(b"\x00") for unit in units if unit and _is_parameter_set(codec, unit))
        data = b"".join(struct.pack(">I", len(unit)) + unit for unit in kept)
    return hashlib.sha256(data).hexdigest()


def _is_parameter_set(codec: str, unit: bytes) -> bool:
    return codec == "h264" or (unit[0] >> 1) & 0x3F in _HEVC_PARAMETER_SETS


def convert_to_annex_b(extradata: bytes) -> bytes:
    """Return the parameter sets of H.264, as MP4 files have them before their pictures, behind start codes."""
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in _avcc_units(extradata))


def _avcc_units(data: bytes) -> Iterator[bytes]:
    """Read AVCDecoderConfigurationRecord, ISO 14496-15 section 5.3.3."""
    position = 5
    for mask in (0x1F, 0xFF):
        count = data[position] & mask if position < len(data) else 0
        position = yield from _read_units(data, position + 1, count)


def _hvcc_units(data: bytes) -> Iterator[bytes]:
    """Read HEVCDecoderConfigurationRecord, ISO 14496-15 section 8.3.3."""
    position = 23
    for _ in range(data[22] if len(data) > 22 else 0):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position = yield from _read_units(data, position + 3, count)


def _read_units(data: bytes, position: int, count: int) -> Generator[bytes, None, int]:
    """Yield units that stand behind their length in two bytes; return where the last one ends."""
    for _ in range(count):
        length = int.from_bytes(data[position : position + 2], "big")
        yield data[position + 2 : position + 2 + length]
        position += 2 + length
    return position


_UNWRAP = {"h264": _avcc_units, "hevc": _hvcc_units}


class PacketWatcher(Protocol):
    """Looks at all packets of the pictures of a file while they are counted, and decodes some.

    Attributes:
        first: The first frame, once it is decoded.
        last: The last frame, after the end.
        leaves_out_last: The last frame was not decoded, because that would have cost too much.
    """

    first: VideoFrame | None
    last: VideoFrame | None
    leaves_out_last: bool

    def needs(self, number: int) -> bool:
        """Tell whether the packet of frame `number` is looked at; one that is not need not be given."""

    def add(self, packet: AnyPacket, number: int) -> None:
        """Take the next packet, which holds frame `number` in the order of storage."""

    def finish(self) -> None:
        """Take the end of the file."""

    def close(self) -> None:
        """End what still goes on, before the file is closed."""


# Makes a watcher of a stream that was just opened, in the file of this name.
WatchPackets = Callable[[VideoStream, str], PacketWatcher]


@dataclass(frozen=True)
class VideoReading:
    """All that one pass over a video file has found.

    Attributes:
        facts: The facts of its pictures.
        begin: When the first picture is shown, in seconds of the file's own clock.
        sounds: From when to when each audio stream is heard, if that was asked for.
        duration_seconds: How long the container says that it lasts; zero when it says nothing.
        first: The first frame; None where it was not decoded.
    """

    facts: VideoFacts
    begin: Fraction
    sounds: tuple[SoundSpan, ...]
    duration_seconds: float
    first: VideoFrame | None = field(default=None, compare=False, repr=False)


def read_video(
    path: Path,
    *,
    fps: Fraction,
    frames: int | None = None,
    stop: threading.Event | None = None,
    with_sound: bool = False,
    slack_seconds: Fraction = Fraction(0),
    watch: WatchPackets | None = None,
    render_seconds: float | None = None,
    written: "array[int] | None" = None,
) -> VideoReading:
    """Check a video file as `inspect_video` does, and return also what a finished film is verified by.

    Args:
        path: The file; its extension says how it is read.
        fps: The rate on whose grid all frames must lie.
        frames: The number of frames it must hold; any number when absent.
        stop: Ends the reading early when set.
        with_sound: Also find from when to when its sound is heard.
        slack_seconds: How far off the grid a frame may be, beside its container's rounding.
        watch: Makes what looks at the packets; without it the first and the last frame are decoded.
        render_seconds: How long the file took to render: decoding its last frame may cost a small share of that.
            None: it is decoded whatever it costs.
        written: Size in bytes of each packet of the pictures, where this host has just written the file.
    """
    proven = check_structure(path)
    with open_media(path) as container, ExitStack() as watching:
        stream = find_video_stream(container, path.name)
        spans = {each.index: SoundSpan() for each in container.streams.audio} if with_sound else {}
        watcher: PacketWatcher | None = None
        if stream.codec_context is not None:
            watcher = watch(stream, path.name) if watch else EdgeDecoder(stream, path.name, render_seconds)
            watching.callback(watcher.close)
        times = None
        if written is not None and watcher is not None:
            times = read_index(path, stream, written, needs=watcher.needs, add=watcher.add)
        if times is None:
            timeline, key_first = _read_timeline(container, stream, path.name, stop, spans, watcher)
        else:
            timeline, key_first = Timeline(stream.time_base or Fraction(1, 1000), times, times[0]), True
        _check_count(path.name, len(timeline.pts), frames)
        if container.format.name == "mpegts":
            proven = has_complete_tail(path, stream.id)
        if not proven:
            _decode_tail(path)
        begin = min(timeline.pts)
        if container.format.name == "avi":
            # AVI files have no times of display, and libav's begin with the delay of the decoder.
            begin, timeline.first_dts = timeline.first_dts or 0, None
        if watcher is not None:
            if _has_guessed_times(container, stream) and timeline.count_reorder_frames(fps) == 0:
                _check_display_order(path, stop)
            watcher.finish()
        problem = timeline.find_grid_problem(fps, slack_seconds)
        if problem is not None:
            raise MismatchedOutput(path.name, problem)
        return VideoReading(
            facts=_describe(container, stream, timeline, key_first, fps, watcher),
            begin=begin * timeline.time_base,
            sounds=tuple(spans.values()),
            duration_seconds=(container.duration or 0) / av.time_base,
            first=watcher.first if watcher else None,
        )


def _read_timeline(
    container: InputContainer,
    stream: VideoStream,
    name: str,
    stop: threading.Event | None,
    spans: dict[int, SoundSpan],
    watcher: PacketWatcher | None,
) -> tuple[Timeline, bool]:
    timeline = Timeline(stream.time_base or Fraction(1, 1000))
    key_first = False
    latest_dts: int | None = None
    streams: list[Stream] = [stream, *(container.streams[index] for index in spans)]
    pictures = stream.index
    for packet in container.demux(*streams):
        if stop is not None and stop.is_set():
            raise JoinStopped(name)
        if packet.size == 0:
            continue
        if packet.stream_index != pictures:
            spans[packet.stream_index].add(packet)
            continue
        number, pts, dts = len(timeline.pts), packet.pts, packet.dts
        if packet.is_corrupt:
            raise DamagedOutput(name, f"is damaged at its frame {number}")
        if packet.is_discard:
            raise MismatchedOutput(name, "hides some of its frames by an edit list, so it cannot be joined")
        if pts is None:
            raise MismatchedOutput(name, f"does not say when its frame {number} is shown")
        if dts is not None:
            if latest_dts is not None and dts <= latest_dts:
                raise DamagedOutput(name, f"stores its frame {number} out of order")
            latest_dts = dts
        if number == 0:
            key_first, timeline.first_dts = packet.is_keyframe, dts
        timeline.pts.append(pts)
        if watcher is not None:
            watcher.add(packet, number)
    return timeline, key_first


def _check_count(name: str, count: int, frames: int | None) -> None:
    if count == 0:
        raise DamagedOutput(name, "holds no frames")
    if frames is not None and count != frames:
        raise DamagedOutput(name, f"holds {count} frame{'s' if count > 1 else ''} instead of {frames}")


def _describe(
    container: InputContainer,
    stream: VideoStream,
    timeline: Timeline,
    key_first: bool,
    fps: Fraction,
    watcher: PacketWatcher | None,
) -> VideoFacts:
    reorder_frames = timeline.count_reorder_frames(fps)
    if stream.codec_context is None:
        return describe_undecodable(container, stream, len(timeline.pts), reorder_frames)
    context = stream.codec_context
    return describe_stream(
        container,
        stream,
        frames=len(timeline.pts),
        extradata_sha256=hash_parameters(context.codec.canonical_name, context.extradata),
        reorder_frames=reorder_frames,
        starts_clean=key_first and timeline.pts[0] == min(timeline.pts),
        first=watcher.first if watcher else None,
        last=watcher.last if watcher else None,
        needs_last=watcher is None or not watcher.leaves_out_last,
    )


def _has_guessed_times(container: InputContainer, stream: VideoStream) -> bool:
    """Tell whether a file does not say when its pictures are shown, and may store them in another order."""
    codec = stream.codec_context.codec.canonical_name
    timed = TIMED_BY_PICTURES.get(container.format.name)
    return timed is not None and codec not in timed and bool(stream.codec_context.has_b_frames)


def _check_display_order(path: Path, stop: threading.Event | None) -> None:
    """Decode a file whose frames may be stored in another order than they are shown in, and require them in order."""
    latest: int | None = None
    with open_media(path) as container:
        for frame in decode_pictures(container, find_video_stream(container, path.name), path.name):
            if stop is not None and stop.is_set():
                raise JoinStopped(path.name)
            if frame.pts is None or (latest is not None and frame.pts <= latest):
                raise MismatchedOutput(
                    path.name,
                    f"stores its frames in another order than they are shown in, and {path.suffix} has no place for "
                    "their times; encode without B-frames (-bf 0), or into .mov or .mkv",
                )
            latest = frame.pts


def _decode_tail(path: Path) -> None:
    """Decode from the last key frame on, and refuses what a decoder has to guess."""
    with open_media(path) as container:
        stream = find_video_stream(container, path.name)
        starts = [packet.dts for packet in container.demux(stream) if packet.is_keyframe]
    last = starts[-1] if starts else None
    with open_media(path) as container:
        stream = find_video_stream(container, path.name)
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


def inspect_video(
    path: Path, *, fps: Fraction, frames: int | None = None, stop: threading.Event | None = None
) -> VideoFacts:
    """Check every packet of a video file, and return the facts of the file.

    A file cut at any byte is refused, except where the cut leaves a whole, shorter file (a transport stream
    cut exactly between two frames): there `frames` tells.

    Args:
        path: The file; its extension says how it is read.
        fps: The rate on whose grid all frames must lie.
        frames: The number of frames it must hold; any number when absent.
        stop: Ends the reading early when set.

    Raises:
        DamagedOutput: Missing, empty, cut, unreadable, or not `frames` long.
        MismatchedOutput: Sound, but of another rate or a kind that cannot be joined.
        JoinStopped: `stop` was set.
    """
    return read_video(path, fps=fps, frames=frames, stop=stop).facts

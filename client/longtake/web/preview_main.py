"""Program that makes fragmented MP4 of finished chunks, for players in browsers; see `descriptor_process`.

A request has `suffix`, `rate` (two numbers), and `longest`: 0 to take the packets of one video as they are, or the
longest side of a small copy, whose files are one video or pictures. All frames lie on the grid of the rate. The answer
tells `frames`, `timescale` and `init_bytes`: the size of the init segment, behind which one fragment follows, whose
time begins at 0. Frames are shown as late as they would be without the delay of a decoder, so that fragments of chunks
can follow each other.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# A chunk of a thousand frames of 4K takes two minutes to decode.
MOST_CPU_SECONDS = 240.0
MOST_MEMORY_BYTES = 4 << 30

# A fragment is held in memory.
_MOST_PACKET_BYTES = 512 << 20
_LEAST_TIMESCALE = 10_000
# What the browsers of today play: pixel formats by codec. Of HEVC they play what their machine decodes.
_PLAYABLE = {
    "h264": {"yuv420p", "yuvj420p"},
    "vp9": {"yuv420p"},
    "av1": {"yuv420p", "yuv420p10le"},
    "hevc": {"yuv420p", "yuv420p10le"},
}
_ENCODER = {"preset": "veryfast", "crf": "26", "bf": "0", "profile": "high", "threads": "2"}
# By name and never by content: a playlist or a script under a film's name would make libav open other files.
_DEMUXERS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".avif": "mov", ".heic": "mov", ".heif": "mov", ".mkv": "matroska",
    ".webm": "matroska", ".ts": "mpegts", ".avi": "avi", ".mxf": "mxf", ".gif": "gif",
}  # fmt: skip


class UnplayableError(Exception):
    """A video that no browser plays as it is; the text names its codec."""


def make_answer() -> Callable[[dict[str, Any], Sequence[str]], tuple[dict[str, Any], bytes]]:
    """Return what makes fragments."""
    return _make_fragment


def _make_fragment(request: dict[str, Any], paths: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    rate = Fraction(*request["rate"])
    try:
        if request["longest"]:
            return _encode(_decode(paths), rate, request["longest"])
        return _take_packets(paths[0], rate)
    except UnplayableError as error:
        return {"unplayable": str(error)}, b""
    except av.error.FFmpegError as error:
        raise ValueError(f"libav cannot read it: {error.strerror}") from error


def _open(path: str) -> "av.container.InputContainer":
    suffix = path[path.rindex(".") :]
    demuxer = _DEMUXERS.get(suffix, "image2")
    options = {"protocol_whitelist": "file"} | ({"pattern_type": "none"} if demuxer == "image2" else {})
    return av.open(f"file:{path}", "r", format=demuxer, options=options)


def _find_video(container: "av.container.InputContainer") -> VideoStream:
    stream = next(iter(container.streams.video), None)
    if stream is None:
        raise ValueError("it holds no pictures")
    if stream.codec_context is None:
        raise UnplayableError("a codec that is not known here")
    return stream


def _take_packets(path: str, rate: Fraction) -> tuple[dict[str, Any], bytes]:
    """Put the packets of a video into a fragment, in the order in which they are stored."""
    with _open(path) as container:
        stream = _find_video(container)
        codec, pixels = stream.codec_context.codec.canonical_name, stream.codec_context.pix_fmt or ""
        if pixels not in _PLAYABLE.get(codec, ()):
            raise UnplayableError(f"{codec} {pixels}".strip())
        packets, size = [], 0
        for packet in container.demux(stream):
            if not packet.size:
                continue
            size += packet.size
            if packet.pts is None or size > _MOST_PACKET_BYTES:
                raise UnplayableError("video without times" if packet.pts is None else "a chunk of more than 512 MB")
            packets.append(packet)
        if not packets:
            raise ValueError("it holds no pictures")
        order = sorted(range(len(packets)), key=lambda number: packets[number].pts or 0)
        shown = [0] * len(packets)
        for rank, number in enumerate(order):
            shown[number] = rank
        # By so many frames the last one to be late comes after its place: the delay of a decoder.
        delay = max(number - rank for number, rank in enumerate(shown))

        def add(output: "av.container.OutputContainer", timescale: int, tick: int) -> int:
            copy = output.add_stream_from_template(stream)
            for number, packet in enumerate(packets):
                _set_times(packet, timescale, tick, number, shown[number] + delay)
                packet.stream = copy
                output.mux(packet)
            return len(packets)

        return _mux(add, rate, delay)


def _decode(paths: Sequence[str]) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Yield the frames of a video, or of pictures, with the shape of their pixels."""
    for path in paths:
        with _open(path) as container:
            stream = _find_video(container)
            stream.thread_type = "AUTO"
            if path.endswith(".exr"):
                # Linear samples are shown by the curve of sRGB.
                stream.codec_context.options = {"apply_trc": "iec61966_2_1"}
            aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
            for frame in container.decode(stream):
                yield frame, aspect
                if len(paths) > 1:
                    break


def _encode(
    frames: Iterator[tuple[VideoFrame, Fraction]], rate: Fraction, longest: int
) -> tuple[dict[str, Any], bytes]:
    """Encode frames as a small H.264 copy."""

    def add(output: "av.container.OutputContainer", timescale: int, tick: int) -> int:
        count = 0

        def write(packets: "Sequence[Packet[VideoStream]]") -> None:
            nonlocal count
            for packet in packets:
                _set_times(packet, timescale, tick, count, count)
                output.mux(packet)
                count += 1

        stream: Any = None
        scaler: _Scaler | None = None
        for number, (frame, aspect) in enumerate(frames):
            if scaler is None:
                scaler = _Scaler(frame, aspect, longest)
                stream = output.add_stream("libx264", rate=rate, options=_ENCODER)
                stream.width, stream.height = scaler.size
                stream.pix_fmt = "yuv420p"
            small = scaler.scale(frame)
            small.pts, small.time_base = number, 1 / rate
            small.pict_type = av.video.frame.PictureType.NONE
            write(stream.encode(small))
        if stream is None:
            raise ValueError("it shows no pictures")
        write(stream.encode(None))
        return count

    return _mux(add, rate, 0)


class _Scaler:
    """Makes frames of one size small, with square pixels, as BT.709 of limited range."""

    def __init__(self, frame: VideoFrame, aspect: Fraction, longest: int) -> None:
        wide, high = Fraction(frame.width) * aspect, Fraction(frame.height)
        scale = min(Fraction(1), Fraction(longest) / max(wide, high))
        # Of halved colour samples both sides are even.
        self.size = max(2, round(wide * scale / 2) * 2), max(2, round(high * scale / 2) * 2)
        self._format = (frame.width, frame.height, frame.format.name)
        turns = {90: "transpose=cclock", -90: "transpose=clock", 180: "hflip,vflip", -180: "hflip,vflip"}
        self._turn = turns.get(round(frame.rotation / 90) * 90, "")
        self._graph = self._build(frame)
        if "transpose" in self._turn:
            self.size = self.size[::-1]

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        source = (
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000:pixel_aspect=1/1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
        )
        last = graph.add("buffer", source)
        width, height = self.size
        steps = [("scale", f"w={width}:h={height}:flags=area:out_color_matrix=bt709:out_range=tv"), ("setsar", "1")]
        steps += [(name, values) for name, _, values in (turn.partition("=") for turn in self._turn.split(",")) if name]
        for name, arguments in (*steps, ("format", "yuv420p"), ("buffersink", "")):
            step = graph.add(name, arguments or None)
            last.link_to(step)
            last = step
        graph.configure()
        return graph

    def scale(self, frame: VideoFrame) -> VideoFrame:
        if (frame.width, frame.height, frame.format.name) != self._format:
            raise ValueError("its frames have several sizes or formats")
        frame.pts = None
        self._graph.push(frame)
        made = self._graph.pull()
        assert isinstance(made, VideoFrame)
        return made


def _set_times(packet: "Packet[VideoStream]", timescale: int, tick: int, decoded: int, shown: int) -> None:
    packet.time_base = Fraction(1, timescale)
    packet.dts, packet.pts, packet.duration = decoded * tick, shown * tick, tick


def _mux(
    add: Callable[["av.container.OutputContainer", int, int], int], rate: Fraction, delay: int
) -> tuple[dict[str, Any], bytes]:
    """Return an init segment and one fragment with what `add` writes.

    Args:
        add: Writes packets, and returns how many; gets the ticks of a second and of a frame.
        rate: The frame rate.
        delay: How many frames later than its place each frame is written, which is undone.
    """
    factor = -(-_LEAST_TIMESCALE // rate.numerator)
    timescale, tick = rate.numerator * factor, rate.denominator * factor
    options = {
        "movflags": "empty_moov+frag_custom+default_base_moof+skip_trailer",
        "video_track_timescale": str(timescale),
        "use_editlist": "0",
        # Bit rates differ from chunk to chunk, and their init segments must not.
        "write_btrt": "0",
    }
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=options) as output:
        frames = add(output, timescale, tick)
    data = bytearray(buffer.getvalue())
    init = next((start for kind, start, _ in _list_boxes(data, 0, len(data)) if kind == b"moof"), len(data))
    _undo_delay(data, init, delay * tick)
    return {"frames": frames, "timescale": timescale, "tick": tick, "init_bytes": init}, bytes(data)


def _list_boxes(data: bytes | bytearray, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the start and the end of each box, ISO 14496-12 section 4.2."""
    while start + 8 <= stop:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
        if size < 8:
            return
        yield kind, start, min(start + size, stop)
        start += size


def _undo_delay(data: bytearray, start: int, ticks: int) -> None:
    """Show the samples of all fragments earlier: composition offsets below 0, ISO 14496-12 section 8.8.8, version 1."""
    if not ticks:
        return
    for kind, box, end in _list_boxes(data, start, len(data)):
        if kind in (b"moof", b"traf"):
            _undo_delay_of_children(data, box + 8, end, ticks)


def _undo_delay_of_children(data: bytearray, start: int, stop: int, ticks: int) -> None:
    for kind, box, end in _list_boxes(data, start, stop):
        if kind == b"traf":
            _undo_delay_of_children(data, box + 8, end, ticks)
        elif kind == b"trun":
            flags = int.from_bytes(data[box + 9 : box + 12], "big")
            (count,) = struct.unpack_from(">I", data, box + 12)
            first = box + 16 + 4 * bool(flags & 0x1) + 4 * bool(flags & 0x4)
            before = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400))
            if not flags & 0x800:
                raise ValueError("its frames are stored in another order, and nothing says in which")
            data[box + 8] = 1
            for number in range(count):
                place = first + number * (before + 4) + before
                (offset,) = struct.unpack_from(">i", data, place)
                struct.pack_into(">i", data, place, offset - ticks)

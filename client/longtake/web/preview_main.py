"""Program that makes fragmented MP4 of finished chunks, for players in browsers; see `descriptor_process`.

A request has `suffix`, `rate` (two numbers), and `longest`: 0 to take the packets of one video as they are, or the
longest side of a small copy, whose files are one video or pictures. All frames lie on the grid of the rate. The answer
tells `init_bytes`, the size of the init segment, behind which one fragment follows, whose times begin at 0; and where
those stand in it: `clocks` (of the pictures, then of the sound), with `tick`, the duration of a frame. Frames are shown
as late as they would be without the delay of a decoder, so that fragments of chunks can follow each other.

With `sound` in the request the fragment has sound besides, as FLAC: `rate`, `channels`, and the samples from `start`
on, `count` of them. With a `suffix` it is that of the last file, which is the sound of a whole film; if it `is_own`,
that of the video itself. What the file does not have is silent. FLAC, because no browser plays PCM in MP4, and AAC and
Opus begin with a run-up, so that each fragment would be heard to begin.

With `colours` the files are pictures, which are shown as the film shows them where OpenImageIO is installed: `input`,
`output` and `view`, as `colour_main` knows them, or None where linear ones alone are converted. The configuration is
the program's argument.

With `looks_for_sound` the answer tells no more than the `sound` of the file, `rate` and `channels`, or None.
"""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

import av
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from longtake import colour_main
from longtake.web.preview_images import LINEAR_SUFFIXES, ImageReader
from longtake.web.preview_sound import DEMUXERS, PreviewSoundtrack, find_sound

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
# As ITU-T H.273 numbers its matrix, primaries and transfer.
_BT709 = 1
_ENCODER = {"preset": "veryfast", "crf": "26", "bf": "0", "profile": "high", "threads": "2"}


class UnplayableError(Exception):
    """A video that no browser plays as it is; the text names its codec."""


class _Images:
    """Reads image files with the colours of their film, and by libav where that is not possible.

    Args:
        config: The configuration of OpenColorIO.
    """

    def __init__(self, config: str) -> None:
        self._config = config
        self._reader: ImageReader | None = None

    def read(self, paths: Sequence[str], request: dict[str, Any]) -> Iterator[tuple[VideoFrame, Fraction]]:
        if request["colours"] is None and request["suffix"] not in LINEAR_SUFFIXES:
            return _decode(paths)
        try:
            self._reader = self._reader or ImageReader(self._config)
            pictures = self._reader.read_all(paths, request["colours"], request["longest"])
            # Names that the configuration does not have are found with the first one.
            return chain([next(pictures)], pictures)
        except colour_main.ConversionError:
            return _decode(paths)


def make_answer(config: str) -> Callable[[dict[str, Any], Sequence[str]], tuple[dict[str, Any], bytes]]:
    """Return what makes fragments, image files by a configuration of OpenColorIO."""
    return partial(_make_fragment, _Images(config))


def _make_fragment(images: _Images, request: dict[str, Any], paths: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    if "looks_for_sound" in request:
        return {"sound": find_sound(paths[0], request["suffix"])}, b""
    rate = Fraction(*request["rate"])
    sound = None
    if request["sound"] is not None:
        sound = PreviewSoundtrack(request["sound"], paths, request["suffix"])
        paths = paths[:-1] if request["sound"]["suffix"] else paths
    try:
        if request["longest"]:
            frames = images.read(paths, request) if "colours" in request else _decode(paths)
            return _encode(frames, rate, request["longest"], sound)
        return _take_packets(paths[0], rate, sound)
    except UnplayableError as error:
        return {"unplayable": str(error)}, b""
    except av.error.FFmpegError as error:
        raise ValueError(f"libav cannot read it: {error.strerror}") from error


def _open(path: str) -> "av.container.InputContainer":
    suffix = path[path.rindex(".") :]
    demuxer = DEMUXERS.get(suffix, "image2")
    options = {"protocol_whitelist": "file"} | ({"pattern_type": "none"} if demuxer == "image2" else {})
    return av.open(f"file:{path}", "r", format=demuxer, options=options)


def _find_video(container: "av.container.InputContainer") -> VideoStream:
    stream = next(iter(container.streams.video), None)
    if stream is None:
        raise ValueError("it holds no pictures")
    if stream.codec_context is None:
        raise UnplayableError("a codec that is not known here")
    return stream


def _take_packets(path: str, rate: Fraction, sound: PreviewSoundtrack | None) -> tuple[dict[str, Any], bytes]:
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

        def add(output: "av.container.OutputContainer", timescale: int, tick: int) -> None:
            # Without it libav is asked for an encoder by the name of the decoder, and knows none called libdav1d.
            copy = output.add_stream_from_template(stream, opaque=True)
            if codec == "hevc":
                # Safari plays no other kind.
                copy.codec_context.codec_tag = "hvc1"
            for number, packet in enumerate(packets):
                _set_times(packet, timescale, tick, number, shown[number] + delay)
                packet.stream = copy
                output.mux(packet)

        return _mux(add, rate, delay, sound)


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
    frames: Iterator[tuple[VideoFrame, Fraction]], rate: Fraction, longest: int, sound: PreviewSoundtrack | None
) -> tuple[dict[str, Any], bytes]:
    """Encode frames as a small H.264 copy."""

    def add(output: "av.container.OutputContainer", timescale: int, tick: int) -> None:
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
                # Without tags players take small films for BT.601.
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = _BT709
                context.color_range = av.video.reformatter.ColorRange.MPEG
            small = scaler.scale(frame)
            small.pts, small.time_base = number, 1 / rate
            small.pict_type = av.video.frame.PictureType.NONE
            write(stream.encode(small))
        if stream is None:
            raise ValueError("it shows no pictures")
        write(stream.encode(None))

    return _mux(add, rate, 0, sound)


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
    add: Callable[["av.container.OutputContainer", int, int], None],
    rate: Fraction,
    delay: int,
    sound: PreviewSoundtrack | None,
) -> tuple[dict[str, Any], bytes]:
    """Return an init segment and one fragment with what `add` writes.

    Args:
        add: Writes packets of pictures; gets the ticks of a second and of a frame.
        rate: The frame rate.
        delay: How many frames later than its place each frame is written, which is undone.
        sound: What is heard with them.
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
        # Before the first packet of pictures, with which the init segment is written.
        heard = sound.add_stream(output) if sound is not None else None
        add(output, timescale, tick)
        if sound is not None and heard is not None:
            sound.write(output, heard)
    data = bytearray(buffer.getvalue())
    init = next((start for kind, start, _ in _list_boxes(data, 0, len(data)) if kind == b"moof"), len(data))
    clocks = []
    # The track of the sound is the first one.
    for _, start, stop in reversed(list(_find_tracks(data, init))):
        clocks += [place + 8 - init for kind, place, _ in _list_boxes(data, start, stop) if kind == b"tfdt"]
        if len(clocks) == 1:
            _undo_delay(data, start, stop, delay * tick)
    return {"tick": tick, "clocks": clocks, "init_bytes": init}, bytes(data)


def _find_tracks(data: bytearray, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield what a fragment has of each track: the kind of box, and the start and the end of its content."""
    for kind, box, end in _list_boxes(data, start, len(data)):
        if kind == b"moof":
            yield from ((kind, box + 8, end) for kind, box, end in _list_boxes(data, box + 8, end) if kind == b"traf")


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


def _undo_delay(data: bytearray, start: int, stop: int, ticks: int) -> None:
    """Show the samples of a track earlier: composition offsets below 0, ISO 14496-12 section 8.8.8, version 1."""
    if not ticks:
        return
    for kind, box, _ in _list_boxes(data, start, stop):
        if kind == b"trun":
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

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
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
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
# As ITU-T H.273 numbers its matrix, primaries and transfer.
_BT709 = 1
_ENCODER = {"preset": "veryfast", "crf": "26", "bf": "0", "profile": "high", "threads": "2"}
# By name and never by content: a playlist or a script under a film's name would make libav open other files.
_DEMUXERS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".avif": "mov", ".heic": "mov", ".heif": "mov", ".mkv": "matroska",
    ".webm": "matroska", ".ts": "mpegts", ".avi": "avi", ".mxf": "mxf", ".gif": "gif",
}  # fmt: skip
_SOUND_DEMUXERS = _DEMUXERS | {
    ".m4a": "mov", ".mka": "matroska", ".mts": "mpegts", ".m2ts": "mpegts", ".nut": "nut", ".flv": "flv",
    ".mpg": "mpeg", ".mpeg": "mpeg", ".wav": "wav", ".flac": "flac", ".opus": "ogg", ".ogg": "ogg", ".mp3": "mp3",
    ".aac": "aac", ".aif": "aiff", ".aiff": "aiff",
}  # fmt: skip
SOUND_SUFFIXES = frozenset(_SOUND_DEMUXERS)
# Rates that browsers play, and FLAC takes.
_SOUND_RATES = range(8_000, 192_001)
_LAYOUTS = {1: "mono", 2: "stereo"}
_SAMPLE_BYTES = 2
# Samples of one block of FLAC.
_BLOCK = 4096
# Decoders of packets that rely on the one before are right again after this.
_RUN_UP_SECONDS = 0.5
# Times below this are rounding of a container's clock, and longer gaps are meant (as the film has it, `soundtrack`).
_CLOCK_ROUNDING_SECONDS = 0.002
_MEANT_GAP_SECONDS = 0.1


class UnplayableError(Exception):
    """A video that no browser plays as it is; the text names its codec."""


def make_answer(config: str) -> Callable[[dict[str, Any], Sequence[str]], tuple[dict[str, Any], bytes]]:
    """Return what makes fragments, image files by a configuration of OpenColorIO."""
    return partial(_make_fragment, _Images(config))


def _make_fragment(images: "_Images", request: dict[str, Any], paths: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    if "looks_for_sound" in request:
        return {"sound": _find_sound(paths[0], request["suffix"])}, b""
    rate = Fraction(*request["rate"])
    sound = None
    if request["sound"] is not None:
        sound = _Sound(request["sound"], paths, request["suffix"])
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


def _take_packets(path: str, rate: Fraction, sound: "_Sound | None") -> tuple[dict[str, Any], bytes]:
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


class _Images:
    """Reads image files with the colours of their film, and by libav where that is not possible.

    Args:
        config: The configuration of OpenColorIO.
    """

    def __init__(self, config: str) -> None:
        self._config = config
        self._reader: Any = None

    def read(self, paths: Sequence[str], request: dict[str, Any]) -> Iterator[tuple[VideoFrame, Fraction]]:
        # With the whole package, which videos need not wait for.
        from longtake import colour_main  # noqa: PLC0415
        from longtake.web import preview_images  # noqa: PLC0415

        if request["colours"] is None and request["suffix"] not in preview_images.LINEAR_SUFFIXES:
            return _decode(paths)
        try:
            self._reader = self._reader or preview_images.ImageReader(self._config)
            pictures = self._reader.read_all(paths, request["colours"], request["longest"])
            # Names that the configuration does not have are found with the first one.
            return chain([next(pictures)], pictures)
        except colour_main.ConversionError:
            return _decode(paths)


def _encode(
    frames: Iterator[tuple[VideoFrame, Fraction]], rate: Fraction, longest: int, sound: "_Sound | None"
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
    add: Callable[["av.container.OutputContainer", int, int], None], rate: Fraction, delay: int, sound: "_Sound | None"
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


def _find_sound(path: str, suffix: str) -> dict[str, int] | None:
    """Return the form of the first sound of a file, at most stereo; None where it has none that can be played."""
    try:
        with _open_sound(path, suffix) as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None or stream.codec_context is None or stream.codec_context.sample_rate not in _SOUND_RATES:
                return None
            return {"rate": stream.codec_context.sample_rate, "channels": min(2, stream.codec_context.channels)}
    except av.error.FFmpegError:
        return None


def _open_sound(path: str, suffix: str) -> "av.container.InputContainer":
    return av.open(f"file:{path}", "r", format=_SOUND_DEMUXERS[suffix], options={"protocol_whitelist": "file"})


class _Sound:
    """The sound of a fragment; what its file does not have is silent.

    Args:
        request: Its form and place, as a request has it.
        paths: The files of the request.
        suffix: The extension of those of pictures.
    """

    def __init__(self, request: dict[str, Any], paths: Sequence[str], suffix: str) -> None:
        self._is_own = request["is_own"]
        self._path = paths[-1] if request["suffix"] or self._is_own else ""
        self._suffix = request["suffix"] or suffix
        self._rate, self._channels = request["rate"], request["channels"]
        self._start, self._stop = request["start"], request["start"] + request["count"]

    def add_stream(self, output: "av.container.OutputContainer") -> AudioStream:
        """Declare the track."""
        stream = output.add_stream("flac", rate=self._rate)
        assert isinstance(stream, AudioStream)
        stream.layout, stream.format = _LAYOUTS[self._channels], "s16"
        return stream

    def write(self, output: "av.container.OutputContainer", stream: AudioStream) -> None:
        """Encode and write all samples."""
        # Makes frames of bytes, and takes any number of them.
        decoder = av.CodecContext.create("pcm_s16le", "r")
        assert isinstance(decoder, AudioCodecContext)
        decoder.sample_rate, decoder.layout = self._rate, _LAYOUTS[self._channels]
        done = 0
        for samples in self._cut_blocks():
            # Copied in: PyAV 17.0.0 lets a packet made from bytes point to memory that is freed too early.
            packet: Any = Packet(len(samples))
            packet.update(samples)
            for frame in decoder.decode(packet):
                frame.pts, frame.time_base = done, Fraction(1, self._rate)
                done += frame.samples
                _write(output, stream.encode(frame))
        _write(output, stream.encode(None))

    def _cut_blocks(self) -> Iterator[bytes]:
        width, held = self._channels * _SAMPLE_BYTES, bytearray()
        for samples in self._read():
            held += samples
            whole = len(held) // (_BLOCK * width) * _BLOCK * width
            for start in range(0, whole, _BLOCK * width):
                yield bytes(held[start : start + _BLOCK * width])
            del held[:whole]
        if held:
            yield bytes(held)

    def _read(self) -> Iterator[bytes]:
        """Yield all samples in their order, one channel beside the other."""
        width, place = self._channels * _SAMPLE_BYTES, self._start
        for begin, samples in self._decode():
            gap = min(begin, self._stop) - place
            yield from self._make_silence(gap)
            place += max(0, gap)
            cut = samples[(place - begin) * width : (self._stop - begin) * width] if place >= begin else b""
            place += len(cut) // width
            yield cut
            if place == self._stop:
                return
        yield from self._make_silence(self._stop - place)

    def _make_silence(self, count: int) -> Iterator[bytes]:
        for start in range(0, count, self._rate):
            yield bytes(min(self._rate, count - start) * self._channels * _SAMPLE_BYTES)

    def _decode(self) -> Iterator[tuple[int, bytes]]:
        """Yield pieces of the sound, each behind the number of its first sample, counted from its beginning."""
        if not self._path:
            return
        try:
            with _open_sound(self._path, self._suffix) as container:
                stream = container.streams.audio[0]
                if stream.codec_context.sample_rate == self._rate and self._stop > 0:
                    yield from self._decode_stream(container, stream)
        except (av.error.FFmpegError, IndexError, AttributeError, ValueError):
            # A film is refused for it; a preview of its pictures need not be.
            return

    def _decode_stream(
        self, container: "av.container.InputContainer", stream: AudioStream
    ) -> Iterator[tuple[int, bytes]]:
        origin = self._find_origin(container)
        from_second = self._start / self._rate - _RUN_UP_SECONDS
        if from_second > 0:
            container.seek(int((from_second + origin) / stream.time_base), stream=stream)
        resampler = AudioResampler(format="s16", layout=_LAYOUTS[self._channels])
        width, following = self._channels * _SAMPLE_BYTES, None
        for frame in container.decode(stream):
            seconds = (frame.pts or 0) * (frame.time_base or Fraction(0)) - origin
            begin = round(seconds * self._rate)
            if following is None:
                begin = 0 if abs(seconds) <= _CLOCK_ROUNDING_SECONDS else begin
            elif abs(begin - following) <= _MEANT_GAP_SECONDS * self._rate:
                begin = following
            following = begin + frame.samples
            for made in resampler.resample(frame):
                yield begin, bytes(made.planes[0])[: made.samples * width]
                begin += made.samples

    def _find_origin(self, container: "av.container.InputContainer") -> Fraction:
        """Return the time of a file at which its film begins."""
        if not self._is_own:
            return Fraction(container.start_time or 0, av.time_base)
        pictures = next(iter(container.streams.video), None)
        return (pictures.start_time or 0) * (pictures.time_base or Fraction(0)) if pictures else Fraction(0)


def _write(output: "av.container.OutputContainer", packets: "Sequence[Packet[AudioStream]]") -> None:
    for packet in packets:
        # The last one of FLAC is a digest of the whole, without samples.
        if packet.size:
            output.mux(packet)

"""Cut the sound of a fragment of a preview out of a file, and write it as FLAC; for `preview_main`."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

# By name and never by content: a playlist or a script under a film's name would make libav open other files.
DEMUXERS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".m4a": "mov", ".avif": "mov", ".heic": "mov", ".heif": "mov",
    ".mkv": "matroska", ".mka": "matroska", ".webm": "matroska", ".ts": "mpegts", ".mts": "mpegts", ".m2ts": "mpegts",
    ".avi": "avi", ".mxf": "mxf", ".gif": "gif", ".nut": "nut", ".flv": "flv", ".mpg": "mpeg", ".mpeg": "mpeg",
    ".wav": "wav", ".flac": "flac", ".opus": "ogg", ".ogg": "ogg", ".mp3": "mp3", ".aac": "aac", ".aif": "aiff",
    ".aiff": "aiff",
}  # fmt: skip
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


def find_sound(path: str, suffix: str) -> dict[str, int] | None:
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
    return av.open(f"file:{path}", "r", format=DEMUXERS[suffix], options={"protocol_whitelist": "file"})


class PreviewSoundtrack:
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

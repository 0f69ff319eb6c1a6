"""PCM sound that renderers put into their chunks, joined to the sample."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from activities.media.audio import AAC_BITS_PER_SECOND, SAMPLE_RATE, audio_stream
from activities.media.chunk import ChunkFile, told_of
from activities.media.errors import MismatchedOutput
from activities.media.soundtrack import Soundtrack
from activities.media.source import AnyPacket, open_media, video_stream
from activities.media.writer import FilmWriter

# Plain samples one after the other; planar and disc formats are not.
_PLAIN = re.compile(r"pcm_(?:[sfu](\d+)(?:[lb]e)?|[am]ulaw|alaw)")
_SILENT_BYTE = {"pcm_u8": b"\x80", "pcm_alaw": b"\xd5", "pcm_mulaw": b"\xff"}
# These containers hold PCM that players know; in mp4 hardly any does.
_COPYING = frozenset({".mov", ".mkv"})
# Times below this are rounding of a container's clock, not a delay someone meant.
_CLOCK_ROUNDING = Fraction(2, 1000)
# A renderer may finish its last audio packet; sound that goes on for longer belongs to no frame here.
_LARGEST_OVERHANG_SAMPLES = 4096
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_AAC_RATES = frozenset({8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})


def chunk_sound(chunks: Sequence[ChunkFile], film_suffix: str, fps: Fraction) -> Soundtrack:
    """Joins the PCM of all chunks: copied where the container takes it, else encoded once over the film.

    Each chunk fills exactly the samples of its frames: sound that ends early is followed by silence, and the
    few samples a renderer may write too many are cut.
    """

    def source(film: FilmWriter) -> tuple[Stream, Iterator[AnyPacket]]:
        with open_media(chunks[0].path) as container:
            first = audio_stream(container, chunks[0].path.name)
            joined = _JoinedPcm(chunks, first, fps)
            if film_suffix in _COPYING:
                return film.add_copy(first), joined.packets()
            codec = "libopus" if film_suffix == ".webm" else "aac"
            keeps_rate = codec == "aac" and joined.rate in _AAC_RATES
            stream = film.add_encoder(codec, joined.rate if keeps_rate else SAMPLE_RATE)
            stream.layout = joined.layout
            stream.bit_rate = AAC_BITS_PER_SECOND
            return stream, joined.encoded(stream)

    return Soundtrack(source)


class _JoinedPcm:
    def __init__(self, chunks: Sequence[ChunkFile], first: AudioStream, fps: Fraction) -> None:
        self._chunks = chunks
        self._fps = fps
        self._codec = first.codec_context.name
        self.rate = first.codec_context.sample_rate
        self.channels = first.codec_context.channels
        # Matroska does not say which speaker a channel belongs to; the usual order of that many is meant.
        known = first.codec_context.layout
        named = all(channel.name != "NONE" for channel in known.channels)
        self.layout = known.name if named else _USUAL_LAYOUTS.get(self.channels, known.name)
        match = _PLAIN.fullmatch(self._codec)
        if match is None:
            raise MismatchedOutput(chunks[0].path.name, f"has sound of a kind that cannot be joined: {self._codec}")
        self._sample_bytes = int(match[1] or 8) // 8 * self.channels
        self._silence = _SILENT_BYTE.get(self._codec, b"\x00")

    def packets(self) -> Iterator[AnyPacket]:
        """Yields all samples of the film, timed by counting them."""
        position = 0
        for data in self._data():
            # Copied in: PyAV 17.0.0 lets a packet made from bytes point to memory that is freed too early.
            packet: AnyPacket = Packet(len(data))
            packet.update(data)
            packet.time_base = Fraction(1, self.rate)
            packet.pts = packet.dts = position
            packet.duration = len(data) // self._sample_bytes
            packet.is_keyframe = True
            position += packet.duration
            yield packet

    def encoded(self, encoder: AudioStream) -> Iterator[AnyPacket]:
        """Yields the same samples as one encode."""
        decoder = av.CodecContext.create(self._codec, "r")
        assert isinstance(decoder, AudioCodecContext)
        decoder.sample_rate = self.rate
        decoder.layout = self.layout
        for packet in self.packets():
            for frame in decoder.decode(packet):
                frame.pts = packet.pts
                frame.time_base = packet.time_base
                yield from encoder.encode(frame)
        yield from encoder.encode(None)

    def _data(self) -> Iterator[bytes]:
        before = 0
        for index, chunk in enumerate(self._chunks):
            start = round(before * self.rate / self._fps)
            before += chunk.frames
            left = (round(before * self.rate / self._fps) - start) * self._sample_bytes
            with told_of(chunk, index):
                for data in self._chunk_data(chunk):
                    if left > 0:
                        yield data[:left]
                    left -= len(data)
                    if left < -_LARGEST_OVERHANG_SAMPLES * self._sample_bytes:
                        raise MismatchedOutput(chunk.path.name, "has sound that is longer than its pictures")
            if left > 0:
                yield self._silence * left

    def _chunk_data(self, chunk: ChunkFile) -> Iterator[bytes]:
        with open_media(chunk.path) as container:
            video = video_stream(container, chunk.path.name)
            stream = audio_stream(container, chunk.path.name)
            pictures = (video.start_time or 0) * (video.time_base or Fraction(0))
            drop: int | None = None
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                data = bytes(packet)
                if drop is None:
                    delay = (packet.pts or 0) * packet.time_base - pictures
                    late = 0 if abs(delay) <= _CLOCK_ROUNDING else round(delay * self.rate)
                    drop = max(0, -late) * self._sample_bytes
                    if late > 0:
                        yield self._silence * (late * self._sample_bytes)
                yield data[drop:]
                drop = max(0, drop - len(data))

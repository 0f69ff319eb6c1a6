"""Write the sound of a film in step with its pictures: finished tracks copied, PCM of chunks joined to the sample."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from activities.media.audio import AAC_BITS_PER_SECOND, SAMPLE_RATE, find_audio_stream
from activities.media.containers import AnyPacket, find_video_stream, open_media
from activities.media.facts import ChunkFile, MismatchedOutput, SoundFile, name_chunk_in_errors
from activities.media.writer import FilmWriter

# Declares the stream in a film and yields its packets, timed from the film's start.
Source = Callable[[FilmWriter], tuple[Stream, Iterator[AnyPacket]]]

# Plain samples one after the other; planar and disc formats are not.
_PLAIN = re.compile(r"pcm_(?:[sfu](\d+)(?:[lb]e)?|[am]ulaw|alaw)")
_SILENT_BYTE = {"pcm_u8": b"\x80", "pcm_alaw": b"\xd5", "pcm_mulaw": b"\xff"}
# These containers hold PCM that players know; in mp4 hardly any does.
_COPYING = frozenset({".mov", ".mkv"})
# By container that holds PCM of some kinds alone: those, of which others become the last one.
_PLAIN_CODECS = {
    ".avi": ("pcm_u8", "pcm_s16le", "pcm_f32le", "pcm_s32le", "pcm_s24le"),
    ".mxf": ("pcm_s16le", "pcm_s24le"),
}
# Times below this are rounding of a container's clock, not a delay someone meant.
_CLOCK_ROUNDING = Fraction(2, 1000)
# A renderer may finish its last audio packet; sound that goes on for longer belongs to no frame here.
_LARGEST_OVERHANG_SAMPLES = 4096
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_AAC_RATES = frozenset({8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})


class _Track:
    """Packets of one stream, of which the next one waits for its time."""

    def __init__(self, stream: Stream, packets: Iterator[AnyPacket]) -> None:
        self._stream = stream
        self._packets = packets
        self._next: AnyPacket | None = None

    def write_until(self, film: FilmWriter, seconds: float | None) -> None:
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            begins = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and begins is not None and float(begins * packet.time_base) > seconds:
                return
            packet.stream = self._stream
            film.write(packet)
            self._next = None


class Soundtrack:
    """Sounds that are written in step with the pictures, so that neither waits in memory for the other."""

    def __init__(self, sources: Sequence[Source] = ()) -> None:
        self._sources = sources
        self._tracks: list[_Track] = []

    @property
    def is_silent(self) -> bool:
        """Whether there is no sound at all."""
        return not self._tracks

    def attach(self, film: FilmWriter) -> None:
        """Declare the streams of the sounds, after the video's and before the first packet."""
        self._tracks = [_Track(*source(film)) for source in self._sources]

    def write_until(self, film: FilmWriter, seconds: float | None) -> None:
        """Write the packets that begin up to a time of the film, or all that are left."""
        for track in self._tracks:
            track.write_until(film, seconds)


@contextmanager
def open_soundtrack(sounds: Sequence[SoundFile]) -> Iterator[Soundtrack]:
    """Copy sounds that are already in their final codec and length."""
    with ExitStack() as opened:
        yield Soundtrack([_copy_file(opened.enter_context(open_media(sound.path)), sound) for sound in sounds])


def _copy_file(container: InputContainer, sound: SoundFile) -> Source:
    score = find_audio_stream(container, sound.path.name)

    def source(film: FilmWriter) -> tuple[Stream, Iterator[AnyPacket]]:
        stream = film.add_copy(score)
        if sound.language:
            stream.metadata["language"] = sound.language
        return stream, (packet for packet in container.demux(score) if packet.size)

    return source


def find_sound_problem(sounds: Sequence[str]) -> str | None:
    """Find why the sounds of a chunk, as `VideoFacts.sounds` has them, cannot be joined; None when they can."""
    for sound in sounds:
        codec = sound.partition(" ")[0]
        if not _PLAIN.fullmatch(codec):
            return (
                f"holds {codec} sound, which cannot be joined without a gap at each seam; render plain PCM sound "
                "(pcm_s16le), name the sound of the whole film in audio, or leave it out with drop: [audio]"
            )
    return None


def join_chunk_sound(chunks: Sequence[ChunkFile], film_suffix: str, fps: Fraction, tracks: int = 1) -> Soundtrack:
    """Join the PCM of all chunks: copied where the container takes it, else encoded once over the film.

    Each chunk fills exactly the samples of its frames: sound that ends early is followed by silence, and the
    few samples a renderer may write too many are cut.

    Args:
        chunks: In film order.
        film_suffix: The film's extension, such as ".mov".
        fps: The exact rate of the film.
        tracks: How many sounds each chunk has.
    """
    return Soundtrack([_join_track(chunks, film_suffix, fps, number) for number in range(tracks)])


def _join_track(chunks: Sequence[ChunkFile], film_suffix: str, fps: Fraction, number: int) -> Source:
    def source(film: FilmWriter) -> tuple[Stream, Iterator[AnyPacket]]:
        with open_media(chunks[0].path) as container:
            first = find_audio_stream(container, chunks[0].path.name, number)
            joined = _JoinedPcm(chunks, first, fps, number)
            packets: Iterator[AnyPacket]
            plain = _PLAIN_CODECS.get(film_suffix, ())
            keeps_rate = film_suffix != ".mxf" or joined.rate == SAMPLE_RATE
            if film_suffix in _COPYING or (first.codec_context.name in plain and keeps_rate):
                stream = film.add_copy(first)
                packets = joined.packets()
            else:
                codec = _choose_encoder(film_suffix, first.codec_context.name, plain)
                keeps_rate = film_suffix == ".avi" or (codec == "aac" and joined.rate in _AAC_RATES)
                encoder = film.add_encoder(codec, joined.rate if keeps_rate else SAMPLE_RATE)
                encoder.layout = joined.layout
                if not plain:
                    encoder.bit_rate = AAC_BITS_PER_SECOND
                stream, packets = encoder, joined.encoded(encoder)
            stream.metadata.update({key: text for key, text in first.metadata.items() if key in ("language", "title")})
            return stream, packets

    return source


def _choose_encoder(film_suffix: str, codec: str, plain: Sequence[str]) -> str:
    """Choose the codec of the sound of a film that cannot hold the PCM of its chunks as it is."""
    if not plain:
        return "libopus" if film_suffix == ".webm" else "aac"
    other_order = codec.replace("be", "le")
    return other_order if other_order in plain else plain[-1]


class _JoinedPcm:
    def __init__(self, chunks: Sequence[ChunkFile], first: AudioStream, fps: Fraction, number: int) -> None:
        self._chunks = chunks
        self._number = number
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
        """Yield all samples of the film, timed by counting them."""
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
        """Yield the same samples as one encode."""
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
        longest_overhang = _LARGEST_OVERHANG_SAMPLES * self._sample_bytes
        for index, chunk in enumerate(self._chunks):
            start = round(before * self.rate / self._fps)
            before += chunk.frames
            left = (round(before * self.rate / self._fps) - start) * self._sample_bytes
            with name_chunk_in_errors(chunk, index):
                for data in self._chunk_data(chunk, left + longest_overhang + 1):
                    if left > 0:
                        yield data[:left]
                    left -= len(data)
                    if left <= 0 and chunk.is_cut:
                        break
                    if left < -longest_overhang:
                        raise MismatchedOutput(chunk.path.name, "has sound that is longer than its pictures")
            if left > 0:
                yield self._silence * left

    def _chunk_data(self, chunk: ChunkFile, most: int) -> Iterator[bytes]:
        """Yield the samples of a chunk from its first picture on, and silence where its times leave a gap.

        Args:
            chunk: The chunk.
            most: How many bytes of silence are enough, wherever the times may lie.
        """
        with open_media(chunk.path) as container:
            video = find_video_stream(container, chunk.path.name)
            stream = find_audio_stream(container, chunk.path.name, self._number)
            pictures = (video.start_time or 0) * (video.time_base or Fraction(0))
            place, origin = 0, None
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                data = bytes(packet)
                if packet.pts is not None:
                    begin = packet.pts * packet.time_base - pictures
                    if origin is None:
                        origin = begin if abs(begin) <= _CLOCK_ROUNDING else Fraction(0)
                    late = begin - origin - Fraction(place, self.rate)
                    if abs(late) > _CLOCK_ROUNDING:
                        gap = round(late * self.rate)
                        if gap > 0:
                            yield self._silence * min(gap * self._sample_bytes, most)
                            place += gap
                        data = data[max(0, -gap) * self._sample_bytes :]
                yield data
                place += len(data) // self._sample_bytes

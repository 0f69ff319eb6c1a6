"""Joining the chunks of a film packet by packet, without decoding, and their sound with them."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from pathlib import Path

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from activities.media.audio import AAC_BITS_PER_SECOND, SAMPLE_RATE, find_audio_stream
from activities.media.containers import AnyPacket, find_video_stream, open_media
from activities.media.facts import (
    ChunkFile,
    DamagedOutput,
    JoinStopped,
    MismatchedOutput,
    VideoFacts,
    name_chunk_in_errors,
)
from activities.media.video import inspect_video
from activities.media.writer import FilmWriter

# Declares the stream in a film and yields its packets, timed from the film's start.
Source = Callable[[FilmWriter], tuple[Stream, Iterator[AnyPacket]]]

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

# Often enough for a progress bar, rarely enough to cost nothing.
_PROGRESS_FRAMES = 500


class Soundtrack:
    """Sound that is written in step with the pictures, so that neither waits in memory for the other."""

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._stream: Stream | None = None
        self._packets: Iterator[AnyPacket] = iter(())
        self._next: AnyPacket | None = None

    def attach(self, film: FilmWriter) -> None:
        """Declare the stream of the sound, after the video's and before the first packet."""
        if self._source is not None:
            self._stream, self._packets = self._source(film)

    def write_until(self, film: FilmWriter, seconds: float | None) -> None:
        """Write the packets that begin up to a time of the film, or all that are left."""
        if self._stream is None:
            return
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = packet
            begins = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and begins is not None and float(begins * packet.time_base) > seconds:
                return
            packet.stream = self._stream
            film.write(packet)
            self._next = None


@contextmanager
def open_soundtrack(path: Path) -> Iterator[Soundtrack]:
    """Copy a soundtrack that is already in its final codec and length."""
    with open_media(path) as container:
        score = find_audio_stream(container, path.name)

        def source(film: FilmWriter) -> tuple[Stream, Iterator[AnyPacket]]:
            return film.add_copy(score), (packet for packet in container.demux(score) if packet.size)

        yield Soundtrack(source)


def join_chunk_sound(chunks: Sequence[ChunkFile], film_suffix: str, fps: Fraction) -> Soundtrack:
    """Join the PCM of all chunks: copied where the container takes it, else encoded once over the film.

    Each chunk fills exactly the samples of its frames: sound that ends early is followed by silence, and the
    few samples a renderer may write too many are cut.
    """

    def source(film: FilmWriter) -> tuple[Stream, Iterator[AnyPacket]]:
        with open_media(chunks[0].path) as container:
            first = find_audio_stream(container, chunks[0].path.name)
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
        for index, chunk in enumerate(self._chunks):
            start = round(before * self.rate / self._fps)
            before += chunk.frames
            left = (round(before * self.rate / self._fps) - start) * self._sample_bytes
            with name_chunk_in_errors(chunk, index):
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
            video = find_video_stream(container, chunk.path.name)
            stream = find_audio_stream(container, chunk.path.name)
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


def join_video(
    chunks: Sequence[ChunkFile],
    target: Path,
    *,
    fps: Fraction,
    audio: Path | None = None,
    progress: Callable[[int], None],
    stop: threading.Event,
) -> VideoFacts:
    """Join all chunks to a film at `target`, each frame at exactly its place, and sync it to disk.

    Nothing is decoded, so each frame equals the chunk's. The times come from counting frames, so no rounding
    adds up over any number of chunks. Every chunk is inspected before the first byte is written. One chunk is
    open at a time (two where chunks carry PCM sound). After an error nothing is left at `target`.

    Args:
        chunks: In film order.
        target: A private path whose extension says the container: mp4, m4v, mov, mkv, webm or ts.
        fps: The exact rate of the film.
        audio: A soundtrack in its final codec and length (see `build_audio_command`). Without it, PCM sound in the
            chunks is joined sample by sample; other sound in them is left out.
        progress: Called with the number of frames written so far.
        stop: Ends the join when set.

    Returns:
        What `verify_film` should find in the film; its sound is not described.

    Raises:
        DamagedOutput: A chunk is missing, cut, or of the wrong length; `chunk` says which.
        MismatchedOutput: A chunk does not fit chunk 0, or the container cannot hold the codec.
        JoinStopped: `stop` was set.
    """
    if not chunks:
        raise DamagedOutput(target.name, "has no chunks to be joined from")
    facts = _inspect_all(chunks, fps, stop)
    total = sum(chunk.frames for chunk in chunks)
    reorder_frames = max(each.reorder_frames for each in facts)
    with _sound(chunks, facts, target, fps, audio) as sound, FilmWriter(target, fps, reorder_frames) as film:
        written = 0
        for index, chunk in enumerate(chunks):
            with name_chunk_in_errors(chunk, index):
                for _ in _copy_chunk(chunk, written, film, sound, stop):
                    written += 1
                    if written % _PROGRESS_FRAMES == 0:
                        progress(written)
            progress(written)
        sound.write_until(film, None)
    return facts[0].model_copy(update={"frames": total, "reorder_frames": reorder_frames, "audio": ""})


def _inspect_all(chunks: Sequence[ChunkFile], fps: Fraction, stop: threading.Event) -> list[VideoFacts]:
    found: list[VideoFacts] = []
    for index, chunk in enumerate(chunks):
        with name_chunk_in_errors(chunk, index):
            facts = inspect_video(chunk.path, fps=fps, frames=chunk.frames, stop=stop)
            problem = facts.find_mismatch(found[0]) if found else None
            if problem is None and not facts.starts_clean:
                problem = "does not begin with a key frame that is shown first, so nothing can be put before it"
            if problem is not None:
                raise MismatchedOutput(chunk.path.name, problem)
            found.append(facts)
    return found


def _sound(
    chunks: Sequence[ChunkFile], facts: list[VideoFacts], target: Path, fps: Fraction, audio: Path | None
) -> AbstractContextManager[Soundtrack]:
    if audio is not None:
        return open_soundtrack(audio)
    layouts = [each.audio for each in facts]
    if not any(layout.startswith("pcm_") for layout in layouts):
        return nullcontext(Soundtrack(None))
    for index, layout in enumerate(layouts):
        if layout != layouts[0]:
            problem = f"has other sound: {layout or 'none'} instead of {layouts[0] or 'none'}"
            with name_chunk_in_errors(chunks[index], index):
                raise MismatchedOutput(chunks[index].path.name, problem)
    return nullcontext(join_chunk_sound(chunks, target.suffix.lower(), fps))


def _copy_chunk(
    chunk: ChunkFile, before: int, film: FilmWriter, sound: Soundtrack, stop: threading.Event
) -> Iterator[int]:
    seen = bytearray(chunk.frames)
    with open_media(chunk.path) as container:
        stream = find_video_stream(container, chunk.path.name)
        if before == 0:
            film.add_video(stream)
            sound.attach(film)
            film.write_header()
        first: int | None = None
        place = 0
        for packet in container.demux(stream):
            if stop.is_set():
                raise JoinStopped(chunk.name)
            if packet.size == 0 or packet.pts is None:
                continue
            first = packet.pts if first is None else first
            index = film.find_frame((packet.pts - first) * packet.time_base)
            if not 0 <= index < chunk.frames or seen[index]:
                break
            seen[index] = 1
            sound.write_until(film, film.find_decode_seconds(before + place))
            film.write_frame(packet, before + index, before + place)
            place += 1
            yield index
    if not all(seen):
        raise DamagedOutput(chunk.path.name, "was changed while it was being joined")

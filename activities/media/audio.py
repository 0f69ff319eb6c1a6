"""Sound of films: encoding a soundtrack once over the whole film, so that no join is heard; checking sound files."""

import os
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer
from pydantic import BaseModel, ConfigDict

from activities.media.containers import AnyPacket, check_structure, open_media
from activities.media.facts import DamagedOutput, UnknownOutput
from longtake.sound_formats import AUDIO_OF_FILMS, AudioCodec

# The rate all codecs take and video players expect.
SAMPLE_RATE = 48000
AAC_BITS_PER_SECOND = 256_000

_OPUS = ("-c:a", "libopus", "-b:a", "160k")
# By codec: the kind of file that keeps exact sample positions for it, and how ffmpeg makes that.
_CODINGS = {
    AudioCodec.AAC: (".m4a", ["-c:a", "aac", "-b:a", str(AAC_BITS_PER_SECOND), "-f", "ipod"]),
    AudioCodec.FLAC: (".flac", ["-c:a", "flac", "-f", "flac"]),
    AudioCodec.OPUS: (".opus", [*_OPUS, "-f", "ogg"]),
    # Above 4 GB the head of a WAV file cannot say how long the file is.
    AudioCodec.PCM: (".wav", ["-rf64", "auto", "-f", "wav"]),
}
# For Matroska films. Of Opus in Ogg ffmpeg 5 does not know in time how long the encoder's run-up is, and has the
# pictures begin that much later. In other films Matroska's times, which are whole milliseconds, would move the sound.
_OPUS_OF_MATROSKA = (".mka", [*_OPUS, "-f", "matroska"])
_MATROSKA = frozenset({".mkv", ".webm"})
# Films whose PCM is of `SAMPLE_RATE` alone (SMPTE ST 382 as libav writes it).
_ONE_RATE = frozenset({".mxf"})
# Transport streams pack this much sound in one go.
_LONGEST_PACKET_SECONDS = Fraction(1, 4)
# Sources that fill no more than 16 bits.
_SHORT_SAMPLES = re.compile(r"pcm_([su]8|[su]16[lb]e|alaw|mulaw)(_planar)?|adpcm_.*")


class AudioFacts(BaseModel):
    """What was found in a sound file."""

    model_config = ConfigDict(frozen=True)

    codec: str
    sample_rate: int
    channels: int
    duration: Fraction


def find_audio_codec(film_suffix: str, wanted: AudioCodec | None = None) -> AudioCodec:
    """Find the codec of the sound of a film: the one that is wanted, or the usual one of its container."""
    return wanted or AUDIO_OF_FILMS[film_suffix.lower()][0]


def find_audio_suffix(film_suffix: str, wanted: AudioCodec | None = None) -> str:
    """Find the extension of the file that `build_audio_command` makes for a film."""
    return _find_coding(film_suffix, wanted)[0]


def _find_coding(film_suffix: str, wanted: AudioCodec | None) -> tuple[str, list[str]]:
    codec = find_audio_codec(film_suffix, wanted)
    return _OPUS_OF_MATROSKA if codec is AudioCodec.OPUS and film_suffix.lower() in _MATROSKA else _CODINGS[codec]


def build_audio_command(
    ffmpeg: str,
    source: Path,
    target: Path,
    *,
    film_suffix: str,
    duration: Fraction,
    codec: AudioCodec | None = None,
    offset_seconds: Fraction = Fraction(0),
    kept: Sequence[tuple[Fraction, Fraction]] = (),
) -> list[str]:
    """Build the ffmpeg command that encodes a score to exactly the film's length.

    A shorter score is followed by silence, a longer one is cut, one that begins late keeps its delay. Codecs without
    loss that were asked for keep the rate of the score.

    Args:
        ffmpeg: The program.
        source: A file with an audio stream, of a kind in `READERS`; the first stream counts.
        target: Where to write; its extension should be `find_audio_suffix(film_suffix, codec)`.
        film_suffix: The film's extension, such as ".mp4", which decides the codec where none is asked for.
        duration: The length in seconds of the film, with what is cut out of it.
        codec: The codec that is asked for.
        offset_seconds: How much later than the film the score begins; the beginning is cut off where it is negative.
        kept: From when to when the film has pictures, in seconds; the sound of the rest is cut out. Nothing is cut out
            when empty.
    """
    made = find_audio_codec(film_suffix, codec)
    facts = inspect_audio(source) if made is AudioCodec.PCM or codec is AudioCodec.FLAC else None
    keeps_rate = facts is not None and codec is not None and film_suffix.lower() not in _ONE_RATE
    rate = facts.sample_rate if facts is not None and keeps_rate else SAMPLE_RATE
    samples = round(duration * rate)
    chain = [f"aresample={rate}:async=1:first_pts=0"]
    if offset_seconds > 0:
        chain.append(f"adelay=delays={round(offset_seconds * rate)}S:all=1")
    elif offset_seconds < 0:
        chain.append(f"atrim=start_sample={round(-offset_seconds * rate)},asetpts=PTS-STARTPTS")
    chain.append(f"apad=whole_len={samples},atrim=end_sample={samples}")
    coding = list(_find_coding(film_suffix, codec)[1])
    if made is AudioCodec.PCM and facts is not None:
        coding += ["-c:a", "pcm_s16le" if _SHORT_SAMPLES.fullmatch(facts.codec) else "pcm_s24le"]
    graph = f"[0:a:0]{','.join(chain)}{_cut_out(kept, duration, rate)}[sound]"
    return [
        *(ffmpeg, "-nostdin", "-v", "error", "-y", "-protocol_whitelist", "file"),
        *("-i", f"file:{os.path.abspath(source)}", "-filter_complex", graph, "-map", "[sound]", "-map_metadata", "-1"),
        *coding,
        f"file:{os.path.abspath(target)}",
    ]


def _cut_out(kept: Sequence[tuple[Fraction, Fraction]], duration: Fraction, rate: int) -> str:
    """Write the end of a filter graph that keeps some stretches of a sound and joins them."""
    if not kept or list(kept) == [(Fraction(0), duration)]:
        return ""
    stretches = [(round(start * rate), round(stop * rate)) for start, stop in kept]
    bounds = sorted({sample for stretch in stretches for sample in stretch} - {0, round(duration * rate)})
    pieces = list(enumerate([0, *bounds]))
    heard = [number for number, at in pieces if any(start <= at < stop for start, stop in stretches)]
    outputs = "".join(f"[piece{number}]" for number, _ in pieces)
    # Without times of its own a piece would leave the gap before it in the times of what follows.
    ends = "".join(
        f";[piece{number}]asetpts=PTS-STARTPTS[heard{number}]" if number in heard else f";[piece{number}]anullsink"
        for number, _ in pieces
    )
    joined = "".join(f"[heard{number}]" for number in heard)
    cut = f",asegment=samples={'|'.join(map(str, bounds))}{outputs}{ends}"
    return f"{cut};{joined}concat=n={len(heard)}:v=0:a=1"


def find_audio_stream(container: InputContainer, name: str, number: int = 0) -> AudioStream:
    """Find an audio stream of an open file by its number among those."""
    if len(container.streams.audio) <= number:
        raise DamagedOutput(name, "holds no audio stream" if number == 0 else f"holds no audio stream {number + 1}")
    stream = container.streams.audio[number]
    if stream.codec_context is None:
        raise UnknownOutput(name, "holds audio of a codec that nothing here can read; render another one")
    return stream


class SoundSpan:
    """From when to when a stream of packets is heard, and how long its longest packet is, in seconds."""

    def __init__(self) -> None:
        self.begin: Fraction | None = None
        self.end = Fraction(0)
        self.packet = Fraction(0)

    def add(self, packet: AnyPacket) -> None:
        if packet.size == 0 or packet.pts is None:
            return
        begin = packet.pts * packet.time_base
        length = (packet.duration or 0) * packet.time_base
        self.begin = begin if self.begin is None else min(self.begin, begin)
        self.end = max(self.end, begin + length)
        # A gap in the times makes the packet before it as long as the gap, which is no excuse for what follows.
        self.packet = max(self.packet, min(length, _LONGEST_PACKET_SECONDS))

    def add_all(self, packets: Iterable[AnyPacket]) -> None:
        for packet in packets:
            self.add(packet)


def inspect_audio(path: Path) -> AudioFacts:
    """Read every packet of the first audio stream of a file, and return the facts of its sound.

    Raises:
        DamagedOutput: Missing, empty, cut, unreadable, or without sound.
    """
    check_structure(path)
    with open_media(path) as container:
        stream = find_audio_stream(container, path.name)
        span = SoundSpan()
        span.add_all(container.demux(stream))
        if span.begin is None:
            raise DamagedOutput(path.name, "holds no sound")
        return AudioFacts(
            codec=stream.codec_context.codec.canonical_name,
            sample_rate=stream.codec_context.sample_rate,
            channels=stream.codec_context.channels,
            # What lies before zero is the encoder's run-up, which no player plays.
            duration=span.end - max(span.begin, Fraction(0)),
        )

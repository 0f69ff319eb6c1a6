"""Sound of films: encoding a soundtrack once over the whole film, so that no join is heard; checking sound files."""

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.container import InputContainer
from pydantic import BaseModel, ConfigDict

from activities.media.containers import AnyPacket, check_structure, open_media, require_known_codec
from activities.media.facts import DamagedOutput

# The rate all three codecs take and video players expect.
SAMPLE_RATE = 48000
AAC_BITS_PER_SECOND = 256_000

_AAC = (".m4a", ["-c:a", "aac", "-b:a", str(AAC_BITS_PER_SECOND), "-f", "ipod"])
# By film suffix: the kind of file that keeps exact sample positions for the codec the film will hold.
_CODINGS = {
    ".mp4": _AAC,
    ".m4v": _AAC,
    ".mov": _AAC,
    ".ts": _AAC,
    ".mkv": (".flac", ["-c:a", "flac", "-f", "flac"]),
    ".webm": (".opus", ["-c:a", "libopus", "-b:a", "160k", "-f", "ogg"]),
}


class AudioFacts(BaseModel):
    """What was found in a sound file."""

    model_config = ConfigDict(frozen=True)

    codec: str
    sample_rate: int
    channels: int
    duration: Fraction


def find_audio_suffix(film_suffix: str) -> str:
    """Find the extension of the file that `build_audio_command` makes for a film."""
    return _CODINGS[film_suffix.lower()][0]


def build_audio_command(ffmpeg: str, source: Path, target: Path, *, duration: Fraction, film_suffix: str) -> list[str]:
    """Build the ffmpeg command that encodes a score to exactly the film's length.

    A shorter score is followed by silence, a longer one is cut, one that begins late keeps its delay.

    Args:
        ffmpeg: The program.
        source: Anything with an audio stream; the first one counts.
        target: Where to write; its extension should be `find_audio_suffix(film_suffix)`.
        duration: The film's length in seconds.
        film_suffix: The film's extension, such as ".mp4", which decides the codec.
    """
    samples = round(duration * SAMPLE_RATE)
    length = f"apad=whole_len={samples},atrim=end_sample={samples}"
    return [
        *(ffmpeg, "-nostdin", "-v", "error", "-y", "-protocol_whitelist", "file"),
        *("-i", f"file:{os.path.abspath(source)}", "-map", "0:a:0", "-map_metadata", "-1"),
        *("-af", f"aresample={SAMPLE_RATE}:async=1:first_pts=0,{length}"),
        *_CODINGS[film_suffix.lower()][1],
        f"file:{os.path.abspath(target)}",
    ]


def find_audio_stream(container: InputContainer, name: str) -> AudioStream:
    """Find the first audio stream of an open file."""
    if not container.streams.audio:
        raise DamagedOutput(name, "holds no audio stream")
    require_known_codec(container.streams.audio[0], name)
    return container.streams.audio[0]


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
        self.packet = max(self.packet, length)

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

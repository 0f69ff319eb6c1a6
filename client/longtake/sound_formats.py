"""Codecs of sound, the films that hold them, and the kinds of streams beside pictures."""

from enum import StrEnum


class AudioCodec(StrEnum):
    """Codecs of the sound of a film."""

    PCM = "pcm"
    FLAC = "flac"
    OPUS = "opus"
    AAC = "aac"


# By extension of the film: the codecs that its container holds so that players know them; the first is the usual one.
AUDIO_OF_FILMS: dict[str, tuple[AudioCodec, ...]] = {
    ".mp4": (AudioCodec.AAC, AudioCodec.FLAC, AudioCodec.OPUS),
    ".m4v": (AudioCodec.AAC, AudioCodec.FLAC, AudioCodec.OPUS),
    ".mov": (AudioCodec.AAC, AudioCodec.PCM),
    ".mkv": (AudioCodec.FLAC, AudioCodec.PCM, AudioCodec.AAC, AudioCodec.OPUS),
    ".webm": (AudioCodec.OPUS,),
    ".ts": (AudioCodec.AAC,),
    ".avi": (AudioCodec.PCM,),
    ".mxf": (AudioCodec.PCM,),
}


class StreamKind(StrEnum):
    """Kinds of streams in chunks that a job may drop from its film."""

    AUDIO = "audio"
    SUBTITLES = "subtitles"
    DATA = "data"
    ATTACHMENTS = "attachments"

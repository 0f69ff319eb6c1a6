"""Model the sound of a film, and the sound and other streams of chunks that a film may lack."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from longtake.models.fields import Contract
from longtake.sound_formats import AUDIO_OF_FILMS, AudioCodec, StreamKind
from longtake.text import quote_value

# More tracks than any delivery has: a dozen languages, each in stereo and 5.1.
MOST_AUDIO_TRACKS = 32


def _as_language(value: str) -> str:
    if not re.fullmatch(r"[a-z]{3}", value, re.ASCII):
        raise ValueError(f"is {quote_value(value)}; write a code of three letters, such as eng or deu")
    return value


Language = Annotated[str, AfterValidator(_as_language)]


class AudioTrack(Contract):
    """One sound of the film, over its whole length."""

    file: str = Field(description="the sound, relative to base_dir")
    codec: AudioCodec | None = Field(
        default=None, description="pcm, flac, opus or aac; none: the container's usual one"
    )
    language: Language | None = Field(default=None, description="ISO 639-2 code of three letters, such as deu")
    offset_seconds: float = Field(
        default=0, ge=-86_400, le=86_400, description="how much later than the film it begins; less than 0: cut off"
    )


def _as_track(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


def _form_of_audio(value: object) -> str:
    if isinstance(value, dict | AudioTrack):
        return "track"
    return "list" if isinstance(value, list | tuple) else "file"


_ListedTrack = Annotated[AudioTrack, BeforeValidator(_as_track)]
Audio = Annotated[
    Annotated[str, Tag("file")]
    | Annotated[AudioTrack, Tag("track")]
    | Annotated[tuple[_ListedTrack, ...], Tag("list"), Field(min_length=1, max_length=MOST_AUDIO_TRACKS)],
    Discriminator(_form_of_audio),
]


def list_tracks(audio: str | AudioTrack | tuple[AudioTrack, ...] | None) -> tuple[AudioTrack, ...]:
    """List the sounds of a film, in whichever form a job names them."""
    if audio is None:
        return ()
    if isinstance(audio, str):
        return (AudioTrack(file=audio),)
    return audio if isinstance(audio, tuple) else (audio,)


def name_files(field: str, audio: str | AudioTrack | tuple[AudioTrack, ...] | None) -> Iterator[tuple[str, str]]:
    """Yield the files of the sounds of a film, each behind the name of its field."""
    if isinstance(audio, tuple):
        yield from ((f"{field}[{index}].file", track.file) for index, track in enumerate(audio))
    elif audio is not None:
        yield (field, audio) if isinstance(audio, str) else (f"{field}.file", audio.file)


def rename_files(
    audio: str | AudioTrack | tuple[AudioTrack, ...] | None, rename: Callable[[str], str]
) -> str | AudioTrack | tuple[AudioTrack, ...] | None:
    """Return sounds of a film whose files have other names."""
    if audio is None or isinstance(audio, str):
        return audio and rename(audio)
    if isinstance(audio, tuple):
        return tuple(track.model_copy(update={"file": rename(track.file)}) for track in audio)
    return audio.model_copy(update={"file": rename(audio.file)})


def check_codecs(files: Iterable[tuple[str, str]], tracks: Iterable[AudioTrack], film_suffix: str) -> None:
    """Raise ValueError unless a kind of film holds the codecs that its sounds ask for; files come with their fields."""
    held = AUDIO_OF_FILMS[film_suffix]
    for (field, _), track in zip(files, tracks, strict=True):
        if track.codec is not None and track.codec not in held:
            raise ValueError(
                f"{field.removesuffix('.file')}.codec: {film_suffix} films hold no {track.codec}; "
                f"write {' or '.join(held)}, or end output in .mkv"
            )


def _as_set(value: tuple[StreamKind, ...]) -> tuple[StreamKind, ...]:
    return tuple(sorted(set(value)))


DroppedStreams = Annotated[tuple[StreamKind, ...], AfterValidator(_as_set)]

"""Write the languages of the tracks of a finished QuickTime film, of which libav's writer knows few.

It writes the numbers that old Macintoshes had for languages: German is `ger` there, and `deu` or `cat` come out as
unspecified (`ff_mov_iso639_to_lang` in libavformat/movenc.c). The format has room for the codes of ISO 639-2, three
letters of five bits each, and readers know them (QuickTime File Format Specification, "Language code values").
"""

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from activities.media.images.boxes import Box, walk_boxes
from activities.media.images.image_file import ImageFile

# From the beginning of a box's content to its field: behind version and flags, two times, a scale and a length, which
# are longer in version 1.
_LANGUAGE_OFFSETS = {0: 20, 1: 32}
_HANDLER_OFFSET = 8

_LANGUAGE = re.compile(r"[a-z]{3}", re.ASCII)


def set_languages(path: Path, *, video: str, sounds: Sequence[str]) -> None:
    """Set the languages of the tracks of a finished film; films that are no QuickTime files have them already.

    Args:
        path: The film.
        video: Language of its pictures as three letters; others leave what is there.
        sounds: Languages of its sound tracks, in order.
    """
    if path.suffix.lower() != ".mov":
        return
    with path.open("r+b") as file:
        tracks = {b"vide": iter([video]), b"soun": iter(sounds)}
        for offset, handler in list(_find_tracks(ImageFile(file, path.stat().st_size))):
            language = next(tracks.get(handler, iter(())), "")
            if _LANGUAGE.fullmatch(language):
                file.seek(offset)
                file.write(_pack_language(language))


def _pack_language(language: str) -> bytes:
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return struct.pack(">H", first << 10 | second << 5 | third)


def _find_tracks(file: ImageFile) -> Iterator[tuple[int, bytes]]:
    """Yield where the language of each track stands, and the kind of the track, in order."""
    for movie in _find_boxes(file, b"moov", 0, file.size_bytes):
        for track in _find_boxes(file, b"trak", movie.start, movie.end):
            for media in _find_boxes(file, b"mdia", track.start, track.end):
                (header,) = _find_boxes(file, b"mdhd", media.start, media.end)
                (handler,) = _find_boxes(file, b"hdlr", media.start, media.end)
                (version,) = file.read(1, at=header.start)
                yield header.start + _LANGUAGE_OFFSETS[version], file.read(4, at=handler.start + _HANDLER_OFFSET)


def _find_boxes(file: ImageFile, kind: bytes, start: int, end: int) -> Iterator[Box]:
    return (box for box in walk_boxes(file, start, end) if box.kind == kind)

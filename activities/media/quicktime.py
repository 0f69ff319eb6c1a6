"""Write the languages of the tracks of a finished QuickTime film, of which libav's writer knows few.

It writes the numbers that old Macintoshes had for languages: German is `ger` there, and `deu` or `cat` come out as
unspecified (`ff_mov_iso639_to_lang` in libavformat/movenc.c). The format has room for the codes of ISO 639-2, three
letters of five bits each, and readers know them (QuickTime File Format Specification, "Language code values").
"""

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

# From the beginning of a box's content to its field: behind version and flags, two times, a scale and a length, which
# are longer in version 1.
_LANGUAGE_OFFSETS = {0: 20, 1: 32}
_HANDLER_OFFSET = 8

_LANGUAGE = re.compile(r"[a-z]{3}", re.ASCII)


def set_languages(path: Path, *, video: str, sounds: Sequence[str]) -> None:
    """Set the languages of a film's tracks.

    Args:
        path: The film, a QuickTime file that is finished.
        video: Language of its pictures as three letters; others leave what is there.
        sounds: Languages of its sound tracks, in order.
    """
    with path.open("r+b") as file:
        tracks = {b"vide": iter([video]), b"soun": iter(sounds)}
        for offset, handler in list(_find_tracks(file, path.stat().st_size)):
            language = next(tracks.get(handler, iter(())), "")
            if _LANGUAGE.fullmatch(language):
                file.seek(offset)
                file.write(_pack_language(language))


def _pack_language(language: str) -> bytes:
    first, second, third = (ord(letter) - 0x60 for letter in language)
    return struct.pack(">H", first << 10 | second << 5 | third)


def _find_tracks(file: BinaryIO, size_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield where the language of each track stands, and the kind of the track, in order."""
    for movie in _list_boxes(file, b"moov", 0, size_bytes):
        for track in _list_boxes(file, b"trak", *movie):
            for media in _list_boxes(file, b"mdia", *track):
                ((header, _),) = _list_boxes(file, b"mdhd", *media)
                ((handler, _),) = _list_boxes(file, b"hdlr", *media)
                file.seek(header)
                offset = header + _LANGUAGE_OFFSETS[file.read(1)[0]]
                file.seek(handler + _HANDLER_OFFSET)
                yield offset, file.read(4)


def _list_boxes(file: BinaryIO, kind: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """List where the contents of the boxes of one kind begin and end (ISO/IEC 14496-12, section 4.2)."""
    found = []
    while start < end:
        file.seek(start)
        length, name, long_length = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        head = 16 if length == 1 else 8
        length = {0: end - start, 1: long_length}.get(length, length)
        if name == kind:
            found.append((start + head, start + length))
        start += max(length, 8)
    return found

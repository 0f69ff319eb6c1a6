"""Write into a finished Matroska file what libav does not let a caller say: codecs, and the size of the pictures.

Elements by RFC 8794 and https://www.matroska.org/technical/elements.html.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from activities.media.containers import SEGMENT, read_element

_TRACKS, _TRACK, _TRACK_TYPE, _NAME, _VIDEO = 0x1654AE6B, 0xAE, 0x83, 0x536E, 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_CODEC_ID, _CODEC_PRIVATE = 0x86, 0x63A2
_COLOUR, _CHROMA_X, _CHROMA_Y = 0x55B0, 0x55B7, 0x55B8
_CRC, _VOID = 0xBF, 0xEC
_CLUSTER = 0x1F43B675

_Numbers = tuple[tuple[int, int], ...]

# A name of this length leaves room for the two elements; it is taken away again.
NAME_PADDING = "." * 48


# What display sizes count: pixels, or nothing, so that they are a mere ratio. WebM knows pixels alone.
PIXELS, RATIO = 0, 3


def set_display_size(path: Path, width: int, height: int, unit: int = PIXELS) -> None:
    """Set the size at which the pictures of a film are shown, whose video stream was named with `NAME_PADDING`.

    No byte of the file moves.

    Raises:
        ValueError: The file has no such stream.
    """
    sizes = _list_sizes(width, height, unit)
    _rewrite(path, lambda content: _set_display_size(content, sizes))


def _list_sizes(width: int, height: int, unit: int) -> _Numbers:
    return (_DISPLAY_WIDTH, width), (_DISPLAY_HEIGHT, height), (_DISPLAY_UNIT, unit)


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the content of the padded video track of a file, whose room it keeps."""
    with path.open("r+b") as file:
        start, size = _find_tracks(file)
        file.seek(start)
        body = _rewrite_tracks(file.read(size), change)
        file.seek(start)
        file.write(body)


@dataclass(frozen=True)
class TrackCodec:
    """How a track names its codec.

    Attributes:
        id: Its name in Matroska.
        private: What its decoder needs beside the packets.
        video: How the pictures are shown, as the Video element says it; None leaves what the muxer has written.
    """

    id: str
    private: bytes
    video: bytes | None = None

    @property
    def padding(self) -> str:
        """A name for the video stream, whose room is enough for all of it."""
        return NAME_PADDING + "." * (len(self.id) + len(self.private) + len(self.video or b""))


def build_windows_codec(width: int, height: int, bits: int, tag: str, extradata: bytes) -> TrackCodec:
    """Build what Matroska says of a codec that it has no name for: the head of a picture in AVI files.

    Args:
        width: Width of the pictures.
        height: Height of the pictures.
        bits: Bits of a pixel, as its container has said.
        tag: The four characters by which AVI or QuickTime files name the codec.
        extradata: What its decoder needs beside the packets.
    """
    code = tag.encode("latin-1").ljust(4)[:4]
    # BITMAPINFOHEADER; readers take from it what stands behind it, and ignore the size of the picture in bytes.
    head = struct.pack(
        "<IiiHH4sIiiII", 40 + len(extradata), width, height, 1, bits, code, width * height * 3, 0, 0, 0, 0
    )
    return TrackCodec("V_MS/VFW/FOURCC", head + extradata)


def read_codec(path: Path) -> TrackCodec:
    """Read how the video track of a Matroska file names its codec.

    Raises:
        ValueError: The file has no such track.
    """
    with path.open("rb") as file:
        start, size = _find_tracks(file)
        file.seek(start)
        body = file.read(size)
    for kind, content, _ in _children(body):
        values = {inner: value for inner, value, _ in _children(content)} if kind == _TRACK else {}
        if values.get(_TRACK_TYPE) == b"\x01":
            name = values.get(_CODEC_ID, b"").rstrip(b"\0").decode("latin-1")
            return TrackCodec(name, values.get(_CODEC_PRIVATE, b""), values.get(_VIDEO))
    raise ValueError("no video track")


def set_codec(path: Path, codec: TrackCodec, shown: tuple[int, int, int] | None = None) -> None:
    """Set how a film names its codec, whose video stream was named with the codec's padding.

    No byte of the pictures moves.

    Args:
        path: The film.
        codec: What it says of its codec.
        shown: Width, height and unit of the size at which its pictures are shown, if their pixels are not square.

    Raises:
        ValueError: The file has no such stream.
    """
    sizes = _list_sizes(*shown) if shown is not None else ()
    _rewrite(path, lambda content: _set_codec(_set_display_size(content, sizes), codec))


def _set_codec(content: bytes, codec: TrackCodec) -> bytes:
    made = _element(_CODEC_ID, codec.id.encode()) + _element(_CODEC_PRIVATE, codec.private)
    for kind, _, raw in _children(content):
        if kind == _VIDEO and codec.video is not None:
            made += _element(_VIDEO, codec.video)
        elif kind not in (_CODEC_ID, _CODEC_PRIVATE):
            made += raw
    return made


def _unpad_name(name: bytes) -> bytes:
    kept = name[: name.index(NAME_PADDING.encode())]
    return _element(_NAME, kept) if kept else b""


def find_chroma_location(file: BinaryIO) -> str:
    """Find where the colour samples of the first track lie beside the others, as in "top left"; empty if not said.

    Raises:
        ValueError: The file has no tracks.
    """
    start, size = _find_tracks(file)
    file.seek(start)
    body = file.read(size)
    for kind in (_TRACK, _VIDEO, _COLOUR):
        body = next((content for found, content, _ in _children(body) if found == kind), b"")
    values = {kind: int.from_bytes(content, "big") for kind, content, _ in _children(body)}
    names = _CHROMA_Y_NAMES.get(values.get(_CHROMA_Y, 0), ""), _CHROMA_X_NAMES.get(values.get(_CHROMA_X, 0), "")
    return " ".join(filter(None, names)) or ("centre" if _CHROMA_X in values else "")


# Half way between two samples goes without saying.
_CHROMA_X_NAMES, _CHROMA_Y_NAMES = {1: "left"}, {1: "top"}


def _find_tracks(file: BinaryIO) -> tuple[int, int]:
    """Find where the content of the Tracks element begins, and its size."""
    position = 0
    while True:
        file.seek(position)
        element = read_element(file.read(12))
        if element is None or element[0] == _CLUSTER:
            raise ValueError("no tracks before the first cluster")
        kind, size, head_bytes = element
        position += head_bytes
        if kind == _TRACKS:
            return position, size
        if kind != SEGMENT:
            position += size


def _rewrite_tracks(body: bytes, change: Callable[[bytes], bytes]) -> bytes:
    rest, checked = b"", False
    for kind, content, raw in _children(body):
        if kind == _CRC:
            checked = True
        elif kind == _TRACK and _is_padded_video(content):
            made = change(content)
            # The muxer has written the size in as many bytes as it needs with the padding.
            rest += raw[: len(raw) - len(content)] + made + _void(len(content) - len(made))
        else:
            rest += raw
    # EBML stores its checksum, of all that follows in the element, from the lowest byte on.
    checksum = _element(_CRC, zlib.crc32(rest).to_bytes(4, "little")) if checked else b""
    if len(checksum + rest) != len(body):
        raise ValueError("no stream was named for it")
    return checksum + rest


def _is_padded_video(content: bytes) -> bool:
    values = {kind: inner for kind, inner, _ in _children(content)}
    return values.get(_TRACK_TYPE) == b"\x01" and NAME_PADDING.encode() in values.get(_NAME, b"")


def _set_display_size(content: bytes, shown: _Numbers) -> bytes:
    made = b""
    for kind, inner, raw in _children(content):
        if kind == _NAME:
            made += _unpad_name(inner)
        elif kind == _VIDEO:
            kept = b"".join(part for id, _, part in _children(inner) if id not in dict(shown))
            sizes = b"".join(_element(id, value.to_bytes(4, "big")) for id, value in shown)
            made += _element(_VIDEO, kept + sizes)
        else:
            made += raw
    return made


def _void(room: int) -> bytes:
    """Return an element without meaning that fills some room."""
    return _element(_VOID, bytes(room - 9), size_bytes=8)


def _children(body: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield id, content and all bytes of each element in a body."""
    position = 0
    while position < len(body):
        element = read_element(body[position : position + 12])
        if element is None:
            raise ValueError("an element cannot be read")
        kind, size, head_bytes = element
        stop = position + head_bytes + size
        yield kind, body[position + head_bytes : stop], body[position:stop]
        position = stop


def _element(kind: int, content: bytes, size_bytes: int = 0) -> bytes:
    id_bytes = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    length = size_bytes or (1 if len(content) < 0x7F else 4)
    return id_bytes + ((1 << (7 * length)) | len(content)).to_bytes(length, "big") + content

"""Checking that image files are whole: PNG, JPEG, TIFF and OpenEXR by their structure, others by decoding."""

import os
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
from pydantic import BaseModel, ConfigDict, Field

from activities.media.containers import require_content
from activities.media.facts import DamagedOutput, JoinStopped, MismatchedOutput

_PNG_SIGNATURE_BYTES = 8
_BLOCK_BYTES = 1 << 20

# No directory or header of a real picture holds a longer value: a damaged length would fill the memory.
_LONGEST_VALUE_BYTES = 1 << 26

_JPEG_END_MARK = b"\xff\xd9"
# Cameras and some writers pad with zeros; more than this is no padding.
_LONGEST_JPEG_PADDING_BYTES = 64
_JPEG_START_OF_SCAN = 0xDA
# All SOFn except DHT, JPG and DAC, which share their range.
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
# Where pixels lie: offsets and lengths, in strips or in tiles.
_TIFF_DATA = ((273, 279), (324, 325))
# Value types that hold offsets and sizes: BYTE, SHORT, LONG, LONG8.
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}

_MOST_TIFF_ENTRIES = 4096
_CUT_TIFF_DIRECTORY = "is cut short: its directory is incomplete"

_EXR_TILED, _EXR_DEEP, _EXR_MULTIPART = 0x200, 0x800, 0x1000
# Scan lines in one chunk, by compression: none, rle, zips, zip, piz, pxr24, b44, b44a, dwaa, dwab, htj2k256, htj2k32.
_EXR_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32)
_CUT_EXR_HEADER = "is cut short before its pixels"


def check_png(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Check the checksums of all chunks of a PNG up to the end mark; return width and height."""
    file.seek(_PNG_SIGNATURE_BYTES)
    position = _PNG_SIGNATURE_BYTES
    size: tuple[int, int] | None = None
    has_pixels = False
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("is cut short: its end mark is missing")
        length, kind = struct.unpack(">I4s", head)
        position += 12 + length
        if position > size_bytes:
            raise ValueError(f"is cut short: {position - size_bytes} bytes are missing")
        checksum, body = _read_body(file, length, zlib.crc32(kind))
        if checksum != struct.unpack(">I", file.read(4))[0]:
            raise ValueError(f"is damaged: a checksum before byte {position} is wrong")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise ValueError("is damaged: it does not begin with an image header")
            size = struct.unpack(">II", body[:8])
        has_pixels = has_pixels or (kind == b"IDAT" and length > 0)
        if kind == b"IEND":
            break
    if not has_pixels:
        raise ValueError("holds no pixels")
    return size


def _read_body(file: BinaryIO, length: int, checksum: int) -> tuple[int, bytes]:
    """Return the checksum over a chunk's body, and the first block of it."""
    first = b""
    while length:
        block = file.read(min(length, _BLOCK_BYTES))
        if not block:
            raise ValueError("is cut short while it is being read")
        first = first or block
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return checksum, first


def check_jpeg(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Check the segments of a JPEG and its end mark; return width and height."""
    file.seek(2)
    size = _size(file, size_bytes)
    file.seek(max(0, size_bytes - _LONGEST_JPEG_PADDING_BYTES))
    if not file.read().rstrip(b"\x00").endswith(_JPEG_END_MARK):
        raise ValueError("is cut short: its end mark is missing")
    return size


def _size(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    size: tuple[int, int] | None = None
    while True:
        head = file.read(4)
        # A marker may be preceded by any number of fill bytes.
        while len(head) == 4 and head[0] == 0xFF and head[1] == 0xFF:
            head = head[1:] + file.read(1)
        if len(head) < 4:
            raise ValueError("is cut short before its pixels")
        if head[0] != 0xFF:
            raise ValueError(f"is damaged: byte {file.tell() - 4} begins no segment")
        length = struct.unpack(">H", head[2:])[0]
        if file.tell() - 2 + length > size_bytes:
            raise ValueError("is cut short before its pixels")
        body = file.read(length - 2)
        if head[1] in _JPEG_FRAME_HEADERS:
            height, width = struct.unpack(">HH", body[1:5])
            size = (width, height)
        if head[1] == _JPEG_START_OF_SCAN:
            if size is None:
                raise ValueError("is damaged: it has pixels but no size")
            return size


def _read_exactly(file: BinaryIO, count: int, problem: str) -> bytes:
    """Read `count` bytes; raise `ValueError` with the problem where the file has fewer."""
    data = file.read(count) if count <= _LONGEST_VALUE_BYTES else b""
    if len(data) < count:
        raise ValueError(problem)
    return data


def check_tiff(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Check that all strips or tiles of the first picture of a TIFF lie in the file; return width and height."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    if len(head) < 16:
        raise ValueError("is cut short inside its header")
    directory = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
    if directory == 0:
        raise ValueError("was never finished: it has no directory")
    tags = _read_directory(file, directory, order, big)
    if _TIFF_WIDTH not in tags or _TIFF_HEIGHT not in tags:
        raise ValueError("is damaged: it does not say its size")
    for offsets_tag, lengths_tag in _TIFF_DATA:
        offsets, lengths = tags.get(offsets_tag, ()), tags.get(lengths_tag, ())
        if not offsets or len(offsets) != len(lengths):
            continue
        end = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
        if end > size_bytes:
            raise ValueError(f"is cut short: {end - size_bytes} bytes are missing")
        # A writer that was stopped leaves zeros for strips it never reached.
        if any(length > 0 and offset == 0 for offset, length in zip(offsets, lengths, strict=True)):
            raise ValueError("was never finished: some of its strips are missing")
        return tags[_TIFF_WIDTH][0], tags[_TIFF_HEIGHT][0]
    raise ValueError("is damaged: it does not say where its pixels are")


def _read_directory(file: BinaryIO, position: int, order: str, big: bool) -> dict[int, tuple[int, ...]]:
    count_form, entry_form, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    pointer_form = order + ("Q" if big else "I")
    file.seek(position)
    count = struct.unpack(order + count_form, _read_exactly(file, inline if big else 2, _CUT_TIFF_DIRECTORY))[0]
    entries = [
        struct.unpack(order + entry_form, _read_exactly(file, 20 if big else 12, _CUT_TIFF_DIRECTORY))
        for _ in range(min(count, _MOST_TIFF_ENTRIES))
    ]
    # The position of the next directory ends this one.
    _read_exactly(file, inline, _CUT_TIFF_DIRECTORY)
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, length, value in entries:
        if kind not in _TIFF_TYPES:
            continue
        form = f"{order}{length}{_TIFF_TYPES[kind]}"
        size = struct.calcsize(form)
        if size <= inline:
            tags[tag] = struct.unpack(form, value[:size])
        else:
            file.seek(struct.unpack(pointer_form, value)[0])
            tags[tag] = struct.unpack(form, _read_exactly(file, size, _CUT_TIFF_DIRECTORY))
    return tags


@dataclass(frozen=True)
class _Part:
    attributes: dict[str, bytes]

    def box(self, name: str) -> tuple[int, int]:
        """Return width and height of a window."""
        left, top, right, bottom = struct.unpack("<4i", self.attributes[name])
        if right < left or bottom < top:
            raise ValueError(f"is damaged: its {name} is empty")
        return right - left + 1, bottom - top + 1

    def chunks(self, tiled: bool) -> int:
        """Return how many chunks of pixels there are, which the offset table must list."""
        if "chunkCount" in self.attributes:
            return int(struct.unpack("<i", self.attributes["chunkCount"])[0])
        width, height = self.box("dataWindow")
        if not tiled:
            compression = self.attributes["compression"][0]
            if compression >= len(_EXR_LINES):
                raise ValueError(f"uses the unknown compression {compression}")
            return -(-height // _EXR_LINES[compression])
        tile_width, tile_height, mode = struct.unpack("<IIB", self.attributes["tiles"])
        return _tiles(width, height, tile_width, tile_height, mode & 0xF, rounds_up=bool(mode >> 4))


def check_exr(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Check that every chunk of an OpenEXR lies in the file; return width and height of the display window.

    The writer fills in the offset table last, so a render killed in the middle leaves zeros there.
    """
    flags = struct.unpack("<I", _read_exactly(file, 8, _CUT_EXR_HEADER)[4:])[0]
    parts = [_read_part(file)]
    if flags & _EXR_MULTIPART:
        while (part := _read_part(file)).attributes:
            parts.append(part)
    try:
        size = parts[0].box("displayWindow")
        last = 0
        for part, count in [(part, part.chunks(_is_tiled(part, flags))) for part in parts]:
            offsets = struct.unpack(f"<{count}Q", _read_exactly(file, 8 * count, _CUT_EXR_HEADER))
            if not count or min(offsets) == 0:
                raise ValueError("was never finished: its table of pixels has gaps")
            if max(offsets) >= last:
                last, last_part = max(offsets), part
            if last >= size_bytes:
                raise ValueError("is cut short: pixels its table lists are missing")
    except KeyError as error:
        raise ValueError(f"is damaged: its header has no {error.args[0]}") from error
    _check_chunk(file, size_bytes, last, last_part, flags)
    return size


def _check_chunk(file: BinaryIO, size_bytes: int, offset: int, part: _Part, flags: int) -> None:
    kind = part.attributes.get("type", b"")
    deep = kind.startswith(b"deep") or (not kind and bool(flags & _EXR_DEEP))
    coordinates = (4 if _is_tiled(part, flags) else 1) + (1 if flags & _EXR_MULTIPART else 0)
    file.seek(offset + 4 * coordinates)
    if deep:
        table, pixels, _ = struct.unpack("<3Q", _read_exactly(file, 24, _CUT_EXR_HEADER))
        end = file.tell() + table + pixels
    else:
        end = struct.unpack("<I", _read_exactly(file, 4, _CUT_EXR_HEADER))[0] + file.tell()
    if end > size_bytes:
        raise ValueError(f"is cut short: {end - size_bytes} bytes are missing")


def _is_tiled(part: _Part, flags: int) -> bool:
    kind = part.attributes.get("type")
    return b"tile" in kind if kind is not None else bool(flags & _EXR_TILED)


def _read_part(file: BinaryIO) -> _Part:
    attributes: dict[str, bytes] = {}
    while name := _read_text(file):
        _read_text(file)
        length = struct.unpack("<I", _read_exactly(file, 4, _CUT_EXR_HEADER))[0]
        attributes[name] = _read_exactly(file, length, _CUT_EXR_HEADER)
    return _Part(attributes)


def _read_text(file: BinaryIO) -> str:
    text = bytearray()
    while (byte := _read_exactly(file, 1, _CUT_EXR_HEADER)) != b"\x00":
        text += byte
        if len(text) > 255:
            raise ValueError("is damaged: a name in its header has no end")
    return text.decode("latin-1")


def _tiles(width: int, height: int, tile_width: int, tile_height: int, mode: int, *, rounds_up: bool) -> int:
    """Count tiles over all levels: one level, mipmap (both sides halved) or ripmap (each side by itself)."""
    columns, rows = _levels(width, rounds_up), _levels(height, rounds_up)
    if mode == 0:
        columns, rows = columns[:1], rows[:1]
    if mode == 2:
        return sum(-(-column // tile_width) for column in columns) * sum(-(-row // tile_height) for row in rows)
    count = max(len(columns), len(rows))
    columns += [1] * (count - len(columns))
    rows += [1] * (count - len(rows))
    return sum(-(-c // tile_width) * -(-r // tile_height) for c, r in zip(columns, rows, strict=True))


def _levels(side: int, rounds_up: bool) -> list[int]:
    sides = [side]
    while sides[-1] > 1:
        sides.append((sides[-1] + 1) // 2 if rounds_up else sides[-1] // 2)
    return sides


def check_by_decoding(path: Path) -> tuple[int, int]:
    """Decode a picture and return width and height; zeros where libav has no decoder.

    Raises:
        ValueError: Decoding failed.
    """
    options = {"protocol_whitelist": "file", "pattern_type": "none", "err_detect": "explode"}
    try:
        with av.open(f"file:{os.path.abspath(path)}", format="image2", options=options) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    break
                return frame.width, frame.height
    except (av.error.PatchWelcomeError, av.error.DecoderNotFoundError):
        return 0, 0
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot be decoded: {error.strerror}") from error
    raise ValueError("cannot be decoded: it is cut short or damaged")


# A check returns width and height, or raises ValueError saying what is wrong after the file's name.
_Check = Callable[[BinaryIO, int], tuple[int, int]]
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".exr": "OpenEXR",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".dpx": "DPX",
    ".tga": "TGA",
    ".hdr": "Radiance",
}
_CHECKS: dict[str, _Check] = {
    "PNG": check_png,
    "JPEG": check_jpeg,
    "OpenEXR": check_exr,
    "TIFF": check_tiff,
}
# TGA has no signature.
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
    "BMP": (b"BM",),
    "WebP": (b"RIFF",),
    "DPX": (b"SDPX", b"XPDS"),
    "Radiance": (b"#?",),
}


class ImageFacts(BaseModel):
    """What was found in a sound picture; a size of 0 x 0 means that nothing here can read its kind."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=0)
    height: int = Field(ge=0)
    format: str


class SequenceFacts(BaseModel):
    """What all pictures of a sequence have in common."""

    model_config = ConfigDict(frozen=True)

    frames: int = Field(ge=1)
    width: int = Field(ge=0)
    height: int = Field(ge=0)
    format: str


def check_image(path: Path) -> ImageFacts:
    """Check a picture by its structure from first byte to last, and return its facts.

    PNG checksums, JPEG markers, OpenEXR offset tables and TIFF strips are checked as they stand, without
    decoding; BMP, WebP, DPX, TGA and Radiance are decoded; of other kinds only content is asked.

    Raises:
        DamagedOutput: Missing, empty, cut short, damaged, or another kind of file than its name says.
    """
    size_bytes = require_content(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        return ImageFacts(width=0, height=0, format=path.suffix.lower().removeprefix("."))
    with path.open("rb") as file:
        _check_signature(path, kind, file.read(16))
        file.seek(0)
        try:
            check = _CHECKS.get(kind)
            width, height = check(file, size_bytes) if check is not None else check_by_decoding(path)
        except ValueError as error:
            raise DamagedOutput(path.name, str(error)) from error
        except (struct.error, IndexError, OverflowError) as error:
            raise DamagedOutput(path.name, f"is damaged: it does not follow the rules of {kind}") from error
    return ImageFacts(width=width, height=height, format=kind)


def check_sequence(paths: Sequence[Path], *, stop: threading.Event | None = None) -> SequenceFacts:
    """Check that every picture of a sequence is whole and all have one size, and return what they share.

    Raises:
        DamagedOutput: There are none, or one is not sound; the sentence names the first.
        MismatchedOutput: One has another size or format than the first.
        JoinStopped: `stop` was set.
    """
    first: ImageFacts | None = None
    for path in paths:
        if stop is not None and stop.is_set():
            raise JoinStopped(path.name)
        try:
            facts = check_image(path)
        except OSError as error:
            raise DamagedOutput(path.name, f"cannot be read: {error.strerror or error}") from error
        first = first or facts
        if facts.format != first.format:
            raise MismatchedOutput(path.name, f"is of another kind: {facts.format} instead of {first.format}")
        if (facts.width, facts.height) != (first.width, first.height):
            size, wanted = f"{facts.width}x{facts.height}", f"{first.width}x{first.height}"
            raise MismatchedOutput(path.name, f"has another size: {size} instead of {wanted}")
    if first is None:
        raise DamagedOutput("the sequence", "holds no pictures")
    return SequenceFacts(frames=len(paths), width=first.width, height=first.height, format=first.format)


def _check_signature(path: Path, kind: str, head: bytes) -> None:
    if kind not in _SIGNATURES or head.startswith(_SIGNATURES[kind]):
        return
    for other, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            raise DamagedOutput(path.name, f"is {_named(other)} file, not {_named(kind)} file")
    raise DamagedOutput(path.name, f"is not {_named(kind)} file")


def _named(kind: str) -> str:
    return f"an {kind}" if kind == "OpenEXR" else f"a {kind}"

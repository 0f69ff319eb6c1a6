"""Structure of OpenEXR files: every entry of the offset tables, and the head of every chunk of pixels.

Scan lines and tiles, flat and deep, one part or several (https://openexr.com/en/latest/OpenEXRFileLayout.html). Writers
fill in the table last, so a render killed in the middle leaves zeros there; a hole in the file leaves zeros in heads.
"""

import math
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from activities.media.images.chunk_formats import short_digest
from activities.media.images.image_file import Allowance, ImageFile, Structure, check_deflate

_TILED, _LONG_NAMES, _DEEP, _MULTIPART = 0x200, 0x400, 0x800, 0x1000
# Scan lines in one chunk, by compression: none, rle, zips, zip, piz, pxr24, b44, b44a, dwaa, dwab, htj2k256, htj2k32.
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32)
_NONE, _RLE = 0, 1
# zips, zip and pxr24 end each chunk with a checksum over its pixels.
_DEFLATE = frozenset({2, 3, 5})
_SAMPLE_BYTES = (4, 2, 4)
_SAMPLE_NAMES = ("uint", "half", "float")

_MOST_CHUNKS = 1 << 24
_MOST_PARTS = 1 << 12
_LONGEST_CHANNELS_TEXT = 200
# Values that may be long; of others, long ones are skipped.
_READ = frozenset({"channels", "type", "dataWindow", "displayWindow", "compression", "tiles", "chunkCount"})
_SHORT_BYTES = 256
_MOST_ATTRIBUTES = 1 << 16
_CUT_HEADER = "is cut short before its pixels"

# Where a chunk lies: the y of its first line, or column, row, column level and row level of its tile.
_Coordinates = tuple[int, ...]


@dataclass(frozen=True)
class _Channel:
    name: str
    kind: int
    x_step: int
    y_step: int


@dataclass(frozen=True)
class _Part:
    """One part of a file, by the attributes of its header."""

    attributes: dict[str, bytes]
    flags: int

    @property
    def kind(self) -> bytes:
        return self.attributes.get("type", b"")

    @property
    def is_deep(self) -> bool:
        return self.kind.startswith(b"deep") or (not self.kind and bool(self.flags & _DEEP))

    @property
    def is_tiled(self) -> bool:
        # The flag, and not the type, says it of a file with one part.
        if self.flags & _MULTIPART or self.flags & _DEEP:
            return b"tile" in self.kind
        return bool(self.flags & _TILED)

    @cached_property
    def compression(self) -> int:
        return self.attributes["compression"][0]

    @cached_property
    def window(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the pixels that are there."""
        return self.box("dataWindow")

    def box(self, name: str) -> tuple[int, int, int, int]:
        left, top, right, bottom = struct.unpack("<4i", self.attributes[name])
        if right < left or bottom < top:
            raise ValueError(f"is damaged: its {name} is empty")
        return left, top, right, bottom

    @cached_property
    def channels(self) -> tuple[_Channel, ...]:
        found, data = [], self.attributes["channels"]
        while data[:1] not in (b"", b"\0"):
            name, _, data = data.partition(b"\0")
            kind, _, x_step, y_step = struct.unpack("<iB3xii", data[:16])
            if kind not in range(3) or x_step < 1 or y_step < 1:
                raise ValueError("is damaged: its list of channels is wrong")
            found.append(_Channel(name.decode("utf-8", "replace"), kind, x_step, y_step))
            data = data[16:]
        return tuple(found)

    @cached_property
    def lines(self) -> int:
        """Scan lines in one chunk."""
        if self.compression >= len(_LINES):
            raise ValueError(f"uses the unknown compression {self.compression}")
        return _LINES[self.compression]

    @cached_property
    def tiles(self) -> tuple[int, int, int]:
        """Width and height of tiles, and their mode."""
        width, height, mode = struct.unpack("<IIB", self.attributes["tiles"])
        if not width or not height or mode & 0xF > 2:
            raise ValueError("is damaged: its tiles have no size")
        return width, height, mode

    @cached_property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Numbers of the levels: one, those of a mipmap (both sides halved) or of a ripmap (each side by itself)."""
        mode = self.tiles[2] & 0xF
        columns, rows = map(len, self._sides)
        if mode == 0:
            return ((0, 0),)
        if mode == 1:
            return tuple((level, level) for level in range(max(columns, rows)))
        return tuple((x, y) for y in range(rows) for x in range(columns))

    @cached_property
    def _sides(self) -> tuple[list[int], list[int]]:
        """Widths and heights of all levels."""
        left, top, right, bottom = self.window
        rounds_up = bool(self.tiles[2] >> 4)
        return _halve(right - left + 1, rounds_up), _halve(bottom - top + 1, rounds_up)

    def level_size(self, level: tuple[int, int]) -> tuple[int, int]:
        """Width and height of a level; a side that is one pixel already stays so."""
        (columns, rows), (x, y) = self._sides, level
        return columns[min(x, len(columns) - 1)], rows[min(y, len(rows) - 1)]

    def count_chunks(self) -> int:
        """Count the chunks that the window asks for."""
        if not self.is_tiled:
            return math.ceil((self.window[3] - self.window[1] + 1) / self.lines)
        width, height, _ = self.tiles
        return sum(math.ceil(w / width) * math.ceil(h / height) for w, h in map(self.level_size, self.levels))

    def coordinates(self) -> Iterator[_Coordinates]:
        """Yield where each chunk of the table lies, in its order."""
        if not self.is_tiled:
            yield from ((y,) for y in range(self.window[1], self.window[3] + 1, self.lines))
            return
        width, height, _ = self.tiles
        for level in self.levels:
            columns, rows = self.level_size(level)
            for row in range(math.ceil(rows / height)):
                yield from ((column, row, *level) for column in range(math.ceil(columns / width)))

    def raw_bytes(self, where: _Coordinates) -> int:
        """Return how many bytes the pixels of a flat chunk take uncompressed."""
        left, _, right, bottom = self.window
        if self.is_tiled:
            width, height, _ = self.tiles
            column, row, *level = where
            columns, rows = self.level_size((level[0], level[1]))
            pixels = min(width, columns - column * width) * min(height, rows - row * height)
            return pixels * sum(_SAMPLE_BYTES[channel.kind] for channel in self.channels)
        last = min(where[0] + self.lines - 1, bottom)
        return sum(
            _SAMPLE_BYTES[channel.kind]
            * _count_steps(channel.x_step, left, right)
            * _count_steps(channel.y_step, where[0], last)
            for channel in self.channels
        )


def _halve(side: int, rounds_up: bool) -> list[int]:
    sides = [side]
    while sides[-1] > 1:
        sides.append((sides[-1] + rounds_up) // 2)
    return sides


def _count_steps(step: int, first: int, last: int) -> int:
    """Count the multiples of `step` from `first` to `last`."""
    return last // step - (first - 1) // step


def check_exr(file: ImageFile) -> Structure:
    """Check the tables and the heads of all chunks of an OpenEXR; its size is that of the display window."""
    try:
        (flags,) = file.unpack("<I", at=4)
        parts = _read_parts(file, flags)
    except ValueError as error:
        raise ValueError(_CUT_HEADER if "cut short" in str(error) else str(error)) from error
    try:
        left, top, right, bottom = parts[0].box("displayWindow")
        tables = [_read_table(file, part) for part in parts]
        if any(0 in table for table in tables):
            raise ValueError("was never finished: its table of pixels has gaps")
        is_doubtful = False
        allowance = Allowance(file.size_bytes)
        for number, (part, table) in enumerate(zip(parts, tables, strict=True)):
            for offset, where in zip(table, part.coordinates(), strict=True):
                is_doubtful = _check_chunk(file, offset, where, part, number, allowance) or is_doubtful
        return Structure(
            right - left + 1,
            bottom - top + 1,
            _name_channels(parts),
            " and ".join(sorted({_SAMPLE_NAMES[channel.kind] for part in parts for channel in part.channels})),
            _describe_colour(parts[0].attributes),
            is_doubtful,
        )
    except KeyError as error:
        raise ValueError(f"is damaged: its header has no {error.args[0]}") from error


def _read_parts(file: ImageFile, flags: int) -> list[_Part]:
    parts = [_read_part(file, flags)]
    while flags & _MULTIPART and (part := _read_part(file, flags)).attributes:
        parts.append(part)
        if len(parts) > _MOST_PARTS:
            raise ValueError(f"is damaged: it has more than {_MOST_PARTS} parts")
    return parts


def _read_part(file: ImageFile, flags: int) -> _Part:
    attributes: dict[str, bytes] = {}
    while name := _read_text(file):
        _read_text(file)
        (length,) = file.unpack("<I")
        if name in _READ or length <= _SHORT_BYTES:
            attributes[name] = file.read(length)
        else:
            file.require(file.position + length)
            file.seek(file.position + length)
        if len(attributes) > _MOST_ATTRIBUTES:
            raise ValueError(f"is damaged: it has more than {_MOST_ATTRIBUTES} attributes")
    return _Part(attributes, flags)


def _read_text(file: ImageFile) -> str:
    text, end, _ = file.peek(256).partition(b"\0")
    if not end:
        raise ValueError(_CUT_HEADER if len(text) < 256 else "is damaged: a name in its header has no end")
    file.read(len(text) + 1)
    return text.decode("latin-1")


def _read_table(file: ImageFile, part: _Part) -> "array[int]":
    count = part.count_chunks()
    if "chunkCount" in part.attributes and struct.unpack("<i", part.attributes["chunkCount"])[0] != count:
        raise ValueError("is damaged: its number of chunks does not fit its size")
    if count > _MOST_CHUNKS:
        raise ValueError(f"is damaged: its size asks for {count} chunks")
    if 8 * count > file.rest_bytes:
        raise ValueError(_CUT_HEADER)
    table = array("Q")
    table.frombytes(b"".join(file.read_blocks(8 * count)))
    return table


def _check_chunk(
    file: ImageFile, offset: int, where: _Coordinates, part: _Part, number: int, allowance: Allowance
) -> bool:
    """Check the head of a chunk; tell whether its pixels hold zeros that only decoding explains."""
    if offset >= file.size_bytes:
        raise ValueError("is cut short: pixels its table lists are missing")
    own = file.unpack("<i", at=offset)[0] if part.flags & _MULTIPART else number
    if not part.flags & _MULTIPART:
        file.seek(offset)
    if own != number or file.unpack(f"<{len(where)}i") != where:
        raise ValueError(f"is damaged: byte {offset} begins no chunk of its pixels, as the table says")
    if part.is_deep:
        return _check_deep_chunk(file, part, allowance)
    (length,) = file.unpack("<I")
    start, raw = file.position, part.raw_bytes(where)
    if length == 0 or length > raw or (part.compression == _NONE and length != raw):
        raise ValueError(f"is damaged: the chunk at byte {offset} has {length} bytes of pixels instead of {raw}")
    file.require(start + length)
    allowance.spend(length)
    # Pixels that do not get smaller are stored as they are.
    return length < raw and _has_doubtful_zeros(file, part, start, length, raw)


def _check_deep_chunk(file: ImageFile, part: _Part, allowance: Allowance) -> bool:
    table, pixels, raw = file.unpack("<3Q")
    start = file.position + table
    file.require(start + pixels)
    allowance.spend(table + pixels)
    if table == 0:
        raise ValueError(f"is damaged: the chunk before byte {start} does not say how deep its pixels are")
    return pixels < raw and _has_doubtful_zeros(file, part, start, pixels, raw)


def _has_doubtful_zeros(file: ImageFile, part: _Part, start: int, length: int, raw: int) -> bool:
    if part.compression == _NONE or not file.has_zeros(start, length):
        return False
    if part.compression in _DEFLATE:
        check_deflate(file.read_blocks(length, at=start), raw)
        return False
    if part.compression == _RLE:
        _check_run_lengths(b"".join(file.read_blocks(length, at=start)), raw)
        return False
    return True


def _check_run_lengths(data: bytes, raw: int) -> None:
    """Require that runs come to the size of the pixels: -n and n bytes, or n and a byte that stands n + 1 times."""
    position = size = 0
    while position < len(data):
        count = data[position]
        if count > 127:
            size += 256 - count
            position += 257 - count
        else:
            size += count + 1
            position += 2
    if position != len(data) or size != raw:
        raise ValueError("is damaged: compressed pixels come to another size than the picture's")


def _name_channels(parts: list[_Part]) -> str:
    """Return the names of all channels, in the usual order for colours; long lists end with a digest."""
    texts = []
    for part in parts:
        names = sorted(channel.name for channel in part.channels)
        if set(names) <= set("RGBA"):
            texts.append("".join(sorted(names, key="RGBA".index)))
        else:
            texts.append(", ".join(names))
    text = "; ".join(texts)
    if len(text) <= _LONGEST_CHANNELS_TEXT:
        return text
    count = sum(len(part.channels) for part in parts)
    return f"{count} channels ({text[:80]}..., {short_digest(text.encode())})"


def _describe_colour(attributes: dict[str, bytes]) -> str:
    """Return what the header says of the colour space: its name, or the primaries."""
    for name in ("colorInteropID", "oiio:ColorSpace"):
        if name in attributes:
            return attributes[name].decode("utf-8", "replace").strip("\0")[:80]
    if len(chromaticities := attributes.get("chromaticities", b"")) == 32:
        return "primaries " + " ".join(f"{value:.4g}" for value in struct.unpack("<8f", chromaticities))
    return ""

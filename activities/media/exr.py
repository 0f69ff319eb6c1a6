"""The structure of OpenEXR files, by https://openexr.com/en/latest/OpenEXRFileLayout.html."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

_TILED, _DEEP, _MULTIPART = 0x200, 0x800, 0x1000
# Scan lines in one chunk, by compression: none, rle, zips, zip, piz, pxr24, b44, b44a, dwaa, dwab, htj2k256, htj2k32.
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256, 256, 32)
_LONGEST_READ_BYTES = 1 << 26


@dataclass(frozen=True)
class _Part:
    attributes: dict[str, bytes]

    def box(self, name: str) -> tuple[int, int]:
        """Returns width and height of a window."""
        left, top, right, bottom = struct.unpack("<4i", self.attributes[name])
        if right < left or bottom < top:
            raise ValueError(f"is damaged: its {name} is empty")
        return right - left + 1, bottom - top + 1

    def chunks(self, tiled: bool) -> int:
        """Returns how many chunks of pixels there are, which the offset table must list."""
        if "chunkCount" in self.attributes:
            return int(struct.unpack("<i", self.attributes["chunkCount"])[0])
        width, height = self.box("dataWindow")
        if not tiled:
            compression = self.attributes["compression"][0]
            if compression >= len(_LINES):
                raise ValueError(f"uses the unknown compression {compression}")
            return -(-height // _LINES[compression])
        tile_width, tile_height, mode = struct.unpack("<IIB", self.attributes["tiles"])
        return _tiles(width, height, tile_width, tile_height, mode & 0xF, rounds_up=bool(mode >> 4))


def check_exr(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Returns width and height of the display window once every chunk was found inside the file.

    The writer fills in the offset table last, so a render killed in the middle leaves zeros there.
    """
    flags = struct.unpack("<I", _read(file, 8)[4:])[0]
    parts = [_read_part(file)]
    if flags & _MULTIPART:
        while (part := _read_part(file)).attributes:
            parts.append(part)
    try:
        size = parts[0].box("displayWindow")
        last = 0
        for part, count in [(part, part.chunks(_is_tiled(part, flags))) for part in parts]:
            offsets = struct.unpack(f"<{count}Q", _read(file, 8 * count))
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
    deep = kind.startswith(b"deep") or (not kind and bool(flags & _DEEP))
    coordinates = (4 if _is_tiled(part, flags) else 1) + (1 if flags & _MULTIPART else 0)
    file.seek(offset + 4 * coordinates)
    if deep:
        table, pixels, _ = struct.unpack("<3Q", _read(file, 24))
        end = file.tell() + table + pixels
    else:
        end = struct.unpack("<I", _read(file, 4))[0] + file.tell()
    if end > size_bytes:
        raise ValueError(f"is cut short: {end - size_bytes} bytes are missing")


def _is_tiled(part: _Part, flags: int) -> bool:
    kind = part.attributes.get("type")
    return b"tile" in kind if kind is not None else bool(flags & _TILED)


def _read_part(file: BinaryIO) -> _Part:
    attributes: dict[str, bytes] = {}
    while name := _read_text(file):
        _read_text(file)
        length = struct.unpack("<I", _read(file, 4))[0]
        attributes[name] = _read(file, length)
    return _Part(attributes)


def _read_text(file: BinaryIO) -> str:
    text = bytearray()
    while (byte := _read(file, 1)) != b"\x00":
        text += byte
        if len(text) > 255:
            raise ValueError("is damaged: a name in its header has no end")
    return text.decode("latin-1")


def _read(file: BinaryIO, count: int) -> bytes:
    # A damaged length must not be taken for a reason to fill the memory.
    data = file.read(count) if count <= _LONGEST_READ_BYTES else b""
    if len(data) < count:
        raise ValueError("is cut short before its pixels")
    return data


def _tiles(width: int, height: int, tile_width: int, tile_height: int, mode: int, *, rounds_up: bool) -> int:
    """Counts tiles over all levels: one level, mipmap (both sides halved) or ripmap (each side by itself)."""
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

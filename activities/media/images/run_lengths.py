"""Structure of formats of run lengths, whose runs are followed to the last pixel: TGA, SGI and Radiance."""

import math
import re
import struct
from array import array

from activities.media.images.image_file import Allowance, ImageFile, Structure, name_channels

_TGA_KINDS = {1: "palette", 2: "RGB", 3: "grey", 9: "palette", 10: "RGB", 11: "grey"}


def check_tga(file: ImageFile) -> Structure:
    """Check that all pixels of a TGA are there, and follow their runs (Truevision TGA 2.0)."""
    id_bytes, has_palette, kind, _, palette_length, palette_bits, width, height, bits, _ = file.unpack(
        "<BBBHHBxxxxHHBB", at=0
    )
    if kind not in _TGA_KINDS or has_palette > 1 or bits not in (1, 8, 15, 16, 24, 32) or not width or not height:
        raise ValueError("is damaged: its header names no picture")
    start = 18 + id_bytes + has_palette * palette_length * math.ceil(palette_bits / 8)
    pixel_bytes = math.ceil(bits / 8)
    if kind < 9:
        file.require(start + (math.ceil(width / 8) if bits == 1 else width * pixel_bytes) * height)
    else:
        _follow_tga_runs(file, start, width * height, pixel_bytes)
    channels = _TGA_KINDS[kind]
    if channels == "grey" and bits > 8:
        channels = "grey and alpha"
    if channels == "RGB" and bits == 32:
        channels = "RGBA"
    return Structure(width, height, channels, "5-bit" if bits in (15, 16) and kind in (2, 10) else "8-bit")


def _follow_tga_runs(file: ImageFile, start: int, wanted: int, pixel_bytes: int) -> None:
    """Follow runs up to so many pixels; a run is a count and one pixel, or a count and as many."""
    file.require(start)
    done, position, end = 0, start, start
    for data in file.read_blocks(file.size_bytes - start, at=start):
        begin, end = end, end + len(data)
        # The last pixels of a block's last run may stand in the next block.
        while position < end and done < wanted:
            count = data[position - begin]
            done += (count & 0x7F) + 1
            position += 1 + pixel_bytes * (1 if count > 127 else count + 1)
        if done >= wanted:
            break
    if done < wanted:
        raise ValueError(f"is cut short: {wanted - done} of its pixels are missing")
    if done > wanted:
        raise ValueError("is damaged: its runs come to more pixels than it has")
    file.require(position)


def check_sgi(file: ImageFile) -> Structure:
    """Check that all rows of an SGI picture are there, and that the runs of each come to its width."""
    storage, size, _, width, height, channels = file.unpack(">BBHHHH", at=2)
    if storage > 1 or size not in (1, 2) or not width or not height or not channels:
        raise ValueError("is damaged: its header names no picture")
    structure = Structure(width, height, name_channels(channels), f"{8 * size}-bit")
    if storage == 0:
        file.require(512 + width * height * channels * size)
        return structure
    rows = height * channels
    file.require(512 + 8 * rows)
    offsets, lengths = (_read_numbers(file, 512 + 4 * rows * table, rows) for table in (0, 1))
    allowance = Allowance(file.size_bytes)
    # Writers let equal rows share their place.
    for offset, length in dict.fromkeys(zip(offsets, lengths, strict=True)):
        if offset < 512 or not length:
            raise ValueError("was never finished: some of its rows are missing")
        allowance.spend(length)
        _check_sgi_row(file.read(length, at=offset), width, size)
    return structure


def _read_numbers(file: ImageFile, start: int, count: int) -> "array[int]":
    numbers = array("I")
    numbers.frombytes(b"".join(file.read_blocks(4 * count, at=start)))
    if struct.pack("=H", 1) != struct.pack(">H", 1):
        numbers.byteswap()
    return numbers


def _check_sgi_row(row: bytes, width: int, size: int) -> None:
    """Follow the runs of one row; a count stands in the low bits of a sample, 0x80 says that so many follow."""
    done, position = 0, size - 1
    while position < len(row) and (count := row[position] & 0x7F):
        done += count
        position += size * (1 + (count if row[position] & 0x80 else 1))
    if done != width or position - size + 1 > len(row):
        raise ValueError(f"is damaged: a row has {done} pixels instead of {width}")


_LONGEST_RADIANCE_HEADER_BYTES = 1 << 16
_RESOLUTION = re.compile(rb"([-+][XY]) (\d{1,7}) ([-+][XY]) (\d{1,7})\n")


def check_radiance(file: ImageFile) -> Structure:
    """Check that all scan lines of a Radiance picture are there, and follow their runs."""
    file.seek(0)
    head = file.peek(_LONGEST_RADIANCE_HEADER_BYTES)
    text, end, rest = head.partition(b"\n\n")
    resolution = _RESOLUTION.match(rest)
    if not end or resolution is None:
        raise ValueError("is damaged or cut short: its header is incomplete")
    lines, length = int(resolution[2]), int(resolution[4])
    if not lines or not length:
        raise ValueError("is damaged: its header names no picture")
    _Scanlines(file, len(text) + 2 + resolution.end()).follow(lines, length)
    width, height = (length, lines) if resolution[1][1:] == b"Y" else (lines, length)
    is_xyz = b"FORMAT=32-bit_rle_xyze" in text
    primaries = next((line for line in text.splitlines() if line.startswith(b"PRIMARIES=")), b"")
    return Structure(width, height, "XYZ" if is_xyz else "RGB", "RGBE", primaries.decode("latin-1")[:80].lower())


class _Scanlines:
    """Scan lines of a Radiance picture, read in large pieces."""

    def __init__(self, file: ImageFile, start: int) -> None:
        self._blocks = file.read_blocks(file.size_bytes - start, at=start)
        self._data = b""
        self._position = 0

    def follow(self, lines: int, length: int) -> None:
        """Follow so many scan lines of so many pixels; each of the four components has runs of its own."""
        mark = bytes((2, 2, length >> 8, length & 0xFF))
        for _ in range(lines):
            # Too short or too long ones are never written in runs, and others need not be.
            if 8 <= length < 32768 and self._peek(4) == mark:
                self._position += 4
                for _ in range(4):
                    self._follow_component(length)
            else:
                self._follow_pixels(length)

    def _follow_component(self, length: int) -> None:
        done = 0
        while done < length:
            if self._position + 130 > len(self._data):
                self._fill()
            if self._position >= len(self._data):
                raise ValueError("is cut short: some of its scan lines are missing")
            count = self._data[self._position]
            if count > 128:
                done += count - 128
                self._position += 2
            elif count:
                done += count
                self._position += 1 + count
            else:
                raise ValueError("is damaged: a run in it has no pixels")
        if done > length:
            raise ValueError("is damaged: a scan line has too many pixels")
        if self._position > len(self._data):
            raise ValueError("is cut short: some of its scan lines are missing")

    def _follow_pixels(self, length: int) -> None:
        """Follow pixels of four bytes; 1, 1, 1 and a count repeat the one before (the oldest form)."""
        done, shift = 0, 0
        while done < length:
            pixel = self._peek(4)
            if len(pixel) < 4:
                raise ValueError("is cut short: some of its scan lines are missing")
            self._position += 4
            if pixel[:3] == b"\1\1\1":
                done += pixel[3] << shift
                shift = min(shift + 8, 24)
            else:
                done, shift = done + 1, 0

    def _peek(self, count: int) -> bytes:
        if self._position + count > len(self._data):
            self._fill()
        return self._data[self._position : self._position + count]

    def _fill(self) -> None:
        self._data = self._data[self._position :] + next(self._blocks, b"")
        self._position = 0

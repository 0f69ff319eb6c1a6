"""Bounded reading of an image file that somebody else wrote, and what the structure of one tells."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

_BLOCK_BYTES = 1 << 20

# A hole in a file reads as zeros. Compressed pixels hold so many in a row only where a picture is flat, and then the
# file is small: that it looks damaged costs one decoding.
_SUSPICIOUS_ZEROS = bytes(64)

# No directory, table or header of a real picture is longer: a damaged length would fill the memory.
_LONGEST_VALUE_BYTES = 1 << 26


@dataclass(frozen=True)
class Structure:
    """What the structure of a sound image file says of its pixels.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        channels: Names of the channels, as "RGB".
        depth: What one sample of a pixel is, as "8-bit", "half" or "float".
        colour: Colour space, as far as the file says it.
        is_doubtful: A long row of zeros stands where compressed pixels should be, which decoding alone can explain.
        is_complete: The structure was followed to the end of the pixels, so that no cut is left unnoticed.
    """

    width: int
    height: int
    channels: str = ""
    depth: str = ""
    colour: str = ""
    is_doubtful: bool = False
    is_complete: bool = True


class ImageFile:
    """An open image file; reading past its end raises `ValueError` with what is wrong after the file's name.

    Args:
        file: The file.
        size_bytes: How many bytes it has.
    """

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self.size_bytes = size_bytes
        # Kept here, because asking the file costs a system call: an HD PNG has 300 chunks to be read one by one.
        self.position = 0
        file.seek(0)

    @property
    def rest_bytes(self) -> int:
        """How many bytes follow."""
        return max(0, self.size_bytes - self.position)

    def seek(self, position: int) -> None:
        """Let the next read begin elsewhere."""
        if position != self.position:
            self._file.seek(position)
            self.position = position

    def read(self, count: int, *, at: int | None = None) -> bytes:
        """Read exactly so many bytes, from a position or where the last read ended."""
        if at is not None:
            self.seek(at)
        if self.position + count > self.size_bytes:
            self.require(self.position + count)
        if count > _LONGEST_VALUE_BYTES:
            raise ValueError(f"is damaged: a value before byte {self.position} has {count} bytes")
        data = self._file.read(count)
        self.position += len(data)
        if len(data) < count:
            raise ValueError("is cut short while it is being read")
        return data

    def peek(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end of the file, without reading them."""
        data = self._file.read(count)
        self._file.seek(self.position)
        return data

    def unpack(self, form: str, *, at: int | None = None) -> tuple[Any, ...]:
        """Read the values of a `struct` format."""
        return struct.unpack(form, self.read(struct.calcsize(form), at=at))

    def require(self, end: int) -> None:
        """Require that the file reaches up to a position."""
        if end > self.size_bytes:
            raise ValueError(f"is cut short: {end - self.size_bytes} bytes are missing")

    def read_blocks(self, count: int, *, at: int | None = None) -> Iterator[bytes]:
        """Yield so many bytes in blocks of bounded size; nothing else is read meanwhile."""
        if at is not None:
            self.seek(at)
        self.require(self.position + count)
        end = self.position + count
        while self.position < end:
            yield self.read(min(end - self.position, _BLOCK_BYTES))

    def has_zeros(self, start: int, count: int) -> bool:
        """Tell whether a long row of zeros stands in a part of the file, or nothing else in a short one."""
        if count < len(_SUSPICIOUS_ZEROS):
            return count > 0 and not any(self.read(count, at=start))
        before = b""
        for block in self.read_blocks(count, at=start):
            if _SUSPICIOUS_ZEROS in block or (before and _SUSPICIOUS_ZEROS in before + block[:64]):
                return True
            before = block[-63:]
        return False


class Allowance:
    """How much of a file its tables may ask to be read.

    Pixels do not overlap in a sound file: without a limit, a table of a million entries that all mean the same gigabyte
    would be read for days.

    Args:
        size_bytes: Size of the file.
    """

    def __init__(self, size_bytes: int) -> None:
        self._left = 2 * size_bytes

    def spend(self, count: int) -> None:
        """Spend so many bytes; raise `ValueError` where none are left."""
        self._left -= count
        if self._left < 0:
            raise ValueError("is damaged: the places of its pixels overlap")


def check_deflate(blocks: Iterator[bytes], most_bytes: int) -> None:
    """Inflate data to its end, and by that compare its checksum; what comes out is thrown away block by block."""
    inflate = zlib.decompressobj()
    size = 0
    try:
        for block in blocks:
            while block and not inflate.eof:
                # At most so much memory, however much a few bytes inflate to.
                size += len(inflate.decompress(block, _BLOCK_BYTES))
                if size > most_bytes:
                    raise ValueError("is damaged: compressed pixels come to more than the picture")
                block = inflate.unconsumed_tail
    except zlib.error as error:
        raise ValueError("is damaged: compressed pixels have a wrong checksum") from error
    if not inflate.eof:
        raise ValueError("is damaged: compressed pixels end too early")


def name_channels(count: int, *, colours: str = "RGB") -> str:
    """Return the usual names of so many channels."""
    if count <= 2:
        return ("grey", "grey and alpha")[count - 1] if count else ""
    extra = count - len(colours)
    if extra <= 0:
        return colours[:count]
    return f"{colours}A" if extra == 1 else f"{colours} and {extra} more"

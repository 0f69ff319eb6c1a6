"""The structure of PNG files, by ISO/IEC 15948."""

import struct
import zlib
from typing import BinaryIO

_SIGNATURE_BYTES = 8
_BLOCK_BYTES = 1 << 20


def check_png(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Returns width and height once all chunks up to the end mark have their right checksums."""
    file.seek(_SIGNATURE_BYTES)
    position = _SIGNATURE_BYTES
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
    """Returns the checksum over a chunk's body, and the first block of it."""
    first = b""
    while length:
        block = file.read(min(length, _BLOCK_BYTES))
        if not block:
            raise ValueError("is cut short while it is being read")
        first = first or block
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return checksum, first

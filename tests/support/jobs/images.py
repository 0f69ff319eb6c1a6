"""Image files that tests make themselves: whole ones, and the four ways in which frames go bad."""

import struct
import zlib
from enum import StrEnum
from pathlib import Path


class Damage(StrEnum):
    EMPTY = "empty"
    TRUNCATED = "truncated"
    WRONG_SIZE = "wrong size"
    SWAPPED = "swapped"


def png(number: int, *, size: int = 8) -> bytes:
    """A whole picture that differs from those of all other numbers, and has as many bytes as they."""
    line = b"\0" + b"".join(struct.pack(">i", number)[1:] for _ in range(size))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(line * size, 0)),
            (b"IEND", b""),
        )
    )


def damage(path: Path, how: Damage) -> bytes:
    """Make a frame bad, as a file of its own: links to it elsewhere stay whole. Return what it holds now."""
    whole = path.read_bytes()
    bad = {
        Damage.EMPTY: b"",
        Damage.TRUNCATED: whole[:-5],
        Damage.WRONG_SIZE: png(77, size=9),
        Damage.SWAPPED: png(123_456),
    }[how]
    path.unlink()
    path.write_bytes(bad)
    return bad

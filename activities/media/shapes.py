"""Write into finished AVI and MXF films the shape of their pixels, which libav does not let a caller say.

AVI by the OpenDML AVI file format extensions 1.02, MXF by SMPTE ST 377-1.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

# The heads of both are far smaller: a few KiB for each stream.
_LARGEST_HEAD_BYTES = 1 << 22
# The local tag of the shape of the picture, which is two numbers of four bytes.
_MXF_ASPECT_RATIO = b"\x32\x0e\x00\x08"


def set_pixel_shape(path: Path, width: int, height: int, aspect: Fraction) -> None:
    """Set the shape of the pixels of a film; no byte of the pictures moves.

    Args:
        path: An AVI or MXF film that libav has written.
        width: Width of its pictures.
        height: Height of its pictures.
        aspect: Width to height of one pixel.

    Raises:
        ValueError: The film has no place for it.
    """
    shape = aspect * width / height
    with path.open("r+b") as file:
        head = file.read(_LARGEST_HEAD_BYTES)
        file.seek(0)
        file.write(_set_avi(head, width, height, shape) if head.startswith(b"RIFF") else _set_mxf(head, shape))


def _set_mxf(head: bytes, shape: Fraction) -> bytes:
    before, tag, after = head.partition(_MXF_ASPECT_RATIO)
    if not tag:
        raise ValueError("no picture is described")
    return before + tag + struct.pack(">II", shape.numerator, shape.denominator) + after[8:]


def _set_avi(head: bytes, width: int, height: int, shape: Fraction) -> bytes:
    """Put video properties behind the head of the first video stream, into room that is left before the pictures."""
    properties = _build_properties(width, height, shape)
    made = head[:12]
    for kind, content, whole in _list_chunks(head, 12):
        if kind == b"LIST" and content.startswith(b"hdrl"):
            made += _build_chunk(b"LIST", b"hdrl" + _add_to_stream(content, properties))
        elif (
            kind == b"JUNK"
            and len(made) + len(whole) != len(head)
            and len(made) > 12
            and len(content) > len(properties)
        ):
            return (
                made
                + _build_chunk(b"JUNK", content[len(properties) :])
                + head[len(made) + len(whole) - len(properties) :]
            )
        else:
            made += whole
    raise ValueError("no room is left before the pictures")


def _add_to_stream(content: bytes, properties: bytes) -> bytes:
    made, is_added = b"", False
    for kind, inner, whole in _list_chunks(content, 4):
        if kind == b"LIST" and inner.startswith(b"strl") and b"vids" in inner[:16] and not is_added:
            whole, is_added = _build_chunk(b"LIST", inner + properties), True
        made += whole
    return made


def _build_properties(width: int, height: int, shape: Fraction) -> bytes:
    """Build the chunk vprp, of progressive pictures."""
    shape = shape.limit_denominator(0xFFFF // max(1, -(-shape.numerator // shape.denominator)))
    frame = struct.pack("<5I2H2I", 0, 0, 0, width, height, shape.denominator, shape.numerator, width, height)
    field = struct.pack("<I8I", 1, height, width, height, width, 0, 0, 0, 0)
    return _build_chunk(b"vprp", frame + field)


def _list_chunks(data: bytes, position: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, content and all bytes of each RIFF chunk from a position on."""
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        stop = position + 8 + size + size % 2
        yield data[position : position + 4], data[position + 8 : position + 8 + size], data[position:stop]
        position = stop


def _build_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)

"""Finding cut files by their containers' own bookkeeping, without decoding anything."""

import struct
from pathlib import Path
from typing import BinaryIO

from activities.media.errors import DamagedOutput
from activities.media.source import READERS, require_content

# Matroska ids, https://www.matroska.org/technical/elements.html
_EBML_HEADER = 0x1A45DFA3
_SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
# Written by programs that cannot seek back to fill in the size.
_UNKNOWN_SIZE = -1


def check_structure(path: Path) -> bool:
    """Proves that a container ends where its own sizes say, so that a cut of even one byte is refused.

    Knows mp4/mov, Matroska/WebM and RIFF (avi, wav). Transport streams have no such sizes (see
    `transport`), and neither have the other kinds.

    Returns:
        Whether the proof was possible; false means that only decoding can tell.

    Raises:
        DamagedOutput: The file is missing, empty, cut short, unfinished, or no such container at all.
    """
    size_bytes = require_content(path)
    check = _CHECKS.get(READERS.get(path.suffix.lower(), ""))
    if check is None:
        return False
    with path.open("rb") as file:
        problem = check(file, size_bytes)
    if problem is not None:
        raise DamagedOutput(path.name, problem)
    return True


def _cut_short(missing_bytes: int) -> str:
    return f"is cut short: {missing_bytes} bytes are missing"


def _check_boxes(file: BinaryIO, size_bytes: int) -> str | None:
    """Walks the top-level boxes of ISO 14496-12 section 4.2; QuickTime files have the same form."""
    kinds: set[bytes] = set()
    position = 0
    while position < size_bytes:
        file.seek(position)
        head = file.read(16)
        if len(head) < 8:
            return "is cut short inside the head of its last box"
        length, kind = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        elif length == 0:
            length = size_bytes - position
        if length < 8 or not kind.isascii() or not kind.decode("ascii").isprintable():
            return f"is damaged: byte {position} begins no mp4 box"
        if position + length > size_bytes:
            return _cut_short(position + length - size_bytes)
        kinds.add(kind)
        position += length
    if b"moov" not in kinds:
        return "was never finished: it has no index"
    return None if b"mdat" in kinds else "is cut short: it has an index but no pictures"


def _check_matroska(file: BinaryIO, size_bytes: int) -> str | None:
    """Walks the elements below the segment as one flat row, which also covers files written to a pipe."""
    position = 0
    while position < size_bytes:
        file.seek(position)
        element = _read_element(file.read(12))
        if element is None:
            return "is cut short or damaged: its last element is unreadable"
        kind, length, head_bytes = element
        if position == 0 and kind != _EBML_HEADER:
            return "is not a Matroska file"
        position += head_bytes
        enters = kind == _SEGMENT or (kind == _CLUSTER and length == _UNKNOWN_SIZE)
        if length == _UNKNOWN_SIZE and not enters:
            return "is damaged: an element in it has no size"
        if length != _UNKNOWN_SIZE:
            if position + length > size_bytes:
                return _cut_short(position + length - size_bytes)
            position += 0 if enters else length
    return None


def _read_element(head: bytes) -> tuple[int, int, int] | None:
    """Returns id, size and head length of an EBML element (RFC 8794), or none if `head` holds none."""
    if not head or head[0] < 0x10:
        return None
    id_bytes = 9 - head[0].bit_length()
    if len(head) <= id_bytes or head[id_bytes] == 0:
        return None
    size_length = 9 - head[id_bytes].bit_length()
    if len(head) < id_bytes + size_length:
        return None
    value_bits = 7 * size_length
    size = int.from_bytes(head[id_bytes : id_bytes + size_length], "big") & ((1 << value_bits) - 1)
    if size == (1 << value_bits) - 1:
        size = _UNKNOWN_SIZE
    return int.from_bytes(head[:id_bytes], "big"), size, id_bytes + size_length


def _check_riff(file: BinaryIO, size_bytes: int) -> str | None:
    position = 0
    while position < size_bytes:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] not in (b"RIFF", b"RF64"):
            return f"is damaged: byte {position} begins no RIFF chunk"
        length = struct.unpack("<I", head[4:])[0]
        # 0xFFFFFFFF stands for "see inside" (RF64) or for a writer that could not seek back.
        if length == 0xFFFFFFFF:
            return None
        position += 8 + length
        if position > size_bytes:
            return _cut_short(position - size_bytes)
        position += length % 2
    return None


_CHECKS = {"mov": _check_boxes, "matroska": _check_matroska, "avi": _check_riff, "wav": _check_riff}

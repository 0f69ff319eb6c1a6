"""The structure of TIFF and BigTIFF files, by the TIFF 6.0 specification section 2."""

import struct
from typing import BinaryIO

_WIDTH, _HEIGHT = 256, 257
# Where pixels lie: offsets and lengths, in strips or in tiles.
_DATA = ((273, 279), (324, 325))
# Value types that hold offsets and sizes: BYTE, SHORT, LONG, LONG8.
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}

_MOST_ENTRIES = 4096
_LONGEST_VALUE_BYTES = 1 << 26


def check_tiff(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Returns width and height of the first picture once all of its strips or tiles lie inside the file."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    if len(head) < 16:
        raise ValueError("is cut short inside its header")
    directory = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
    if directory == 0:
        raise ValueError("was never finished: it has no directory")
    tags = _read_directory(file, directory, order, big)
    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ValueError("is damaged: it does not say its size")
    for offsets_tag, lengths_tag in _DATA:
        offsets, lengths = tags.get(offsets_tag, ()), tags.get(lengths_tag, ())
        if not offsets or len(offsets) != len(lengths):
            continue
        end = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
        if end > size_bytes:
            raise ValueError(f"is cut short: {end - size_bytes} bytes are missing")
        # A writer that was stopped leaves zeros for strips it never reached.
        if any(length > 0 and offset == 0 for offset, length in zip(offsets, lengths, strict=True)):
            raise ValueError("was never finished: some of its strips are missing")
        return tags[_WIDTH][0], tags[_HEIGHT][0]
    raise ValueError("is damaged: it does not say where its pixels are")


def _read_directory(file: BinaryIO, position: int, order: str, big: bool) -> dict[int, tuple[int, ...]]:
    count_form, entry_form, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    pointer_form = order + ("Q" if big else "I")
    file.seek(position)
    count = struct.unpack(order + count_form, _read(file, inline if big else 2))[0]
    entries = [
        struct.unpack(order + entry_form, _read(file, 20 if big else 12)) for _ in range(min(count, _MOST_ENTRIES))
    ]
    # The position of the next directory ends this one.
    _read(file, inline)
    tags: dict[int, tuple[int, ...]] = {}
    for tag, kind, length, value in entries:
        if kind not in _TYPES:
            continue
        form = f"{order}{length}{_TYPES[kind]}"
        size = struct.calcsize(form)
        if size <= inline:
            tags[tag] = struct.unpack(form, value[:size])
        else:
            file.seek(struct.unpack(pointer_form, value)[0])
            tags[tag] = struct.unpack(form, _read(file, size))
    return tags


def _read(file: BinaryIO, count: int) -> bytes:
    # A damaged length must not be taken for a reason to fill the memory.
    data = file.read(count) if count <= _LONGEST_VALUE_BYTES else b""
    if len(data) < count:
        raise ValueError("is cut short: its directory is incomplete")
    return data

"""The structure of JPEG files, by ITU-T T.81 annex B."""

import struct
from typing import BinaryIO

_END_MARK = b"\xff\xd9"
# Cameras and some writers pad with zeros; more than this is no padding.
_LONGEST_PADDING_BYTES = 64
_START_OF_SCAN = 0xDA
# All SOFn except DHT, JPG and DAC, which share their range.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def check_jpeg(file: BinaryIO, size_bytes: int) -> tuple[int, int]:
    """Returns width and height once all segments were followed and the end mark was found."""
    file.seek(2)
    size = _size(file, size_bytes)
    file.seek(max(0, size_bytes - _LONGEST_PADDING_BYTES))
    if not file.read().rstrip(b"\x00").endswith(_END_MARK):
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
        if head[1] in _FRAME_HEADERS:
            height, width = struct.unpack(">HH", body[1:5])
            size = (width, height)
        if head[1] == _START_OF_SCAN:
            if size is None:
                raise ValueError("is damaged: it has pixels but no size")
            return size

"""The tails of MPEG transport streams, which have no sizes to compare."""

from pathlib import Path
from typing import BinaryIO

from activities.media.errors import DamagedOutput
from activities.media.source import require_content

_SYNC = 0x47
_PACKET_BYTES = 188
# m2ts puts a time code of four bytes before each packet.
_TIME_CODE_BYTES = 4


def tail_is_complete(path: Path, pid: int) -> bool:
    """Tells whether the last picture of stream `pid` is certainly whole.

    A writer fills up the last packet of a picture with stuffing, so a last packet without stuffing is cut
    off at a packet boundary, or (once in 184) a picture which ended there by chance: false means that only
    decoding can tell.

    Raises:
        DamagedOutput: The file is no whole number of transport packets, or holds none of this stream.
    """
    size_bytes = require_content(path)
    with path.open("rb") as file:
        stride, lead = _layout(file, path.name)
        rest = size_bytes % stride
        if rest:
            raise DamagedOutput(path.name, f"is cut short: {stride - rest} bytes are missing")
        for index in range(size_bytes // stride - 1, -1, -1):
            file.seek(index * stride + lead)
            packet = file.read(_PACKET_BYTES)
            if packet[0] != _SYNC:
                raise DamagedOutput(path.name, f"is damaged: transport packet {index} has no sync byte")
            if int.from_bytes(packet[1:3], "big") & 0x1FFF == pid and packet[3] & 0x10:
                return _has_stuffing(packet)
    raise DamagedOutput(path.name, "holds no video stream")


def _layout(file: BinaryIO, name: str) -> tuple[int, int]:
    head = file.read(_TIME_CODE_BYTES + 1)
    if head and head[0] == _SYNC:
        return _PACKET_BYTES, 0
    if len(head) > _TIME_CODE_BYTES and head[_TIME_CODE_BYTES] == _SYNC:
        return _PACKET_BYTES + _TIME_CODE_BYTES, _TIME_CODE_BYTES
    raise DamagedOutput(name, "is not a transport stream")


def _has_stuffing(packet: bytes) -> bool:
    """Reads the adaptation field of ISO 13818-1 section 2.4.3.4: more bytes than its flags ask for."""
    if not packet[3] & 0x20:
        return False
    length = packet[4]
    if length == 0:
        return True
    flags = packet[5]
    used = 1 + (6 if flags & 0x10 else 0) + (6 if flags & 0x08 else 0) + (1 if flags & 0x04 else 0)
    for optional in (0x02, 0x01):
        if flags & optional:
            used += 1 + packet[5 + used]
    return length > used

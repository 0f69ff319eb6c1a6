"""What a decoder is told before the first frame, in a form that does not depend on the container."""

import hashlib
import re
import struct
from collections.abc import Iterator

# These carry all they need in every frame; what a container keeps beside them is its own business.
_SELF_CONTAINED = frozenset({"prores", "mjpeg", "vp8", "vp9", "png", "dnxhd", "rawvideo", "v210", "gif"})
_HEVC_PARAMETER_SETS = frozenset({32, 33, 34})
_START_CODE = re.compile(b"\x00\x00\x00?\x01")


def parameters_sha256(codec: str, extradata: bytes | None) -> str:
    """Returns a digest which is equal for streams that one decoder set-up can play one after the other.

    The parameter sets of h264 and hevc count one by one: mp4 and transport streams wrap them differently,
    and x265 adds a comment that names the machine's number of threads.
    """
    data = extradata or b""
    if codec in _SELF_CONTAINED:
        data = b""
    elif codec in ("h264", "hevc") and data:
        units = _START_CODE.split(data) if data[0] == 0 else list(_UNWRAP[codec](data))
        kept = (unit.rstrip(b"\x00") for unit in units if unit and _is_parameter_set(codec, unit))
        data = b"".join(struct.pack(">I", len(unit)) + unit for unit in kept)
    return hashlib.sha256(data).hexdigest()


def _is_parameter_set(codec: str, unit: bytes) -> bool:
    return codec == "h264" or (unit[0] >> 1) & 0x3F in _HEVC_PARAMETER_SETS


def _avcc_units(data: bytes) -> Iterator[bytes]:
    """Reads AVCDecoderConfigurationRecord, ISO 14496-15 section 5.3.3."""
    position = 5
    for mask in (0x1F, 0xFF):
        count = data[position] & mask if position < len(data) else 0
        position += 1
        for _ in range(count):
            length = int.from_bytes(data[position : position + 2], "big")
            yield data[position + 2 : position + 2 + length]
            position += 2 + length


def _hvcc_units(data: bytes) -> Iterator[bytes]:
    """Reads HEVCDecoderConfigurationRecord, ISO 14496-15 section 8.3.3."""
    position = 23
    for _ in range(data[22] if len(data) > 22 else 0):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            length = int.from_bytes(data[position : position + 2], "big")
            yield data[position + 2 : position + 2 + length]
            position += 2 + length


_UNWRAP = {"h264": _avcc_units, "hevc": _hvcc_units}

"""Opening media files, and finding cut ones by their containers' own sizes, without decoding.

mp4/mov by ISO 14496-12, Matroska by RFC 8794 and https://www.matroska.org/technical/elements.html, transport streams
by ISO 13818-1, MXF by SMPTE ST 377-1.
"""

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from activities.media.facts import DamagedOutput, MismatchedOutput, UnknownOutput

# Quoted because packets became generic in PyAV 16 only.
AnyPacket: TypeAlias = "Packet[Stream] | Packet[VideoStream] | Packet[AudioStream]"

# The reader is chosen by name, never by content: a playlist or script under a film's name would make libav
# open other files and addresses.
READERS = {
    ".mp4": "mov",
    ".m4v": "mov",
    ".m4a": "mov",
    ".mov": "mov",
    ".mkv": "matroska",
    ".mka": "matroska",
    ".webm": "matroska",
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
    ".avi": "avi",
    ".mxf": "mxf",
    ".nut": "nut",
    ".flv": "flv",
    ".ivf": "ivf",
    ".gif": "gif",
    ".mpg": "mpeg",
    ".mpeg": "mpeg",
    ".wav": "wav",
    ".flac": "flac",
    ".opus": "ogg",
    ".ogg": "ogg",
    ".mp3": "mp3",
    ".aac": "aac",
    ".aif": "aiff",
    ".aiff": "aiff",
}

# By reader of files that keep no times of display: the codecs whose times libav finds in the pictures.
TIMED_BY_PICTURES = {
    "avi": frozenset({"mpeg1video", "mpeg2video", "mpeg4"}),
    "mxf": frozenset({"mpeg1video", "mpeg2video"}),
}

# Of these the same packets come without a decoder, times and key frames included; no other kind is joined often.
_COPIED_UNDECODED = frozenset({"mov", "matroska", "mpegts"})


def require_content(path: Path) -> int:
    """Require a file with content, and return its size in bytes.

    Raises:
        DamagedOutput: The file is missing, is no regular file, or is empty.
    """
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        problem = "is missing" if missing else f"cannot be read: {error.strerror}"
        raise DamagedOutput(path.name, problem) from error
    if not path.is_file():
        raise DamagedOutput(path.name, "is not a file")
    if size_bytes == 0:
        raise DamagedOutput(path.name, "is empty")
    return size_bytes


@contextmanager
def open_media(path: Path, *, copies: bool = False) -> Iterator[InputContainer]:
    """Open a media file for reading; what libav cannot read inside the block becomes `DamagedOutput`.

    Args:
        path: The file; its extension says how it is read.
        copies: Its packets are only copied, and its codec parameters known. Then no frame is decoded to find them,
            which took two thirds of the time of reading 25 frames of H.264 in an MP4 file.
    """
    kind = path.suffix.lower()
    if kind not in READERS:
        raise MismatchedOutput(path.name, f"is of no known media kind: {kind or 'it has no extension'}")
    # The file protocol keeps libav from taking a name with a colon for an address.
    address = f"file:{os.path.abspath(path)}"
    options = {"protocol_whitelist": "file"}
    if copies and READERS[kind] in _COPIED_UNDECODED:
        options["codec_whitelist"] = "none"
    try:
        with av.open(address, format=READERS[kind], options=options, metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise DamagedOutput(path.name, f"is not a readable {kind[1:]} file: {error.strerror}") from error


def find_video_stream(container: InputContainer, name: str) -> VideoStream:
    """Find the one video stream of an open file; cover pictures do not count."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise DamagedOutput(name, "holds no video stream")
    if len(streams) > 1:
        raise MismatchedOutput(name, f"holds {len(streams)} video streams instead of one")
    if not find_codec_name(container, streams[0]):
        raise UnknownOutput(name, "holds video of a codec that nothing here can read; render another one")
    return streams[0]


_NAMED_CODEC = re.compile(r"(?:Video|Audio): (\S+)")


def find_codec_name(container: InputContainer, stream: VideoStream | AudioStream) -> str:
    """Find the name of a codec, also of one that cannot be decoded here; empty if libav has none for it."""
    if stream.codec_context is not None:
        return stream.codec_context.codec.canonical_name
    match = _NAMED_CODEC.search(find_stream_line(container, stream))
    return match[1] if match is not None and match[1] not in ("none", "unknown") else ""


def find_stream_line(container: InputContainer, stream: Stream) -> str:
    """Find the line by which libav describes a stream to people; PyAV tells nothing of one without a decoder."""
    address, reader = container.name, READERS[Path(container.name).suffix.lower()]
    lines = _describe_for_people(address, reader, os.stat(address.removeprefix("file:")).st_mtime_ns)
    return next((line for line in lines if f"Stream #0:{stream.index}" in line), "")


# libav tells it by its log. PyAV keeps that off, because a thread of libav that logs waits for the interpreter, which
# may wait for that thread: a process of its own has no others.
_DESCRIBER = """
import sys, av, av.logging
av.logging.set_level(av.logging.INFO)
with av.open(sys.argv[1], format=sys.argv[2], options={"protocol_whitelist": "file"}) as container:
    print(container.dumps_format())
"""
_DESCRIBER_SECONDS = 60.0


@lru_cache(maxsize=16)
def _describe_for_people(address: str, reader: str, mtime_ns: int) -> tuple[str, ...]:
    command = [sys.executable, "-I", "-c", _DESCRIBER, address, reader]
    answer = subprocess.run(command, env={}, capture_output=True, timeout=_DESCRIBER_SECONDS, check=False)
    return tuple(answer.stdout.decode(errors="replace").splitlines())


# Matroska ids, https://www.matroska.org/technical/elements.html
_EBML_HEADER = 0x1A45DFA3
SEGMENT = 0x18538067
_CLUSTER = 0x1F43B675
# Written by programs that cannot seek back to fill in the size.
_UNKNOWN_SIZE = -1


def check_structure(path: Path) -> bool:
    """Check that a container ends where its own sizes say, which refuses a cut of even one byte.

    Knows mp4/mov, Matroska/WebM, RIFF (avi, wav) and MXF. Transport streams have no such sizes (see
    `has_complete_tail`), and neither have the other kinds.

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
    """Walk the top-level boxes of ISO 14496-12 section 4.2; QuickTime files have the same form."""
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
    """Walk the elements below the segment as one flat row, which also covers files written to a pipe."""
    position = 0
    while position < size_bytes:
        file.seek(position)
        element = read_element(file.read(12))
        if element is None:
            return "is cut short or damaged: its last element is unreadable"
        kind, length, head_bytes = element
        if position == 0 and kind != _EBML_HEADER:
            return "is not a Matroska file"
        position += head_bytes
        enters = kind == SEGMENT or (kind == _CLUSTER and length == _UNKNOWN_SIZE)
        if length == _UNKNOWN_SIZE and not enters:
            return "is damaged: an element in it has no size"
        if length != _UNKNOWN_SIZE:
            if position + length > size_bytes:
                return _cut_short(position + length - size_bytes)
            position += 0 if enters else length
    return None


def read_element(head: bytes) -> tuple[int, int, int] | None:
    """Read id, size and head length of an EBML element (RFC 8794); None if `head` holds none."""
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


# Labels by SMPTE ST 377-1 and ST 336; byte 13 of the label of a partition says which one it is.
_MXF_LABEL = b"\x06\x0e\x2b\x34"
_MXF_PARTITION = b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01"
_MXF_HEADER, _MXF_FOOTER = 2, 4
# What may stand before the first label, of other programs.
_MXF_LONGEST_RUN_IN = 1 << 16


def _check_mxf(file: BinaryIO, size_bytes: int) -> str | None:
    """Walk labels, lengths and values up to the end, before which the footer must have come."""
    position = file.read(_MXF_LONGEST_RUN_IN + len(_MXF_PARTITION)).find(_MXF_PARTITION + bytes([_MXF_HEADER]))
    if position < 0:
        return "is not an MXF file"
    has_footer = False
    while position < size_bytes:
        file.seek(position)
        head = file.read(25)
        if len(head) < 17 or len(head) < 17 + (head[16] & 0x7F if head[16] & 0x80 else 0):
            return "is cut short inside the head of its last element"
        if not head.startswith(_MXF_LABEL):
            return f"is damaged: byte {position} begins no MXF element"
        length, head_bytes = head[16], 17
        if length & 0x80:
            head_bytes += length & 0x7F
            length = int.from_bytes(head[17:head_bytes], "big")
        if position + head_bytes + length > size_bytes:
            return _cut_short(position + head_bytes + length - size_bytes)
        has_footer |= head.startswith(_MXF_PARTITION) and head[13] == _MXF_FOOTER
        position += head_bytes + length
    return None if has_footer else "is cut short or was never finished: it has no footer"


_CHECKS = {
    "mov": _check_boxes,
    "matroska": _check_matroska,
    "avi": _check_riff,
    "wav": _check_riff,
    "mxf": _check_mxf,
}

_SYNC = 0x47
_PACKET_BYTES = 188
# m2ts puts a time code of four bytes before each packet.
_TIME_CODE_BYTES = 4


def has_complete_tail(path: Path, pid: int) -> bool:
    """Return whether the last picture of stream `pid` is certainly whole.

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
    """Read the adaptation field of ISO 13818-1 section 2.4.3.4: more bytes than its flags ask for."""
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

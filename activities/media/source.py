"""Opening media files as what their names say they are, and as nothing else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from activities.media.errors import DamagedOutput, MismatchedOutput

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


def require_content(path: Path) -> int:
    """Returns the size of the file in bytes, which is more than none.

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
def open_media(path: Path) -> Iterator[InputContainer]:
    """Opens a media file for reading; what libav cannot read inside the block becomes `DamagedOutput`."""
    kind = path.suffix.lower()
    if kind not in READERS:
        raise MismatchedOutput(path.name, f"is of no known media kind: {kind or 'it has no extension'}")
    # The file protocol keeps libav from taking a name with a colon for an address.
    address = f"file:{os.path.abspath(path)}"
    options = {"protocol_whitelist": "file"}
    try:
        with av.open(address, format=READERS[kind], options=options, metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise DamagedOutput(path.name, f"is not a readable {kind[1:]} file: {error.strerror}") from error


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """Returns the one video stream; cover pictures do not count as one."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise DamagedOutput(name, "holds no video stream")
    if len(streams) > 1:
        raise MismatchedOutput(name, f"holds {len(streams)} video streams instead of one")
    return streams[0]

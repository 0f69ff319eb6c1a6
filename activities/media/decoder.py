"""Decode pictures of a video file: their digests, and what they say of how they are shown."""

import hashlib
import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from activities.media.containers import AnyPacket
from activities.media.facts import DamagedOutput

# Packets since the last key frame are kept to decode the last frame; of longer ones the last frame stays unproven.
_LARGEST_TAIL_BYTES = 1 << 28
# Share of the time of its rendering that decoding the last frame of a chunk may cost. It stands at the end of a group
# of pictures, which is a whole chunk as encoders set it by default: at 58 ms of rendering a frame (720p, `make bench`,
# render) decoding all frames, once for the chunk and once for the film, cost a tenth of the job.
_RENDER_SHARE = 0.01
# Decoded in any case: about 17 frames of 720p, a thousand of a thumbnail.
_LEAST_SECONDS = 0.05
# What a picture costs that only tells how it differs from others, beside a key frame and the set-up of the decoder.
_DIFFERENCE_COST = 0.5


def _name_new_type(types: type[SideDataType], value: object) -> SideDataType | None:
    """Make a member for a kind of side data that PyAV does not know, as EXIF: it raises, and hides all other kinds."""
    if not isinstance(value, int):
        return None
    member = object.__new__(types)
    vars(member).update(_name_=f"KIND_{value}", _value_=value)
    return member


SideDataType._missing_ = classmethod(_name_new_type)  # type: ignore[assignment]  # as an enumeration defines it


def hash_picture(frame: VideoFrame) -> str:
    """Hash the visible samples of a decoded picture, with its size and pixel format."""
    digest = hashlib.sha256(f"{frame.format.name} {frame.width}x{frame.height} ".encode())
    for number, plane in enumerate(frame.planes):
        data = memoryview(plane)
        if frame.format.has_palette and number == 1:
            # Of a palette PyAV says that its line has no bytes.
            digest.update(data)
            continue
        line = min(_line_bytes(frame.format, plane, number), plane.line_size)
        if line == plane.line_size:
            digest.update(data[: line * plane.height])
            continue
        # What lies between the end of a line and the next one was never written, and differs from run to run.
        for start in range(0, plane.height * plane.line_size, plane.line_size):
            digest.update(data[start : start + line])
    return digest.hexdigest()


def _line_bytes(pixels: VideoFormat, plane: VideoPlane, number: int) -> int:
    """Compute how many bytes of a line of a plane are samples."""
    if pixels.has_palette:
        return plane.width
    if len({component.plane for component in pixels.components}) == 1:
        return -(-plane.width * pixels.padded_bits_per_pixel // 8)
    # Samples lie in 1, 2 or 4 bytes.
    sizes = (component.bits for component in pixels.components if component.plane == number)
    return plane.width * sum(1 if bits <= 8 else 2 if bits <= 16 else 4 for bits in sizes)


def has_alpha(pixel_format: str) -> bool:
    """Tell whether pictures of a pixel format have a plane or samples of transparency."""
    try:
        return any(component.is_alpha for component in VideoFormat(pixel_format).components)
    except ValueError:
        # libav has no name for that of a codec that cannot be decoded here.
        return False


def is_transparent(picture: Path) -> bool:
    """Tell whether an image has pixels that are not opaque; false if libav cannot decode it."""
    options = {"protocol_whitelist": "file", "pattern_type": "none"}
    try:
        # By name, as `READERS` are.
        with av.open(f"file:{os.path.abspath(picture)}", format="image2", options=options) as container:
            frame = next(container.decode(video=0))
            if not has_alpha(frame.format.name):
                return False
            plane = frame.reformat(format="rgba").planes[0]
    except (av.error.FFmpegError, StopIteration, ValueError):
        return False
    samples = bytes(plane)
    lines = (samples[start + 3 : start + 4 * plane.width : 4] for start in range(0, len(samples), plane.line_size))
    return any(line.strip(b"\xff") for line in lines)


def describe_display(frame: VideoFrame) -> dict[str, str]:
    """Describe how players are told to show a picture: rotation, stereo, projection, and what HDR needs."""
    found = {}
    # PyAV's stubs take the values of this mapping for its keys.
    for data in cast("Iterable[SideData]", frame.side_data):
        describe = _DESCRIPTIONS.get(data.type)
        if describe is not None:
            name, text = describe[0], describe[1](bytes(data))
            found[name] = text
    return found


def _describe_matrix(data: bytes) -> str:
    a, b, _, c, d, *_ = struct.unpack("=9i", data[:36])
    unit = 1 << 16
    turn = {(unit, 0, 0, unit): 0, (0, unit, -unit, 0): 90, (-unit, 0, 0, -unit): 180, (0, -unit, unit, 0): 270}
    degrees = turn.get((a, b, c, d))
    if degrees is None:
        return "matrix " + " ".join(f"{value / unit:g}" for value in (a, b, c, d))
    # Some muxers spell out that nothing is turned.
    return f"{degrees} degrees" if degrees else ""


def _describe_stereo(data: bytes) -> str:
    kind, flags = struct.unpack("=2i", data[:8])
    kinds = ("2d", "side by side", "top and bottom", "frame by frame", "checkerboard", "quincunx", "lines", "columns")
    name = kinds[kind] if kind < len(kinds) else f"kind {kind}"
    return f"{name}, right eye first" if flags & 1 else name


def _describe_projection(data: bytes) -> str:
    kind, yaw, pitch, roll = struct.unpack("=4i", data[:16])
    kinds = ("equirectangular", "cubemap", "equirectangular tile", "half equirectangular", "rectilinear", "fisheye")
    angles = " ".join(f"{angle / 65536:g}" for angle in (yaw, pitch, roll))
    return f"{kinds[kind] if kind < len(kinds) else kind} {angles}"


def _describe_mastering(data: bytes) -> str:
    """Describe AVMasteringDisplayMetadata: three primaries, the white point, and the luminances, all as fractions."""
    numbers = struct.unpack("=22i", data[:88])
    values = [top / bottom if bottom else 0.0 for top, bottom in zip(numbers[0:20:2], numbers[1:20:2], strict=True)]
    red, green, blue, white = (f"({values[at]:.4g}, {values[at + 1]:.4g})" for at in (0, 2, 4, 6))
    has_primaries, has_luminance = numbers[20], numbers[21]
    primaries = f"red {red}, green {green}, blue {blue}, white {white}" if has_primaries else "no primaries"
    return f"{primaries}, {values[8]:g} to {values[9]:g} cd/m2" if has_luminance else primaries


def _describe_light(data: bytes) -> str:
    brightest, mean = struct.unpack("=2I", data[:8])
    return f"{brightest} and {mean} cd/m2"


_DESCRIPTIONS = {
    SideDataType.DISPLAYMATRIX: ("rotation", _describe_matrix),
    SideDataType.STEREO3D: ("stereo", _describe_stereo),
    SideDataType.SPHERICAL: ("projection", _describe_projection),
    SideDataType.MASTERING_DISPLAY_METADATA: ("mastering_display", _describe_mastering),
    SideDataType.CONTENT_LIGHT_LEVEL: ("content_light", _describe_light),
}


class PictureDecoder:
    """Decode runs of packets of one stream, each from a key frame on; what cannot be decoded is damage."""

    def __init__(self, stream: VideoStream, name: str) -> None:
        self._stream = stream
        self._name = name
        # SIMD and plain code round alike then, so that hosts with other processors find the same digests.
        stream.codec_context.flags |= av.codec.context.Flags.bitexact

    def decode(self, packet: AnyPacket, number: int) -> list[VideoFrame]:
        """Decode one packet, which holds frame `number` of the file in the order of storage."""
        try:
            return self._stream.decode(packet)
        except av.error.FFmpegError as error:
            raise DamagedOutput(self._name, f"cannot be decoded at its frame {number}: {error.strerror}") from error

    def end_run(self) -> list[VideoFrame]:
        """Decode what the decoder still holds back, and make it ready for another run."""
        try:
            return self._stream.decode(None)
        except av.error.FFmpegError as error:
            raise DamagedOutput(self._name, f"cannot be decoded to its end: {error.strerror}") from error
        finally:
            self._stream.codec_context.flush_buffers()


class EdgeDecoder:
    """Decode the first and the last frame of a file while all its packets pass by.

    Args:
        stream: The stream.
        name: Name of the file.
        render_seconds: How long the file took to render; the last frame is left out where decoding all that it is made
            of would cost much beside it. None: it is decoded in any case.
    """

    def __init__(self, stream: VideoStream, name: str, render_seconds: float | None = None) -> None:
        self._name = name
        self._decoder = PictureDecoder(stream, name)
        self._render_seconds = render_seconds
        # What the decoder was given until it gave the first frame, and the CPU time of that.
        self._first_packets = 0
        self._first_seconds = 0.0
        self._tail: list[tuple[AnyPacket, int]] = []
        self._tail_bytes = 0
        self.first: VideoFrame | None = None
        self.last: VideoFrame | None = None
        self.leaves_out_last = False

    def needs(self, number: int) -> bool:
        """Tell whether a packet is looked at: each may be the last key frame."""
        return True

    def add(self, packet: AnyPacket, number: int) -> None:
        """Take the next packet of the stream."""
        if packet.is_keyframe:
            self._tail.clear()
            self._tail_bytes = 0
        self._tail_bytes += packet.size
        if self._tail_bytes <= _LARGEST_TAIL_BYTES:
            self._tail.append((packet, number))
        if self.first is None:
            began = time.thread_time()
            self.first = next(iter(self._decoder.decode(packet, number)), None)
            self._first_seconds += time.thread_time() - began
            self._first_packets += 1

    def finish(self) -> None:
        """Decode the last frame, after the last packet."""
        held = self._decoder.end_run()
        if self.first is None:
            self.first = next(iter(held), None)
        if self.first is None:
            raise DamagedOutput(self._name, "shows no picture when it is decoded")
        self.leaves_out_last = self._is_dear()
        if self.leaves_out_last or self._tail_bytes > _LARGEST_TAIL_BYTES:
            return
        for packet, number in self._tail:
            self._keep(self._decoder.decode(packet, number))
        self._keep(self._decoder.end_run())
        self._tail.clear()

    def _is_dear(self) -> bool:
        """Tell whether decoding the last frame would cost more than it may."""
        if self._render_seconds is None:
            return False
        a_key_frame = self._first_seconds / self._first_packets
        seconds = a_key_frame * (1 + _DIFFERENCE_COST * (len(self._tail) - 1))
        return seconds > max(_LEAST_SECONDS, _RENDER_SHARE * self._render_seconds)

    def close(self) -> None:
        """End nothing: all is decoded by the caller's thread."""

    def _keep(self, frames: Sequence[VideoFrame]) -> None:
        self.last = frames[-1] if frames else self.last


def decode_pictures(container: InputContainer, stream: VideoStream, name: str) -> Iterator[VideoFrame]:
    """Decode all frames of an open file, in the order in which they are shown."""
    decoder = PictureDecoder(stream, name)
    number = 0
    for packet in container.demux(stream):
        if packet.size:
            yield from decoder.decode(packet, number)
            number += 1
    yield from decoder.end_run()

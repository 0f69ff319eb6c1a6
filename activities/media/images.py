"""Proof that rendered pictures are whole."""

import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from activities.media.errors import DamagedOutput, JoinStopped, MismatchedOutput
from activities.media.exr import check_exr
from activities.media.jpeg import check_jpeg
from activities.media.picture import check_decodes
from activities.media.png import check_png
from activities.media.source import require_content
from activities.media.tiff import check_tiff

# A check returns width and height, or raises ValueError saying what is wrong after the file's name.
_Check = Callable[[BinaryIO, int], tuple[int, int]]
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".exr": "OpenEXR",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".webp": "WebP",
    ".dpx": "DPX",
    ".tga": "TGA",
    ".hdr": "Radiance",
}
_CHECKS: dict[str, _Check] = {
    "PNG": check_png,
    "JPEG": check_jpeg,
    "OpenEXR": check_exr,
    "TIFF": check_tiff,
}
# TGA has no signature.
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
    "BMP": (b"BM",),
    "WebP": (b"RIFF",),
    "DPX": (b"SDPX", b"XPDS"),
    "Radiance": (b"#?",),
}


class ImageFacts(BaseModel):
    """What was found in a sound picture; a size of 0 x 0 means that nothing here can read its kind."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=0)
    height: int = Field(ge=0)
    format: str


class SequenceFacts(BaseModel):
    """What all pictures of a sequence have in common."""

    model_config = ConfigDict(frozen=True)

    frames: int = Field(ge=1)
    width: int = Field(ge=0)
    height: int = Field(ge=0)
    format: str


def check_image(path: Path) -> ImageFacts:
    """Returns the facts of a picture whose structure was followed from its first byte to its last.

    PNG checksums, JPEG markers, OpenEXR offset tables and TIFF strips are checked as they stand, without
    decoding; BMP, WebP, DPX, TGA and Radiance are decoded; of other kinds only content is asked.

    Raises:
        DamagedOutput: Missing, empty, cut short, damaged, or another kind of file than its name says.
    """
    size_bytes = require_content(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        return ImageFacts(width=0, height=0, format=path.suffix.lower().removeprefix("."))
    with path.open("rb") as file:
        _check_signature(path, kind, file.read(16))
        file.seek(0)
        try:
            check = _CHECKS.get(kind)
            width, height = check(file, size_bytes) if check is not None else check_decodes(path)
        except ValueError as error:
            raise DamagedOutput(path.name, str(error)) from error
        except (struct.error, IndexError, OverflowError) as error:
            raise DamagedOutput(path.name, f"is damaged: it does not follow the rules of {kind}") from error
    return ImageFacts(width=width, height=height, format=kind)


def check_sequence(paths: Sequence[Path], *, stop: threading.Event | None = None) -> SequenceFacts:
    """Returns the facts of a sequence in which every picture is sound and all have one size.

    Raises:
        DamagedOutput: There are none, or one is not sound; the sentence names the first.
        MismatchedOutput: One has another size or format than the first.
        JoinStopped: `stop` was set.
    """
    first: ImageFacts | None = None
    for path in paths:
        if stop is not None and stop.is_set():
            raise JoinStopped(path.name)
        facts = check_image(path)
        first = first or facts
        if facts.format != first.format:
            raise MismatchedOutput(path.name, f"is of another kind: {facts.format} instead of {first.format}")
        if (facts.width, facts.height) != (first.width, first.height):
            size, wanted = f"{facts.width}x{facts.height}", f"{first.width}x{first.height}"
            raise MismatchedOutput(path.name, f"has another size: {size} instead of {wanted}")
    if first is None:
        raise DamagedOutput("the sequence", "holds no pictures")
    return SequenceFacts(frames=len(paths), width=first.width, height=first.height, format=first.format)


def _check_signature(path: Path, kind: str, head: bytes) -> None:
    if kind not in _SIGNATURES or head.startswith(_SIGNATURES[kind]):
        return
    for other, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            raise DamagedOutput(path.name, f"is {_named(other)} file, not {_named(kind)} file")
    raise DamagedOutput(path.name, f"is not {_named(kind)} file")


def _named(kind: str) -> str:
    return f"an {kind}" if kind == "OpenEXR" else f"a {kind}"

"""Checking that image files are whole: by their structure from first byte to last, and by decoding them."""

import struct
import threading
from collections.abc import Sequence
from pathlib import Path

from activities.media.containers import require_content
from activities.media.facts import DamagedOutput, JoinStopped, MismatchedOutput
from activities.media.images.decoder import DecodeOutcome, DecoderPool, pool
from activities.media.images.facts import ImageFacts, ImageProof, drop_alpha, find_weakest
from activities.media.images.image_file import ImageFile, Structure
from activities.media.images.image_formats import ImageFormat, find_format_by_content, find_formats

_HEAD_BYTES = 16
# Heads stand some KiB apart in most formats.
_BUFFER_BYTES = 1 << 16


def check_image(
    path: Path, *, pixels: bool = False, stop: threading.Event | None = None, decoders: DecoderPool = pool
) -> ImageFacts:
    """Check a picture, and return its facts with how well they are proven.

    The structure of each format of `FORMATS` is followed to the end of its pixels. A picture is decoded where that is
    asked for, and where the structure leaves it open whether it is whole: a long row of zeros among compressed pixels,
    a code stream that does not say where it ends. What cannot be decoded here is not damaged, and not proven by pixels.

    Args:
        path: The file.
        pixels: Decode it fully.
        stop: Ends the decoding when it is set.
        decoders: What decodes it.

    Raises:
        DamagedOutput: Missing, empty, cut short or damaged.
        MismatchedOutput: Another format than its name says, which the same command would write again.
        JoinStopped: `stop` was set.
    """
    size_bytes = require_content(path)
    formats = find_formats(path.suffix)
    if not formats:
        return ImageFacts(width=0, height=0, format=path.suffix.lower().removeprefix("."))
    kind, structure = _check_structure(path, formats, size_bytes)
    proof = ImageProof.STRUCTURE if structure.is_complete else ImageProof.CONTENT
    if pixels or structure.is_doubtful or not structure.is_complete:
        decoded = decoders.decode(path, kind.reader, kind.demuxer, stop)
        if decoded.outcome is DecodeOutcome.DAMAGED:
            raise DamagedOutput(path.name, f"cannot be decoded: {_first_line(decoded.reason)}")
        if decoded.outcome is DecodeOutcome.DECODED:
            proof = ImageProof.PIXELS
    return ImageFacts(
        width=structure.width,
        height=structure.height,
        format=kind.name,
        channels=structure.channels,
        depth=structure.depth,
        colour=structure.colour,
        proof=proof,
    )


def _check_structure(path: Path, formats: Sequence[ImageFormat], size_bytes: int) -> tuple[ImageFormat, Structure]:
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        kind = _choose_format(path, formats, file.read(_HEAD_BYTES))
        file.seek(0)
        try:
            structure = kind.check(ImageFile(file, size_bytes))
        except ValueError as error:
            raise DamagedOutput(path.name, str(error)) from error
        except (struct.error, IndexError, OverflowError, ArithmeticError) as error:
            raise DamagedOutput(path.name, f"is damaged: it does not follow the rules of {kind.name}") from error
    if not structure.width or not structure.height:
        raise DamagedOutput(path.name, "is damaged: its header names no picture")
    return kind, structure


def _choose_format(path: Path, formats: Sequence[ImageFormat], head: bytes) -> ImageFormat:
    for one in formats:
        if one.fits(head):
            return one
    wanted = f"{formats[0].article_and_name} file"
    other = find_format_by_content(head)
    if other is not None:
        raise MismatchedOutput(path.name, f"is {other.article_and_name} file, not {wanted}")
    raise DamagedOutput(path.name, f"is not {wanted}")


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:200]


def check_sequence(paths: Sequence[Path], *, pixels: bool = False, stop: threading.Event | None = None) -> ImageFacts:
    """Check that every picture of a sequence is whole and all are alike; return what they share, and the weakest proof.

    Raises:
        DamagedOutput: There are none, or one is not sound; the sentence names the first.
        MismatchedOutput: One has another format than its name says, or another size, depth, colour space or other
            channels than the first.
        JoinStopped: `stop` was set.
    """
    first: ImageFacts | None = None
    proofs = set[ImageProof]()
    for path in paths:
        if stop is not None and stop.is_set():
            raise JoinStopped(path.name)
        try:
            facts = check_image(path, pixels=pixels, stop=stop)
        except OSError as error:
            raise DamagedOutput(path.name, f"cannot be read: {error.strerror or error}") from error
        first = first or facts
        proofs.add(facts.proof)
        if (problem := facts.find_mismatch(first)) is not None:
            raise MismatchedOutput(path.name, problem)
        if drop_alpha(facts.channels) == first.channels:
            # Transparent as soon as one of its pictures is.
            first = first.model_copy(update={"channels": facts.channels})
    if first is None:
        raise DamagedOutput("the sequence", "holds no pictures")
    return first.model_copy(update={"proof": find_weakest(proofs)})

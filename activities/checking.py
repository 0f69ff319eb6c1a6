"""Proving what a render left behind: an exit code is a claim, the files are the evidence."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from activities.failures import AttemptError
from activities.media.errors import MediaError
from activities.media.images import check_sequence
from activities.media.video import VideoFacts, inspect_video
from longtake.outputs import OutputKind, kind_of
from longtake.planning import Chunk


@dataclass(frozen=True)
class Proof:
    """What was found in a chunk's outputs."""

    frames: int
    video: VideoFacts | None = None
    width: int | None = None
    height: int | None = None


def check_chunk(chunk: Chunk, files: list[Path], rate: Fraction, stop: threading.Event) -> Proof:
    """Return the proof that these files are all that the chunk had to make, whole and of the right length.

    Raises:
        AttemptError: A file is missing, empty, truncated, too short or of another rate.
    """
    return _CHECKS[kind_of(chunk.output_template)](chunk, files, rate, stop)


def _check_video(chunk: Chunk, files: list[Path], rate: Fraction, stop: threading.Event) -> Proof:
    try:
        facts = inspect_video(files[0], fps=rate, frames=chunk.count, stop=stop)
    except MediaError as error:
        raise AttemptError(error.sentence) from error
    return Proof(frames=facts.frames, video=facts, width=facts.width, height=facts.height)


def _check_frames(chunk: Chunk, files: list[Path], rate: Fraction, stop: threading.Event) -> Proof:
    try:
        facts = check_sequence(files, stop=stop)
    except MediaError as error:
        raise AttemptError(error.sentence) from error
    return Proof(frames=len(files), width=facts.width, height=facts.height)


def _check_file(chunk: Chunk, files: list[Path], rate: Fraction, stop: threading.Event) -> Proof:
    (file,) = files
    if not file.is_file():
        raise AttemptError(f"{file.name} is missing: the renderer ended well and wrote nothing")
    if file.stat().st_size == 0:
        raise AttemptError(f"{file.name} is empty: the renderer ended well and wrote nothing into it")
    return Proof(frames=chunk.count)


_CHECKS: dict[OutputKind, Callable[[Chunk, list[Path], Fraction, threading.Event], Proof]] = {
    OutputKind.VIDEO: _check_video,
    OutputKind.FRAMES: _check_frames,
    OutputKind.FILE: _check_file,
}

"""Proving what a render left behind: an exit code is a claim, the files are the evidence."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from activities.errors import AttemptError
from activities.media.errors import MediaError
from activities.media.images import check_sequence
from activities.media.video import VideoFacts, inspect_video
from activities.stores.kept_frames import Signature, signature_of
from longtake.chunks import Chunk
from longtake.paths import OutputKind


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
    return _CHECKS[chunk.kind](chunk, files, rate, stop)


class OutputProof:
    """Tells whether the one output of a command that still runs is proven; each state of it is read once."""

    def __init__(self, chunk: Chunk, file: Path, rate: Fraction) -> None:
        self._chunk = chunk
        self._file = file
        self._rate = rate
        self._state: Signature | None = None
        self._holds = False

    def holds(self) -> bool:
        """Look again; blocking.

        Raises:
            OSError: The file is not there any more.
        """
        state = signature_of(self._file.stat())
        if state != self._state:
            try:
                check_chunk(self._chunk, [self._file], self._rate, threading.Event())
                self._holds = True
            except AttemptError:
                self._holds = False
            self._state = state
        return self._holds


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

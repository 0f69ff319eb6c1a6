"""Check what a renderer wrote: each output of a chunk is opened, counted and compared; other files are looked at."""

import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from activities.errors import AttemptError
from activities.media.containers import check_structure
from activities.media.facts import MediaError, MismatchedOutput, VideoFacts
from activities.media.images.check import check_image, check_sequence
from activities.media.images.facts import ImageFacts, ImageProof
from activities.media.video import read_video
from activities.stores.job_folder import OutputFacts
from activities.stores.kept_frames import Signature, file_signature
from longtake.chunks import Chunk
from longtake.models.outputs import OutputTemplate
from longtake.paths import FILM_SUFFIXES, OutputKind, classify_output


@dataclass(frozen=True)
class Proof:
    """The facts found in one output of a chunk by its check."""

    frames: int
    video: VideoFacts | None = None
    images: ImageFacts | None = None
    width: int | None = None
    height: int | None = None
    unproven: str = ""
    # The first frame of a video, as it was decoded.
    first: VideoFrame | None = field(default=None, compare=False, repr=False)

    @property
    def facts(self) -> OutputFacts:
        """What a sidecar keeps of an output that is not the main one."""
        return OutputFacts(video=self.video, images=self.images, unproven=self.unproven)


def check_chunk(
    chunk: Chunk,
    files: Sequence[Path],
    rate: Fraction,
    stop: threading.Event,
    *,
    pixels: bool = False,
    render_seconds: float = 0,
) -> tuple[Proof, ...]:
    """Check that the files of a chunk are whole and of the right length, and return what was found in each output.

    Args:
        chunk: The chunk.
        files: Its files, those of one output after the other.
        rate: The frame rate that video must have.
        stop: Ends the check when it is set.
        pixels: Decode image files fully, and the last frame of a video whatever it costs.
        render_seconds: How long the chunk was rendered: what decoding may cost depends on it (`read_video`).

    Raises:
        AttemptError: A file is missing, empty, truncated, too short or of another rate.
    """
    each = chunk.files_per_output
    proofs = []
    for number, template in enumerate(chunk.templates):
        own = files[number * each : (number + 1) * each]
        try:
            proofs.append(_check_output(template, own, chunk.count, rate, stop, pixels, render_seconds))
        except AttemptError as error:
            if len(chunk.templates) > 1:
                # Files of two outputs often have one name, in folders of their own.
                error.add_sentence(f"it is a file of {template.field}")
            raise
    return tuple(proofs)


def _check_output(
    template: OutputTemplate,
    files: Sequence[Path],
    frames: int,
    rate: Fraction,
    stop: threading.Event,
    pixels: bool,
    render_seconds: float,
) -> Proof:
    try:
        match classify_output(template.path):
            case OutputKind.FRAMES:
                return _check_frames(files, stop, pixels=pixels)
            case OutputKind.VIDEO:
                return _check_video(files[0], frames, rate, stop, None if pixels else render_seconds)
            case OutputKind.FILE:
                return _check_file(files[0], frames, stop, pixels=pixels)
    except MediaError as error:
        raise failed_try(error) from error


def check_undeclared(files: Sequence[Path], stop: threading.Event) -> None:
    """Check files that no output declares, as far as their names tell what they are.

    Raises:
        AttemptError: A picture or a video is damaged.
    """
    for file in files:
        if stop.is_set():
            return
        try:
            inspect_undeclared(file, stop)
        except MediaError as error:
            raise failed_try(error) from error


def inspect_undeclared(file: Path, stop: threading.Event | None = None) -> ImageFacts:
    """Check a file that no output declares, as far as its name tells what it is, and return its facts.

    Raises:
        DamagedOutput: It is a picture or a video, and damaged.
    """
    if file.suffix.lower() in FILM_SUFFIXES:
        check_structure(file)
    elif file.stat().st_size:
        return check_image(file, stop=stop)
    return ImageFacts(width=0, height=0, format=file.suffix.lower().removeprefix("."))


class OutputCheck:
    """The check of the outputs of a command that still runs; each state of the files is read once."""

    def __init__(self, chunk: Chunk, files: Sequence[Path], rate: Fraction) -> None:
        self._chunk = chunk
        self._files = files
        self._rate = rate
        self._state: list[Signature] = []
        self._is_proven = False

    def is_proven(self) -> bool:
        """Check the files again if one has changed, and tell whether all are whole; blocking.

        Raises:
            OSError: A file is gone.
        """
        found = [file.stat() for file in self._files]
        if not all(stat.S_ISREG(status.st_mode) for status in found):
            # To open a pipe would take for ever.
            return False
        state = list(map(file_signature, found))
        if state != self._state:
            try:
                check_chunk(self._chunk, self._files, self._rate, threading.Event())
                self._is_proven = True
            except AttemptError:
                self._is_proven = False
            self._state = state
        return self._is_proven


def failed_try(error: MediaError) -> AttemptError:
    """Return the failure of a try whose outputs are not what they must be."""
    if isinstance(error, MismatchedOutput):
        # Of image files nothing depends on the rate.
        fix = "the command or fps" if Path(error.subject).suffix.lower() in FILM_SUFFIXES else "the command"
        sentence = f"{error.sentence}; it would be the same again, so change {fix}"
        return AttemptError(sentence, needs_change=True)
    return AttemptError(error.sentence)


def _check_video(file: Path, frames: int, rate: Fraction, stop: threading.Event, render_seconds: float | None) -> Proof:
    reading = read_video(file, fps=rate, frames=frames, stop=stop, render_seconds=render_seconds)
    facts = reading.facts
    return Proof(frames=facts.frames, video=facts, width=facts.width, height=facts.height, first=reading.first)


def _check_frames(files: Sequence[Path], stop: threading.Event, *, pixels: bool) -> Proof:
    facts = check_sequence(files, pixels=pixels, stop=stop)
    is_weak = facts.proof is ImageProof.CONTENT or (pixels and facts.proof is not ImageProof.PIXELS)
    return Proof(
        frames=len(files),
        images=facts,
        width=facts.width,
        height=facts.height,
        unproven=f"{files[0].suffix} files are proven by their {facts.proof} alone" if is_weak else "",
    )


# Files of these names are pictures, also where they are no frames of a sequence.
PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".exr", ".dpx", ".webp", ".gif", ".bmp", ".jp2", ".jxl"}
)


def _check_file(file: Path, frames: int, stop: threading.Event, *, pixels: bool) -> Proof:
    if not file.is_file():
        raise AttemptError(f"{file.name} is missing: the renderer ended well and wrote nothing")
    if file.stat().st_size == 0:
        raise AttemptError(f"{file.name} is empty: the renderer ended well and wrote nothing into it")
    if file.suffix.lower() in PICTURE_SUFFIXES:
        check_image(file, pixels=pixels, stop=stop)
    return Proof(frames=frames)

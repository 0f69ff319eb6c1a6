"""What is known of a video file, what must be equal for files to be joined, and the errors of all media checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

# From when to when, in seconds of its file, and the title.
Chapter = tuple[float, float, str]


class VideoFacts(BaseModel):
    """What was found in a sound video file; a chunk's sidecar keeps it, the join compares it."""

    model_config = ConfigDict(frozen=True)

    frames: int = Field(ge=1, description="Number of frames that are shown.")
    codec: str
    profile: str
    width: int
    height: int
    pixel_format: str
    sample_aspect_ratio: str = Field(description="Width to height of one pixel, as 1:1.")
    colour_range: str = Field(description="full or limited.")
    colour_space: str = Field(description="This and the next two are code points of ITU-T H.273.")
    colour_primaries: str
    colour_transfer: str
    extradata_sha256: str = Field(description="Digest of the decoder set-up, the same in every container.")
    reorder_frames: int = Field(0, ge=0, description="Frames that storage order runs ahead of display order.")
    starts_clean: bool = Field(True, description="The first stored frame is a key frame, shown first.")
    audio: str = Field("", description="Codec, rate and channels of the first audio stream, if any.")
    # Absent from records of older versions, which then compare equal with anything.
    sounds: tuple[str, ...] | None = Field(None, description="Codec, rate and channels of every audio stream.")
    sound_labels: tuple[str, ...] | None = Field(None, description="Language and speakers of every audio stream.")
    other_streams: tuple[str, ...] = Field((), description="Kinds of the streams beside picture, sound and timecode.")
    sample_tag: str | None = Field(None, description="How QuickTime and MP4 files name the codec, as HapY.")
    field_order: str | None = Field(None, description="progressive, or which field comes first; none if not said.")
    chroma_location: str | None = Field(None, description="Where colour samples lie, as top left.")
    alpha: str | None = Field(None, description="How the file says that its pictures are transparent.")
    rotation: str | None = Field(None, description="How players turn the picture.")
    stereo: str | None = Field(None, description="How the pictures of two eyes lie in one.")
    projection: str | None = Field(None, description="How a picture covers a sphere.")
    mastering_display: str | None = Field(None, description="Primaries and luminance of the mastering display.")
    content_light: str | None = Field(None, description="Brightest pixel and brightest mean of a frame.")
    language: str | None = Field(None, description="Language of the video stream; und if none is said.")
    title: str | None = Field(None, description="Title of the file.")
    tags: dict[str, str] = Field({}, description="What else the file says of itself: comment, artist and the like.")
    stream_tags: dict[str, str] = Field({}, description="What else the video stream says of itself.")
    timecode: str | None = Field(None, description="Timecode of the first frame.")
    chapters: tuple[Chapter, ...] = Field((), description="Chapters of the file.")
    first_picture: str = Field("", description="Digest of the first decoded frame; empty if it was not decoded.")
    last_picture: str = Field("", description="Digest of the last decoded frame.")
    unproven: str = Field("", description="What could not be proven, and why.")

    def find_mismatch(self, other: "VideoFacts", *, joined: bool = False) -> str | None:
        """Find why this file cannot follow `other` in one stream; None when it can.

        Args:
            other: What a file before it holds, or a chunk of the film that this is.
            joined: This is a film of such files. A container may have no place for what they say of themselves,
                writes codecs under names of its own, and rounds the shape of pixels.
        """
        if (self.width, self.height) != (other.width, other.height):
            size, wanted = f"{self.width}x{self.height}", f"{other.width}x{other.height}"
            return f"has another size: {size} instead of {wanted}"
        for name, words in _COMPARED.items() if not joined else _COMPARED_IN_FILMS.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None or theirs is None or mine == theirs:
                continue
            if name == "sample_aspect_ratio" and joined and self._has_rounded_pixels(other):
                continue
            if name == "field_order" and joined and _DOMINANCE.get(mine) == _DOMINANCE.get(theirs, theirs):
                continue
            return f"has another {words}: {mine or 'none'} instead of {theirs or 'none'}"
        if self.extradata_sha256 != other.extradata_sha256:
            if joined:
                return "has other codec parameters than its chunks: its container has no place for all of them"
            return "was encoded with other settings: its codec parameters differ"
        return None

    def find_lost_labels(self, chunks: "VideoFacts") -> str:
        """Find what this film does not say of itself though its chunks do; empty if it says all."""
        lost = [name for name in ("title", "timecode") if getattr(chunks, name) and not getattr(self, name)]
        if chunks.language not in (None, "und", self.language):
            lost.append("language")
        if chunks.chroma_location and chunks.chroma_location != self.chroma_location:
            lost.append("chroma location")
        if len(self.chapters) < len(chunks.chapters):
            lost.append("chapters")
        lost += sorted(set(chunks.tags) - set(self.tags))
        lost += (f"{name} of the pictures" for name in sorted(set(chunks.stream_tags) - set(self.stream_tags)))
        return f"its container has no place for {', '.join(lost)} of the chunks" if lost else ""

    def _has_rounded_pixels(self, other: "VideoFacts") -> bool:
        """Tell whether the shapes of pixels differ by the rounding of Matroska, which stores whole display sizes."""
        mine, theirs = (Fraction(each.sample_aspect_ratio.replace(":", "/")) for each in (self, other))
        return abs(mine - theirs) * self.width <= 1


# Which field is shown first: H.264 says that alone, and containers say besides which one is stored first.
_DOMINANCE = {"tt": "top", "tb": "top", "bb": "bottom", "bt": "bottom"}
_COMPARED_IN_FILMS = {
    "codec": "codec",
    "profile": "codec profile",
    "pixel_format": "pixel format",
    "sample_aspect_ratio": "pixel shape",
    "colour_range": "colour range",
    "colour_space": "colour space",
    "colour_primaries": "set of colour primaries",
    "colour_transfer": "colour transfer",
    "field_order": "field order",
    "alpha": "alpha mode",
    "rotation": "rotation",
    "stereo": "stereo mode",
    "projection": "projection",
    "mastering_display": "mastering display",
    "content_light": "content light level",
}
_COMPARED = _COMPARED_IN_FILMS | {
    "chroma_location": "chroma location",
    "sample_tag": "sample tag",
    "language": "language",
    "title": "title",
}


class MediaError(Exception):
    """A file is not what it must be; `sentence` says which file and what is wrong with it."""

    def __init__(self, subject: str, problem: str, *, chunk: int | None = None) -> None:
        self.subject = subject
        self.problem = problem
        self.chunk = chunk
        self.sentence = f"{subject} {problem}"
        super().__init__(self.sentence)

    def for_chunk(self, subject: str, chunk: int) -> Self:
        """Make the same error about `subject`, the chunk at position `chunk` of a join."""
        return type(self)(subject, self.problem, chunk=chunk)


class DamagedOutput(MediaError):
    """The file is missing, empty, cut short, unreadable or of the wrong length: rendering again helps."""


class MismatchedOutput(MediaError):
    """The file is sound but differs in size, rate or codec settings: only a changed render helps."""


class UnknownOutput(MediaError):
    """The file holds something of which libav knows no name: a host with a newer one may know it."""


class JoinStopped(Exception):
    """Reading or joining ended early because its caller set the stop event."""


@dataclass(frozen=True)
class ChunkFile:
    """One chunk of a film, as the join takes it.

    Attributes:
        path: The file, which is only read.
        name: What people call the chunk, as "chunk 3".
        frames: How many frames it must hold.
        facts: What its own check has found; without them it is checked anew.
        sha256: Digest of the file as it was published, if that is known.
        position: How many frames of the job come before it, those of missing chunks included; None if none is missing.
        is_cut: Only the first `frames` frames of the file are wanted.
        render_seconds: How long it was rendered, if that is known.
    """

    path: Path
    name: str
    frames: int
    facts: VideoFacts | None = None
    sha256: str = ""
    position: int | None = None
    is_cut: bool = False
    render_seconds: float = 0.0


@dataclass(frozen=True)
class SoundFile:
    """A finished track of a film.

    Attributes:
        path: The file, in its final codec and length.
        language: What language it is in, as three letters; empty if nobody has said.
    """

    path: Path
    language: str = ""


@contextmanager
def name_chunk_in_errors(chunk: ChunkFile, index: int) -> Iterator[None]:
    """Name the chunk in errors about its file, and leave errors about other files alone."""
    try:
        yield
    except MediaError as error:
        if error.subject != chunk.path.name:
            raise
        raise error.for_chunk(f"{chunk.name} ({chunk.path})", index) from error

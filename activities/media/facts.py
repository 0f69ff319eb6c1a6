"""What is known of a video file, what must be equal for files to be joined, and the errors of all media checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


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

    def find_mismatch(self, other: "VideoFacts") -> str | None:
        """Find why this file cannot follow `other` in one stream; None when it can."""
        if (self.width, self.height) != (other.width, other.height):
            size, wanted = f"{self.width}x{self.height}", f"{other.width}x{other.height}"
            return f"has another size: {size} instead of {wanted}"
        for name, words in _COMPARED.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                return f"has another {words}: {mine} instead of {theirs}"
        if self.extradata_sha256 != other.extradata_sha256:
            return "was encoded with other settings: its codec parameters differ"
        return None


_COMPARED = {
    "codec": "codec",
    "profile": "codec profile",
    "pixel_format": "pixel format",
    "sample_aspect_ratio": "pixel shape",
    "colour_range": "colour range",
    "colour_space": "colour space",
    "colour_primaries": "set of colour primaries",
    "colour_transfer": "colour transfer",
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


class JoinStopped(Exception):
    """Reading or joining ended early because its caller set the stop event."""


@dataclass(frozen=True)
class ChunkFile:
    """One chunk of a film, as the join takes it.

    Attributes:
        path: The file, which is only read.
        name: What people call the chunk, as "chunk 3".
        frames: How many frames it must hold.
    """

    path: Path
    name: str
    frames: int


@contextmanager
def name_chunk_in_errors(chunk: ChunkFile, index: int) -> Iterator[None]:
    """Name the chunk in errors about its file, and leave errors about other files alone."""
    try:
        yield
    except MediaError as error:
        if error.subject != chunk.path.name:
            raise
        raise error.for_chunk(f"{chunk.name} ({chunk.path})", index) from error

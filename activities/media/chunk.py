"""The pieces a film is joined from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from activities.media.errors import MediaError


@dataclass(frozen=True)
class ChunkFile:
    """One piece of the film as the join is given it.

    Attributes:
        path: The file, which is only read.
        name: What people call the chunk, as "chunk 3".
        frames: How many frames it must hold.
    """

    path: Path
    name: str
    frames: int


@contextmanager
def told_of(chunk: ChunkFile, index: int) -> Iterator[None]:
    """Makes refusals of the chunk's file speak of the chunk, and leaves those of other files alone."""
    try:
        yield
    except MediaError as error:
        if error.subject != chunk.path.name:
            raise
        raise error.about(f"{chunk.name} ({chunk.path})", index) from error

"""Make the parts of a film of very many chunks: each is proven and kept, so that a killed stitch goes on where it was.

A part is a file of some thousand chunks, joined and verified as a film is, in the container of the chunks. The film is
joined from its parts. Its frames, times and stream are those of the film that is joined from the chunks at once.
"""

import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from pydantic import Field, ValidationError

from activities.media.facts import ChunkFile, DamagedOutput, MediaError, VideoFacts, name_chunk_in_errors
from activities.media.film import verify_film
from activities.media.join import check_fit, has_all_facts, join_video
from activities.stores.job_folder import JobFolder
from longtake.models.fields import Contract
from longtake.sound_formats import StreamKind
from longtake.stores.directory import digest_stream
from longtake.stores.publications import PublishedFile, is_as_published

# Chunks of a part. What a kill costs is one part; each part costs some calls of the store, and each byte of it is
# written once more.
PART_CHUNKS = 1000
# Fewer chunks are joined at once.
_LEAST_PARTS = 3
# Containers of chunks whose parts hold the same packets at the same times, as tests show. AVI and MXF files keep no
# times of display.
_CONTAINERS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts"})
# Changes with what makes parts others: those of before are not taken over then.
_VERSION = 1

# Makes the files of the chunks [start, stop) of the film be on this host, below a folder; returns them.
BringChunks = Callable[[int, int, Path], list[ChunkFile]]


class PartRecord(Contract):
    """The record of a part, written once it is proven and in the store."""

    file: PublishedFile
    frames: int
    facts: VideoFacts = Field(description="what its chunks have in common, as of a chunk")
    render_seconds: float = Field(default=0, description="how long its chunks were rendered")


@dataclass(frozen=True)
class FilmShape:
    """What the parts of a film depend on, beside their chunks.

    Args:
        fps: Exact rate of the film.
        drop: Kinds of streams that are left out.
        has_audio: Whether the film has sound of its own, in place of that of the chunks.
        full: Whether all frames are decoded and compared.
    """

    fps: Fraction
    drop: Collection[StreamKind]
    has_audio: bool
    full: bool


def has_parts(chunks: Iterator[ChunkFile], count: int, shape: FilmShape) -> bool:
    """Tell whether a film is made of parts; raise where chunks do not fit together, before anything is made.

    It is made at once where it has few chunks, where sound of the chunks is joined (to the sample, over the whole
    film), where they have timecodes or transparent pictures in two streams, in AVI and MXF, and where not all is known
    of a chunk, as of those of versions before.

    Args:
        chunks: The chunks in film order, each asked for once; their files need not be here.
        count: Their number.
        shape: The film.

    Raises:
        MismatchedOutput: A chunk does not fit chunk 0; `chunk` says which.
    """
    if count < _LEAST_PARTS * PART_CHUNKS:
        return False
    first: VideoFacts | None = None
    for index, chunk in enumerate(chunks):
        facts = chunk.facts
        if facts is None or not has_all_facts(chunk) or chunk.path.suffix.lower() not in _CONTAINERS:
            return False
        has_sound = bool(facts.sounds) and not shape.has_audio and StreamKind.AUDIO not in shape.drop
        if has_sound or facts.timecode or facts.alpha == "1":
            return False
        first = first or facts
        with name_chunk_in_errors(chunk, index):
            check_fit(chunk, facts, first, drop=shape.drop, has_audio=shape.has_audio)
    return True


class FilmParts:
    """The parts of one film, in the store of its job.

    Those of all attempts lie side by side, named by what they are made of, and are removed with the attempts when the
    film is published.

    Args:
        folder: The job's folder.
        key: Key of the film.
        place: Folder of the attempt on this host.
        shape: The film.
        stop: Ends the work when set.
    """

    def __init__(self, folder: JobFolder, key: str, place: Path, shape: FilmShape, stop: threading.Event) -> None:
        self._folder = folder
        self._store = folder.store
        self._parts = f"{folder.attempts_dir(key)}/parts"
        self._place = place / "parts"
        self._shape = shape
        self._stop = stop
        # The first chunk, whose stream is the pattern of the film's.
        self.pattern: Path | None = None

    def make_all(
        self, chunks: Sequence[tuple[str, int]], bring: BringChunks, progress: Callable[[int], None]
    ) -> list[ChunkFile]:
        """Make all parts that are not there yet, and return them in film order, each in the place of a chunk.

        Args:
            chunks: Digest and number of frames of each chunk, in film order.
            bring: Brings chunks to this host.
            progress: Called with the number of frames that are in parts so far.

        Raises:
            MediaError: A chunk is damaged or does not fit; `chunk` is its number in the film.
        """
        self._place.mkdir(parents=True, exist_ok=True)
        pattern = bring(0, 1, self._place / "pattern")
        self.pattern = pattern[0].path
        parts: list[ChunkFile] = []
        frames = 0
        for start in range(0, len(chunks), PART_CHUNKS):
            stop = min(start + PART_CHUNKS, len(chunks))
            name = self._name(chunks[start:stop])
            part = self._find(name)
            if part is None:
                with _number_chunks_in_film(start):
                    part = self._make(name, bring(start, stop, self._place / "chunks"), partial(_add, progress, frames))
                shutil.rmtree(self._place / "chunks", ignore_errors=True)
            parts.append(self._bring(name, part, len(parts)))
            frames += part.frames
            progress(frames)
        return parts

    def forget(self) -> None:
        """Remove all parts: the film that was made of them is not what it must be."""
        self._store.remove_all(self._parts)

    def _name(self, chunks: Sequence[tuple[str, int]]) -> str:
        shape = self._shape
        made_of = [_VERSION, str(shape.fps), sorted(shape.drop), shape.has_audio, shape.full, list(chunks)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]

    def _find(self, name: str) -> PartRecord | None:
        """Return the record of a part that an earlier attempt has made, if its file is as it was then."""
        try:
            record = PartRecord.model_validate_json(self._store.read(self._record(name)))
        except (FileNotFoundError, ValidationError):
            return None
        there = self._store.stat(record.file.path)
        if there is not None and is_as_published(self._store, there, record.file):
            return record
        self._store.remove(self._record(name))
        return None

    def _make(self, name: str, chunks: Sequence[ChunkFile], progress: Callable[[int], None]) -> PartRecord:
        """Join chunks to a part, prove it, and keep it in the store."""
        shape, part = self._shape, self._local(name, chunks[0].path.suffix)
        made = join_video(
            chunks,
            part,
            fps=shape.fps,
            # Sound of the whole film comes with the film.
            drop={*shape.drop, StreamKind.AUDIO} if shape.has_audio else shape.drop,
            progress=progress,
            stop=self._stop,
            pattern=self.pattern,
        )
        frames = sum(chunk.frames for chunk in chunks)
        verify_film(part, fps=shape.fps, frames=frames, joined=made, full=shape.full, stop=self._stop)
        seconds = sum(chunk.render_seconds for chunk in chunks)
        return self._keep(name, part, partial(PartRecord, frames=frames, facts=made.facts, render_seconds=seconds))

    def _keep(self, name: str, part: Path, make_record: Callable[..., PartRecord]) -> PartRecord:
        """Put a part into the store and commit it by its record; where another attempt was first, its part counts."""
        with part.open("rb") as file:
            os.fsync(file.fileno())
            digest, status = digest_stream(file), os.fstat(file.fileno())
        location = f"{self._parts}/{name}.{secrets.token_hex(4)}{part.suffix}"
        self._store.put(part, location, sha256=digest)
        kept = PublishedFile(
            path=location,
            attempt_path=location,
            size_bytes=status.st_size,
            sha256=digest,
            modified_ns=status.st_mtime_ns if self._store.is_local else 0,
        )
        record = make_record(file=kept)
        if self._store.create(self._record(name), record.model_dump_json(exclude_defaults=True).encode()):
            return record
        part.unlink()
        standing = self._find(name)
        if standing is None:
            raise DamagedOutput(part.name, "was removed while the film was made")
        return standing

    def _bring(self, name: str, part: PartRecord, number: int) -> ChunkFile:
        """Return a part in the place of a chunk; one that was not made here is brought here."""
        here = self._local(name, Path(part.file.path).suffix)
        path = here if here.exists() else self._store.download(part.file.path, here, sha256=part.file.sha256)
        seconds = part.render_seconds
        return ChunkFile(path, f"part {number}", part.frames, part.facts, part.file.sha256, render_seconds=seconds)

    def _record(self, name: str) -> str:
        return f"{self._parts}/{name}.json"

    def _local(self, name: str, suffix: str) -> Path:
        return self._place / f"{name}{suffix.lower()}"


def _add(progress: Callable[[int], None], before: int, frames: int) -> None:
    progress(before + frames)


@contextmanager
def _number_chunks_in_film(start: int) -> Iterator[None]:
    """Number the chunk of a media error as in the film rather than as in its part."""
    try:
        yield
    except MediaError as error:
        if error.chunk is not None:
            error.chunk += start
        raise

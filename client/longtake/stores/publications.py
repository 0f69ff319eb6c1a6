"""What was published of a chunk or a film, as its record tells: the files, and the attempt that made them."""

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field, ValidationError

from longtake.models.fields import Contract
from longtake.models.inputs import check_input_path
from longtake.paths import is_bookkeeping
from longtake.stores.store import Store, StoredFile


class PublishedFile(Contract):
    """A file that an attempt made and that was published under its final name."""

    path: str = Field(description="final location: an absolute path, or an s3:// URL")
    size_bytes: int
    sha256: str
    modified_ns: int = Field(default=0, description="when it was written; a file of another time is read to be proven")
    attempt_path: str = Field(description="location where the attempt wrote it; gone once it is published")


class RenderRecord(Contract):
    """What a sidecar tells of the attempt that has rendered its chunk: read alone where there are a million of them."""

    key: str = ""
    attempt: str = ""
    host: str = ""
    render_seconds: float = 0
    cpu_seconds: float = Field(default=0, description="CPU time of the attempt's processes")
    peak_memory_bytes: int = Field(default=0, description="most memory that they had at once")
    log: str = Field(default="", description="path of the attempt's log")
    published_at: datetime | None = None


class Publication(RenderRecord):
    """The part of a sidecar or a claim that clients read; workers write more, see `activities.stores.job_folder`."""

    frames: int = 0
    files: tuple[PublishedFile, ...] = ()
    unproven: str = Field(default="", description="what could not be proven of its files, and why")
    duration_seconds: float | None = Field(default=None, description="of the film")
    proof: str = Field(default="", description="which pictures of the film were decoded and compared")
    notes: tuple[str, ...] = Field(default=(), description="what of the film could not be proven, or was lost")


@dataclass(frozen=True)
class Record:
    """A sidecar or a claim of a job, or a line of a segment that is one or the other, as found in the store.

    Args:
        key: Key of the chunk or the film.
        location: Location of the file that holds the record.
        publication: Content of the record; None if unreadable.
    """

    key: str
    location: str
    publication: Publication | None

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """Published files of the record."""
        return self.publication.files if self.publication else ()


def decode_publication(line: bytes) -> Publication | None:
    """Return the record in a line of a segment; None where there is none of a chunk."""
    with suppress(ValidationError):
        record = Publication.model_validate_json(line)
        return record if record.key.isdigit() else None
    return None


def decode_render_record(line: bytes) -> RenderRecord | None:
    """Return the part of the record in a line of a segment; None where there is none of a chunk."""
    with suppress(ValidationError):
        record = RenderRecord.model_validate_json(line)
        return record if record.key.isdigit() else None
    return None


def is_as_published(store: Store, there: StoredFile, file: PublishedFile, *, trust_time: bool = True) -> bool:
    """Tell whether a file still has the content that was published.

    The size must be the same; then the SHA-256 that the store keeps decides. Without one, a file with the time of its
    publication counts as unchanged, and any other file, restored or exchanged, is read.

    Args:
        store: The store.
        there: Metadata of the file now.
        file: Record of the published file.
        trust_time: Whether the time counts; False for files that a renderer may have given all the same time.

    Raises:
        OSError: The file cannot be read.
    """
    if there.size_bytes != file.size_bytes:
        return False
    if there.sha256 is not None:
        return there.sha256 == file.sha256
    if trust_time and file.modified_ns and file.modified_ns == there.modified_ns:
        return True
    with suppress(FileNotFoundError):
        return store.digest(there.location) == file.sha256
    return False


def path_in_store(store: Store, location: str) -> str | None:
    """Return the path of a published file below its store; None if the location is not a file of jobs there.

    Other programs can write records too. So locations outside of the store and in Longtake's own folder are refused.
    """
    inside = location.removeprefix(f"{store.url.rstrip('/')}/")
    if inside == location or any(map(is_bookkeeping, inside.split("/"))):
        return None
    try:
        check_input_path(inside)
    except ValueError:
        return None
    return inside


def is_plain_path(location: str) -> bool:
    """Tell whether a location is an absolute path without `..`, `.` or doubled slashes."""
    return location.startswith("/") and os.path.normpath(location) == location

"""What a job has published, as the records in its store tell whoever looks from outside."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from pydantic import Field, ValidationError

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.loader import read_chunk_list
from longtake.models.fields import Contract
from longtake.models.inputs import INPUTS, check_input_path
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import ChunkSpec
from longtake.names import check_job_id
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.stores.store import Store, map_parallel
from longtake.templates import expand

# Records that are read at once, and kept in memory until they are dealt with.
_BATCH = 500


class FileRecord(Contract):
    """One file that was published under its final name."""

    path: str = Field(description="final location: an absolute path, or an s3:// URL")
    size_bytes: int
    sha256: str
    modified_ns: int = Field(default=0, description="when it was written; a file of another time is read to be proven")


class Publication(Contract):
    """What everybody needs to know of a chunk, or of the film, that is finished; workers know more."""

    files: tuple[FileRecord, ...] = ()


@dataclass(frozen=True)
class Record:
    """A record of a job.

    Args:
        key: The chunk's, or `film`.
        location: Where it stands.
        publication: What it says; None where it cannot be read.
    """

    key: str
    location: str
    publication: Publication | None

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """The published files."""
        return self.publication.files if self.publication else ()


class JobRecords:
    """The folder of a job in its store, as clients read it.

    Args:
        store: The store.
        job_id: The job.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        self.store = store
        self.job_id = check_job_id(job_id)
        self.folder = f"{store.url}/{BOOKKEEPING_FOLDER}/{job_id}"

    @property
    def is_there(self) -> bool:
        """Whether anything of the job is in the store."""
        return any(True for _ in self.store.folders(self.folder)) or bool(self.store.names(self.folder))

    def job(self) -> RenderJobSpec | None:
        """Return the job as it was accepted; None where it was not, or is not to be read."""
        try:
            return RenderJobSpec.model_validate_json(self.store.read(f"{self.folder}/job.json"))
        except (FileNotFoundError, ValidationError):
            return None

    def film(self) -> Record | None:
        """Return the record of the film, if there is one."""
        location = f"{self.folder}/film.json"
        return self._record(("film", location)) if self.store.stat(location) else None

    def finished(self) -> Iterator[Record]:
        """Yield the records of the finished chunks, and last the film's."""
        yield from self._records(self._in_folder("chunks"))
        if (film := self.film()) is not None:
            yield film

    def begun(self) -> Iterator[Record]:
        """Yield the records of what was being published when its worker died."""
        finished = {key for key, _ in self._in_folder("chunks")}
        if self.store.stat(f"{self.folder}/film.json"):
            finished.add("film")
        yield from self._records(one for one in self._in_folder("claims") if one[0] not in finished)

    def outputs(self, job: RenderJobSpec) -> Iterator[str]:
        """Yield the locations that a job publishes to, by what it says itself."""
        plan = ChunkPlan(job, self._chunk_list() if job.chunk_list is not None else ())
        paths = (path for chunk in plan for path in chunk.outputs())
        for path in chain(paths, () if job.output is None else (expand(job.output, {}),)):
            try:
                yield self.store.locate(path)
            except ValueError:
                # Such a job was never accepted.
                continue

    def _chunk_list(self) -> tuple[ChunkSpec, ...]:
        try:
            return read_chunk_list(self.store.read(f"{self.folder}/list.json"), "list.json")
        except (FileNotFoundError, BadJobError):
            return ()

    def _in_folder(self, name: str) -> Iterator[tuple[str, str]]:
        folder = f"{self.folder}/{name}"
        for file in self.store.names(folder):
            if file.endswith(".json"):
                yield file.removesuffix(".json"), f"{folder}/{file}"

    def _records(self, found: Iterable[tuple[str, str]]) -> Iterator[Record]:
        rest = iter(found)
        while batch := list(islice(rest, _BATCH)):
            yield from map_parallel(self.store, self._record, batch)

    def _record(self, found: tuple[str, str]) -> Record:
        key, location = found
        try:
            return Record(key, location, Publication.model_validate_json(self.store.read(location)))
        except (FileNotFoundError, ValidationError):
            return Record(key, location, None)


def neighbours(store: Store, job_id: str) -> Iterator[JobRecords]:
    """Yield the other jobs of a store."""
    for name in store.folders(f"{store.url}/{BOOKKEEPING_FOLDER}"):
        if name not in (job_id, INPUTS):
            try:
                yield JobRecords(store, name)
            except BadJobError:
                # No job has such a folder.
                continue


def path_in_store(store: Store, location: str) -> str | None:
    """Return the path of a published file below its store; None where a record leads elsewhere.

    Records are files that others may have written: what leads out of the store, or to what Longtake keeps there
    itself, is not believed.
    """
    inside = location.removeprefix(f"{store.url.rstrip('/')}/")
    if inside == location or BOOKKEEPING_FOLDER in inside.split("/"):
        return None
    try:
        check_input_path(inside)
    except ValueError:
        return None
    return inside


def is_plain(location: str) -> bool:
    """Tell whether a location outside of the store is at least an absolute path without detours."""
    return location.startswith("/") and os.path.normpath(location) == location

"""Find the files that a job has published, for lists and by their paths."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from pydantic import BaseModel, Field, ValidationError

from longtake.stores.job_layout import chunk_key, find_film_number
from longtake.stores.job_records import JobRecords
from longtake.stores.publications import Publication, PublishedFile, path_in_store
from longtake.stores.segments import SegmentRecords
from longtake.stores.store import OversizedFileError

# Files whose records are remembered: a player asks for the same one again and again, in ranges.
_MOST_REMEMBERED = 4096


class Output(BaseModel):
    """A file that a job has published."""

    path: str = Field(description="path below the job's store")
    size_bytes: int
    sha256: str
    chunk: int | None = Field(default=None, description="the chunk that made it; None: it is a film")
    kind: str = Field(description="film or chunk")


class PublishedFiles:
    """Find published files by their paths, and remember them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], PublishedFile] = OrderedDict()
        self._lock = threading.Lock()

    def find(
        self, records: JobRecords, path: str, *, chunk: int | None = None, anew: bool = False
    ) -> PublishedFile | None:
        """Return the record of the file that a job has published at a path of its store. Blocking.

        Args:
            records: The job.
            path: The path.
            chunk: The chunk whose output it is, where that is known: no other record is read then.
            anew: Whether what is remembered is wrong: the file is another one by now.
        """
        key = (records.path, path)
        with self._lock:
            if not anew and key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        files = find_outputs(records) if chunk is None else iter(find_chunk_files(records, chunk_key(chunk)))
        file = next((file for output, file in files if output.path == path), None)
        with self._lock:
            if file is not None:
                self._known[key] = file
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return file


def find_outputs(records: JobRecords) -> Iterator[tuple[Output, PublishedFile]]:
    """Yield the published files of a job that lie in its store, films first. Blocking."""
    for record in chain(list(records.film_records()), (r for r in records.finished_records() if r.key.isdigit())):
        yield from _find_files(records, record.key, record.files)


def find_chunk_files(records: JobRecords, key: str) -> list[tuple[Output, PublishedFile]]:
    """Return the published files of one chunk, by a read of its sidecar or of the segments around it. Blocking.

    Args:
        records: The job.
        key: Key of the chunk, as in `000012`.
    """
    publication = None
    with suppress(FileNotFoundError, OversizedFileError):
        publication = _decode(records.store.read(records.sidecar_path(key)))
    if publication is None:
        segments = SegmentRecords(records.store, records.segments_dir, records.revoked_dir, _decode)
        found = segments.find(int(key))
        publication = found.record if found is not None and found.is_placed else None
    return list(_find_files(records, key, publication.files)) if publication is not None else []


def _decode(line: bytes) -> Publication | None:
    with suppress(ValidationError):
        record = Publication.model_validate_json(line)
        return record if record.key.isdigit() else None
    return None


def _find_files(
    records: JobRecords, key: str, files: Iterable[PublishedFile]
) -> Iterator[tuple[Output, PublishedFile]]:
    """Yield those of some files that lie in the store of the job: records of others may name anything."""
    is_film = find_film_number(key) is not None
    for file in files:
        path = path_in_store(records.store, file.path)
        if path is not None:
            output = Output(
                path=path,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                chunk=None if is_film else int(key),
                kind="film" if is_film else "chunk",
            )
            yield output, file

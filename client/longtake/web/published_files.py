"""Find the files that a job has published, for lists and by their paths."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from pydantic import BaseModel, Field

from longtake.stores.job_records import JobRecords, PublishedFile, find_film_number, path_in_store

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

    def find(self, records: JobRecords, path: str, *, anew: bool = False) -> PublishedFile | None:
        """Return the record of the file that a job has published at a path of its store. Blocking.

        Args:
            records: The job.
            path: The path.
            anew: Whether what is remembered is wrong: the file is another one by now.
        """
        key = (records.path, path)
        with self._lock:
            if not anew and key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        file = next((file for output, file in find_outputs(records) if output.path == path), None)
        with self._lock:
            if file is not None:
                self._known[key] = file
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return file


def find_outputs(records: JobRecords) -> Iterator[tuple[Output, PublishedFile]]:
    """Yield the published files of a job that lie in its store, films first; records of others may name anything."""
    films = list(records.film_records())
    chunks = (record for record in records.finished_records() if record.key.isdigit())
    for record in chain(films, chunks):
        is_film = find_film_number(record.key) is not None
        for file in record.files:
            path = path_in_store(records.store, file.path)
            if path is not None:
                yield (
                    Output(
                        path=path,
                        size_bytes=file.size_bytes,
                        sha256=file.sha256,
                        chunk=None if is_film else int(record.key),
                        kind="film" if is_film else "chunk",
                    ),
                    file,
                )

"""Delete the files that a job has published, then its records, and nothing else."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from longtake.models.job import RenderJobSpec
from longtake.stores.factory import open_client_store
from longtake.stores.job_layout import ASIDE, FILM, JOB_FILE, LIST_FILE, OTHERS
from longtake.stores.job_records import JobRecords, find_publishers
from longtake.stores.publications import PublishedFile, Record, is_as_published, is_plain_path, path_in_store
from longtake.stores.store import Store, map_parallel
from longtake.transfer.progress import OnProgress, ProgressCounter

# Files of a job that mark its existence: removed last and in this order, so that a deletion cut short can go on.
_REMOVED_LAST = (f"{FILM}.json", LIST_FILE, JOB_FILE)


@dataclass(frozen=True)
class DeleteResult:
    """Report what a deletion removed.

    Args:
        files: Number of published files that were removed.
        size_bytes: Size of those files.
        records: Number of files of the job's own folder that were removed, logs included.
        record_bytes: Size of those files.
        left: Sentences on files that stay although the job names them: files of other jobs, or changed ones.
        aside: Folder with files that were set aside for the job; None if there are none.
    """

    files: int = 0
    size_bytes: int = 0
    records: int = 0
    record_bytes: int = 0
    left: tuple[str, ...] = ()
    aside: str | None = None


def delete_job(
    url: str,
    job_id: str,
    *,
    job: RenderJobSpec | None = None,
    on_progress: OnProgress = lambda _: None,
    stop: threading.Event | None = None,
) -> DeleteResult:
    """Delete the files that an ended job has published, then its records. Blocking.

    A file is removed if it has the content that the job published and no other job of the store has published it too.
    Inputs stay, because jobs share them, and so do files that were in the way or damaged. Safe to repeat: the next call
    finishes one that was cut short.

    Args:
        url: URL of the job's store.
        job_id: Id of the job.
        job: The job from a source that is trusted more than its store; only files that it names are removed from
            outside the store.
        on_progress: Called with each new total.
        stop: Event that ends the deletion between two files.

    Raises:
        StoreUnusableError: A file could not be read or removed; its record is still there.
    """
    with open_client_store(url, stop) as store:
        return _Deletion(JobRecords(store, job_id), job, ProgressCounter(on_progress, stop)).run()


class _Deletion:
    """Carry out one call of `delete_job`."""

    def __init__(self, records: JobRecords, job: RenderJobSpec | None, counter: ProgressCounter) -> None:
        self._records = records
        self._store = records.store
        self._job = job
        self._counter = counter
        self._left: list[str] = []

    def run(self) -> DeleteResult:
        published = list(self._records.all_records())
        files = self._find_removable(published)
        self._counter.add(files=len(files), size_bytes=sum(file.size_bytes for file in files.values()))
        publishers = find_publishers(files, self._store, exclude=self._records.job_id)
        gone = map_parallel(self._store, lambda file: self._remove(file, publishers.get(file.path)), files.values())
        if self._store.is_local:
            _remove_emptied(Path(self._store.url), {os.path.dirname(file.path) for file in files.values()})
        count, size = self._remove_bookkeeping()
        aside = self._records.aside_dir
        return DeleteResult(
            files=sum(size is not None for size in gone),
            size_bytes=sum(size or 0 for size in gone),
            records=count,
            record_bytes=size,
            left=tuple(self._left),
            aside=aside if self._store.names(aside) else None,
        )

    def _find_removable(self, records: Iterable[Record]) -> dict[str, PublishedFile]:
        """Return the published files that lie in the store or are named by the trusted job; note all others."""
        removable: dict[str, PublishedFile] = {}
        trusted: frozenset[str] | None = None
        for record in records:
            if record.publication is None:
                self._left.append(f"{record.location} is no record that can be read, and what it named is not known")
            for file in record.files:
                if path_in_store(self._store, file.path) is None:
                    if trusted is None:
                        trusted = frozenset(self._records.output_locations(self._job) if self._job else ())
                    if not (self._store.is_local and is_plain_path(file.path) and file.path in trusted):
                        self._left.append(f"{file.path} lies outside the store")
                        continue
                removable[file.path] = file
        return removable

    def _remove(self, file: PublishedFile, publisher: str | None) -> int | None:
        """Remove a file unless it is shared or changed; return its size, None if it stays or is gone."""
        self._counter.add()
        there = self._store.stat(file.path)
        removed = None
        if there is not None and publisher is not None:
            self._left.append(f"{file.path} is a file of job {publisher} too")
        elif there is not None and not is_as_published(self._store, there, file):
            self._left.append(f"{file.path} is not what the job published")
        elif there is not None:
            self._store.remove(file.path)
            removed = there.size_bytes
        self._counter.add(done_files=1, done_bytes=file.size_bytes)
        return removed

    def _remove_bookkeeping(self) -> tuple[int, int]:
        """Remove the records and logs of the job; return the number of files and their size."""
        folder, count, size = self._records.path, 0, 0
        # What was in the way or damaged may be somebody's; what a renderer made besides its outputs is the job's.
        own = [name for name in self._store.folders(folder) if name != ASIDE]
        for name in (*own, f"{ASIDE}/{OTHERS}"):
            files, bytes_of_them = _measure(self._store, f"{folder}/{name}")
            self._store.remove_all(f"{folder}/{name}")
            count, size = count + files, size + bytes_of_them
        found = {file.name: file for file in self._store.files(folder)}
        for name in sorted(found, key=lambda name: (_REMOVED_LAST.index(name) if name in _REMOVED_LAST else -1, name)):
            self._counter.add()
            self._store.remove(found[name].location)
            count, size = count + 1, size + found[name].size_bytes
        if not self._store.names(self._records.aside_dir):
            # Unfinished uploads and hidden files, which no listing shows.
            self._store.remove_all(folder)
        if self._store.is_local:
            with suppress(OSError):
                # The folder of all jobs is removed with the last one; it is not empty before.
                os.rmdir(os.path.dirname(folder))
        return count, size


def _measure(store: Store, folder: str) -> tuple[int, int]:
    """Return the number of files in a folder and in those below it, and their size, as far as they can be listed."""
    count = size = 0
    # A renderer may have taken away the permissions of a folder, which removal gives back.
    with suppress(PermissionError):
        for file in store.files(folder):
            count, size = count + 1, size + file.size_bytes
        for name in store.folders(folder):
            files, bytes_of_them = _measure(store, f"{folder}/{name}")
            count, size = count + files, size + bytes_of_them
    return count, size


def _remove_emptied(base: Path, folders: Iterable[str]) -> None:
    """Remove empty folders and then empty parents, up to the folder of the store, which stays."""
    for folder in sorted(map(Path, folders), key=lambda folder: len(folder.parts), reverse=True):
        place = folder
        while base in place.parents:
            try:
                place.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                # The folder is not empty.
                break
            place = place.parent

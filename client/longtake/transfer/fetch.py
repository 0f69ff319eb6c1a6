"""Download the film, frames, chunk files and logs of a job into a folder, each proven by its digest."""

import hashlib
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from longtake.errors import BadJobError, LongtakeError
from longtake.models.job import RenderJobSpec
from longtake.stores.directory import DirectoryStore, file_digest
from longtake.stores.factory import open_client_store
from longtake.stores.job_layout import LOGS, find_film_number
from longtake.stores.job_records import JobRecords
from longtake.stores.publications import PublishedFile, Record, is_plain_path, path_in_store
from longtake.stores.store import Store, StoreError, map_parallel
from longtake.transfer.progress import OnProgress, ProgressCounter

# Prefix of the folders for files that are not whole yet; the process id follows.
_PARTIAL_PREFIX = ".longtake-fetch-"

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Download:
    """A file of a store and the local path that it is downloaded to.

    Args:
        location: Location of the file in the store.
        target: Local path.
        size_bytes: Size of the file.
        sha256: SHA-256 of the content; None for logs, which may still grow.
        modified_ns: Time of the last modification of a log, which its local copy gets too.
    """

    location: str
    target: Path
    size_bytes: int
    sha256: str | None = None
    modified_ns: int = 0

    @property
    def is_here(self) -> bool:
        """Whether the local file exists with the right content."""
        try:
            status = self.target.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if status.st_size != self.size_bytes or not self.target.is_file():
            return False
        if self.sha256 is None:
            return status.st_mtime_ns == self.modified_ns
        return file_digest(self.target) == self.sha256

    @property
    def is_blocked(self) -> bool:
        """Whether another file has the local path; an older copy of a log may be replaced and does not count."""
        return self.sha256 is not None and os.path.lexists(self.target)


@contextmanager
def make_partial_folder(folder: Path) -> Iterator[Path]:
    """Make a folder, and in it one for files that are not whole yet, which is removed at the end.

    Raises:
        BadJobError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        place = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL_PREFIX}{os.getpid()}-", dir=folder))
    except OSError as error:
        raise BadJobError(f"{folder} cannot be written ({error.strerror}); name another folder") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def download_file(store: Store, file: Download, partial_folder: Path, *, force: bool) -> None:
    """Download a file to its local path, whole or not at all, and prove its SHA-256.

    Args:
        store: Store of the file.
        file: The file and its local path.
        partial_folder: Folder for files that are not whole yet, on the file system of the target.
        force: Replace another file that has the local path.

    Raises:
        FileNotFoundError: The file is not in the store.
        StoreError: The file has another content there.
        BadJobError: The local path cannot be written, or another file has it.
    """
    partial_file = partial_folder / secrets.token_hex(8)
    found = store.download(file.location, partial_file, sha256=file.sha256)
    if found != partial_file:
        # A directory store returns the file itself, unproven.
        digest = _copy(found, partial_file)
        if file.sha256 not in (None, digest):
            raise StoreError("has another content than was published", file.location)
    if file.modified_ns:
        os.utime(partial_file, ns=(file.modified_ns, file.modified_ns))
    try:
        file.target.parent.mkdir(parents=True, exist_ok=True)
        if force or file.sha256 is None:
            partial_file.replace(file.target)
        elif not DirectoryStore(partial_folder).put(partial_file, str(file.target)):
            raise make_conflict_error(file.target)
    except OSError as error:
        raise BadJobError(f"{file.target} cannot be written ({error.strerror}); name another folder") from error


def make_conflict_error(target: Path, *, others: int = 0) -> BadJobError:
    """Return the error for another file that has the path of a download.

    Args:
        target: Local path of the download.
        others: Number of further conflicts.
    """
    more = f", and {others:,} more like it" if others else ""
    return BadJobError(
        f"{target} is another file than the job's{more}; fetch into another folder, or replace it by --force"
    )


def _copy(source: Path, target: Path) -> str:
    """Copy a file; return the SHA-256 of the copied bytes."""
    digest = hashlib.sha256()
    with source.open("rb") as readable, target.open("xb") as writable:
        while piece := readable.read(_PIECE_BYTES):
            digest.update(piece)
            writable.write(piece)
    return digest.hexdigest()


def _sweep(folder: Path) -> None:
    """Remove the unfinished files of fetches on this host that were killed."""
    for left in folder.glob(f"{_PARTIAL_PREFIX}*-*"):
        pid = left.name.removeprefix(_PARTIAL_PREFIX).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class FetchResult:
    """Report what a fetch downloaded.

    Args:
        files: Number of files of the job that are here now.
        size_bytes: Size of those files.
        new_files: Number of files that this fetch downloaded.
        new_bytes: Size of the downloaded files.
        film: Local path of the film, or the first of several; None if the job has none.
        lost: Sentences on files that were not fetched, because they are not in the store as they were published.
    """

    files: int
    size_bytes: int
    new_files: int
    new_bytes: int
    film: Path | None
    lost: tuple[str, ...]


def fetch_job(
    url: str,
    job_id: str,
    into: Path,
    *,
    job: RenderJobSpec | None = None,
    film_only: bool = False,
    logs: bool = True,
    force: bool = False,
    on_progress: OnProgress = lambda _: None,
    stop: threading.Event | None = None,
) -> FetchResult:
    """Download films, frames, chunk files and logs of a job into a folder, each proven by its SHA-256. Blocking.

    Files get the paths that they have in the store; logs go into `logs/`. Files that are here with the right content
    are not fetched again, so that the same call continues where an earlier one ended.

    Args:
        url: URL of the job's store.
        job_id: Id of the job.
        into: The folder; made if need be. Nothing is written outside of it.
        job: The job from a source that is trusted more than its store; only files that it names are fetched from
            outside the store.
        film_only: Fetch the films only.
        logs: Fetch the logs too.
        force: Replace files that stand in the way.
        on_progress: Called with each new total.
        stop: Event that ends the fetch between two files.

    Raises:
        BadJobError: Other files stand in the way, or the folder cannot be written; nothing was fetched.
        StoreUnusableError: The store cannot be read from here.
        LongtakeError: There is nothing to fetch.
    """
    counter = ProgressCounter(on_progress, stop)
    with open_client_store(url, stop) as store:
        fetch = _Fetch(JobRecords(store, job_id), into, job, counter, force=force)
        wanted = list(fetch.find_film() if film_only else fetch.find_all(logs=logs))
        if not wanted and not fetch.lost:
            what = "film" if film_only else "finished chunk and no log"
            raise LongtakeError(f"there is no {what} of {job_id} in {store.url}")
        counter.add(files=len(wanted), size_bytes=_bytes(wanted))
        missing = fetch.find_missing(wanted)
        fetched = fetch.download(missing) if missing else []
    return FetchResult(
        files=len(wanted) - len(missing) + len(fetched),
        size_bytes=_bytes(wanted) - _bytes(missing) + _bytes(fetched),
        new_files=len(fetched),
        new_bytes=_bytes(fetched),
        film=fetch.film,
        lost=tuple(fetch.lost),
    )


class _Fetch:
    """Carry out one call of `fetch_job`."""

    def __init__(
        self, records: JobRecords, into: Path, job: RenderJobSpec | None, counter: ProgressCounter, *, force: bool
    ) -> None:
        self._force = force
        self._records = records
        self._store = records.store
        self._into = Path(os.path.abspath(into))
        self._job = job
        self._counter = counter
        self._trusted: frozenset[str] | None = None
        self.film: Path | None = None
        self.lost: list[str] = []

    def find_film(self) -> Iterator[Download]:
        for record in self._records.film_records():
            yield from self._find_files(record)

    def find_all(self, *, logs: bool) -> Iterator[Download]:
        for record in self._records.finished_records():
            if record.publication is None:
                self.lost.append(f"{record.location} is no record that can be read")
            yield from self._find_files(record)
        if logs:
            for log in self._store.files(self._records.logs_dir):
                yield Download(log.location, self._into / LOGS / log.name, log.size_bytes, None, log.modified_ns)

    def _find_files(self, record: Record) -> Iterator[Download]:
        for file in record.files:
            if (wanted := self._wanted(file)) is not None:
                if find_film_number(record.key) is not None and self.film is None:
                    self.film = wanted.target
                yield wanted

    def find_missing(self, wanted: list[Download]) -> list[Download]:
        """Return the files that are not here; count those that are here as done."""
        missing, blocked = [], []
        for file, is_here in zip(wanted, map_parallel(self._store, self._is_here, wanted), strict=True):
            if is_here:
                self._counter.add(done_files=1, done_bytes=file.size_bytes)
                continue
            missing.append(file)
            if file.is_blocked:
                blocked.append(file.target)
        if blocked and not self._force:
            raise make_conflict_error(blocked[0], others=len(blocked) - 1)
        return missing

    def download(self, missing: list[Download]) -> list[Download]:
        """Download files; return those that could be downloaded."""
        with make_partial_folder(self._into) as place:
            fetched = map_parallel(self._store, partial(self._download, place), missing)
        return [file for file, is_here in zip(missing, fetched, strict=True) if is_here]

    def _wanted(self, file: PublishedFile) -> Download | None:
        inside = path_in_store(self._store, file.path)
        if inside is None and is_plain_path(file.path) and self._is_named(file.path):
            inside = file.path.lstrip("/")
        target = self._into / inside if inside is not None else None
        if target is None or not self._is_inside(target):
            self.lost.append(f"{file.path} leads out of the folder; fetch it by hand if it is yours")
            return None
        return Download(file.path, target, file.size_bytes, file.sha256)

    def _is_named(self, location: str) -> bool:
        if self._trusted is None:
            self._trusted = frozenset(self._records.output_locations(self._job) if self._job else ())
        return self._store.is_local and location in self._trusted

    def _is_inside(self, target: Path) -> bool:
        """Tell whether a path is below the folder, links followed."""
        return Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(self._into))

    def _is_here(self, file: Download) -> bool:
        self._counter.add()
        return file.is_here

    def _download(self, place: Path, file: Download) -> bool:
        """Download one file; return False, and note why, if the store does not have the file as it was published."""
        self._counter.add()
        try:
            download_file(self._store, file, place, force=self._force)
        except FileNotFoundError:
            # A log without a digest may have been rotated away, which is no loss.
            if file.sha256 is not None:
                self.lost.append(f"{file.location} is not there any more")
            return False
        except StoreError as error:
            if error.is_temporary:
                raise
            self.lost.append(str(error))
            return False
        self._counter.add(done_files=1, done_bytes=file.size_bytes)
        return True


def _bytes(files: list[Download]) -> int:
    return sum(file.size_bytes for file in files)

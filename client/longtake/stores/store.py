"""Define the interface of stores: exclusive creation, listing, reading and removal of files."""

import errno
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from longtake.concurrency import current_work
from longtake.text import format_bytes

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoreError(OSError):
    """A failed call of a store; nothing half-made is left in the store.

    Args:
        sentence: What happened and the fix, without any credential.
        location: File or folder that the call was about.
        is_temporary: Whether the same call may work later, because the store is away, slow or full.
    """

    def __init__(self, sentence: str, location: str, *, is_temporary: bool = False) -> None:
        super().__init__(0, sentence, location)
        self.sentence = sentence
        self.is_temporary = is_temporary

    def __str__(self) -> str:
        return f"{self.filename}: {self.sentence}"


class OversizedFileError(StoreError):
    """A file that is too large to be the record that it is named as; it was not read."""

    def __init__(self, location: str, size_bytes: int, most_bytes: int) -> None:
        size, most = format_bytes(size_bytes), format_bytes(most_bytes)
        super().__init__(f"is {size} long, and a record at most {most}; look who has written it", location)


# The longest record of a chunk names 100,000 image files.
LARGEST_RECORD_BYTES = 64 * 2**20

# Errors of a disk or a share that is full, read-only or away, and the sentence for each. Once somebody has mended that,
# the same call works.
_AWAY = {
    errno.ENOSPC: "its disk is full; make room",
    errno.EDQUOT: "the quota of this account is used up; make room, or raise it",
    errno.EROFS: "its file system is read-only; look at its disk, and mount it for writing",
    errno.EIO: "its disk or share reports errors (EIO); look at it",
    errno.ESTALE: "its share was exchanged on the server (stale file handle); mount it again",
    errno.ENOTCONN: "its share is not connected; mount it again",
    errno.ETIMEDOUT: "its share does not answer; look at its server",
    errno.EHOSTDOWN: "the server of its share is down",
    errno.EHOSTUNREACH: "the server of its share is not reached",
}


def find_away_error(error: OSError, location: str = "the store") -> StoreError | None:
    """Return the error of a disk or store that is full, read-only or away, where this is one; None for all others.

    EIO that no call of a store has met is none: one file cannot be read, and waiting mends no disk.
    """
    if isinstance(error, StoreError):
        return error if error.is_temporary else None
    return None if error.errno == errno.EIO else _make_away_error(error, location)


def _make_away_error(error: OSError, location: str) -> StoreError | None:
    if error.errno not in _AWAY:
        return None
    return StoreError(_AWAY[error.errno], str(error.filename or location), is_temporary=True)


@contextmanager
def store_call(location: str) -> Iterator[None]:
    """Make one call of a store: not after a stop of the work it belongs to, and with the errors of a store.

    Raises:
        StoreError: The work was stopped; or the block met a disk or share that is full, read-only or away.
    """
    work = current_work()
    try:
        if work is None:
            yield
            return
        if work.is_stopped:
            raise StoreError("was interrupted before it was done", location, is_temporary=True)
        with work.time_call():
            yield
    except StoreError:
        raise
    except OSError as error:
        away = _make_away_error(error, location)
        if away is None:
            raise
        raise away from error


@dataclass(frozen=True)
class StoredFile:
    """Metadata of a file of a store.

    Args:
        location: Location of the file.
        size_bytes: Size of the file.
        modified_ns: Time of the last modification, in ns since 1970.
        identity: Identifier that two names of one file share (device and inode); None in buckets.
        sha256: SHA-256 that the store keeps with the file; None where only reading the file tells.
    """

    location: str
    size_bytes: int
    modified_ns: int
    identity: str | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Name of the file in its folder."""
        return self.location.rpartition("/")[2]


class Store(Protocol):
    """Read and write the files of a directory or a bucket; each file appears whole or not at all.

    A *location* names a file or folder, as records do: an absolute path in a directory, an `s3://bucket/key` URL in a
    bucket. Folders need not be made. All methods block and may be called from many threads. Each raises
    `FileNotFoundError` for a missing file that must exist, and `StoreError` or another `OSError` for other failures.
    """

    # URL of the store: an absolute path or `s3://bucket/prefix`.
    url: str
    # Whether the files are files of this host, so that programs can read and write them in place.
    is_local: bool
    # Number of calls at the same time that makes the store fastest.
    parallel: int

    def locate(self, path: str) -> str:
        """Return the location of a path that a job names, with `..` and `.` resolved.

        Raises:
            ValueError: The path leads out of the store; `is ...; the fix`, without the field's name.
        """
        ...

    def local(self, location: str) -> Path:
        """Return the local path where this host prepares a file for a location: the location itself in a directory."""
        ...

    def read(self, location: str, *, most_bytes: int = LARGEST_RECORD_BYTES) -> bytes:
        """Return the content of a small file.

        Raises:
            OversizedFileError: It has more bytes than it may have; it was not read.
        """
        ...

    def read_part(self, location: str, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)` of a file, fewer or none where it ends before; the file may be growing."""
        ...

    def stat(self, location: str) -> StoredFile | None:
        """Return the metadata of a file; None if there is no such file."""
        ...

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Yield the files directly in a folder, sorted by name, without those that are still being written."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the files directly in a folder, sorted, without reading the metadata of each file."""
        ...

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the names of the folders directly in a folder, sorted."""
        ...

    def create(self, location: str, content: bytes) -> bool:
        """Create a small file; return False if the name is taken. Of many callers at once exactly one gets True."""
        ...

    def replace(self, location: str, content: bytes) -> None:
        """Write a small file in place of any other; readers see the old content or the new one."""
        ...

    def put(self, file: Path, location: str, *, sha256: str | None = None) -> bool:
        """Put a complete local file into the store under a new name; return False if the name is taken.

        A file that lies at the location already is left as it is, and counts as put.

        Args:
            file: The file.
            location: Location of the new file.
            sha256: SHA-256 of the file, if known: a store that keeps digests then need not read the file for it.
        """
        ...

    def copy(self, source: str, target: str) -> bool:
        """Copy a file to a new name within the store; return False if the name is taken."""
        ...

    def download(self, location: str, into: Path, *, sha256: str | None = None) -> Path:
        """Download a file and prove its digest; return its local path. A directory returns the file itself, unproven.

        Args:
            location: The file.
            into: Local path to download to; an older file there is replaced.
            sha256: SHA-256 that the content must have, if known; checked during the download.

        Raises:
            StoreError: The file has another content, or the local disk is full; nothing is left at `into`.
        """
        ...

    def digest(self, location: str) -> str:
        """Return the SHA-256 of a file: the one that the store keeps, or else computed from all bytes of the file."""
        ...

    def move(self, source: str, target: str) -> bool:
        """Rename a file within the store; return False if the new name is taken."""
        ...

    def remove(self, location: str) -> None:
        """Remove a file if there is one."""
        ...

    def remove_all(self, folder: str) -> None:
        """Remove a folder with all that is in it, also the local files that this host prepares for it."""
        ...

    def sync(self, folders: Iterable[str]) -> None:
        """Make the names of new files in these folders survive a power cut."""
        ...


class FolderListings:
    """Find the metadata of many files by one listing of each folder, and not by a call for each of them.

    Args:
        store: The store; what others change in a folder after its first listing is not seen.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folders: dict[str, dict[str, StoredFile]] = {}
        self._lock = threading.Lock()

    def find(self, location: str) -> StoredFile | None:
        """Return the metadata of a file; None if there was no such file at the listing of its folder."""
        folder, _, name = location.rpartition("/")
        with self._lock:
            if folder not in self._folders:
                self._folders[folder] = {file.name: file for file in self._store.files(folder)}
            return self._folders[folder].get(name)

    def forget(self, folder: str) -> None:
        """Forget the listing of a folder, in which files have been made since."""
        with self._lock:
            self._folders.pop(folder, None)

    def names(self, folder: str) -> Collection[str]:
        """Return the names of the files in a folder; in a directory without reading the metadata of each."""
        if self._store.is_local:
            return self._store.names(folder)
        self.find(f"{folder}/")
        return self._folders[folder]

    def is_untouched(self, location: str, record: StoredFile | None, size_bytes: int | None = None) -> bool:
        """Tell whether a file of a bucket was not written to since the record of its publication was.

        Both times come from the clock of the service, and a record is written after all of its files. Where this says
        no, only the file itself can tell. A directory's times say nothing: renderers set them.

        Args:
            location: Location of the file.
            record: Metadata of the sidecar of its chunk.
            size_bytes: Size that it must have, if known.
        """
        if self._store.is_local or record is None:
            return False
        there = self.find(location)
        if there is None or size_bytes not in (None, there.size_bytes):
            return False
        return there.modified_ns <= record.modified_ns


def map_parallel(store: Store, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call a function for each item in threads, as many as make the store fastest; return the results in order.

    The first error is raised once the calls that have begun have ended; no further call begins after an error.
    """
    listed = list(items)
    if store.parallel == 1 or len(listed) < 2:
        return [work(item) for item in listed]
    with ThreadPoolExecutor(min(store.parallel, len(listed)), thread_name_prefix="store") as pool:
        # Each in a context of its own: two threads cannot enter the same one.
        futures = [pool.submit(copy_context().run, work, item) for item in listed]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

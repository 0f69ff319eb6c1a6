"""Files of a store on their way into a folder of this host: whole or not at all, and never over another file."""

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import BadJobError
from longtake.stores.directory import DirectoryStore, file_digest
from longtake.stores.store import Store, StoreError

# Folders of files that are not whole yet.
_COMING = ".longtake-fetch-"

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Arrival:
    """A file of a store and its place here.

    Args:
        location: The file.
        target: Its place.
        size_bytes: How many bytes it has.
        sha256: Digest of its content; logs, which grow, have none.
        modified_ns: When a log was written last, which its file here shows too.
    """

    location: str
    target: Path
    size_bytes: int
    sha256: str | None = None
    modified_ns: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it has arrived before."""
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
        """Whether something stands at its place that must not be lost; an older state of the same log may be."""
        return self.sha256 is not None and os.path.lexists(self.target)


@contextmanager
def arrivals(folder: Path) -> Iterator[Path]:
    """Make the folder, and in it one for files that are not whole yet, which is gone at the end.

    Raises:
        BadJobError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        place = Path(tempfile.mkdtemp(prefix=f"{_COMING}{os.getpid()}-", dir=folder))
    except OSError as error:
        raise BadJobError(f"{folder} cannot be written ({error.strerror}); name another folder") from error
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def bring(store: Store, arrival: Arrival, place: Path, *, force: bool) -> None:
    """Bring a file to its place, proven by its digest.

    Args:
        store: Where it is.
        arrival: The file.
        place: A folder for files that are not whole yet.
        force: Replace what stands at its place.

    Raises:
        FileNotFoundError: It is not in the store.
        StoreError: It has another content there.
        BadJobError: Its place cannot be written, or another file stands there.
    """
    coming = place / secrets.token_hex(8)
    found = store.bring(arrival.location, coming, sha256=arrival.sha256)
    if found != coming:
        # A directory store gives the file itself, and believes what is in it.
        digest = _copy(found, coming)
        if arrival.sha256 not in (None, digest):
            raise StoreError("has another content than was published", arrival.location)
    if arrival.modified_ns:
        os.utime(coming, ns=(arrival.modified_ns, arrival.modified_ns))
    try:
        arrival.target.parent.mkdir(parents=True, exist_ok=True)
        if force or arrival.sha256 is None:
            coming.replace(arrival.target)
        elif not DirectoryStore(place).put(coming, str(arrival.target)):
            raise in_the_way(arrival.target)
    except OSError as error:
        raise BadJobError(f"{arrival.target} cannot be written ({error.strerror}); name another folder") from error


def in_the_way(target: Path, *, others: int = 0) -> BadJobError:
    """Return the error for what stands where files must come."""
    more = f", and {others:,} more like it" if others else ""
    return BadJobError(
        f"{target} is another file than the job's{more}; fetch into another folder, or replace it by --force"
    )


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as readable, target.open("xb") as writable:
        while piece := readable.read(_PIECE_BYTES):
            digest.update(piece)
            writable.write(piece)
    return digest.hexdigest()


def _sweep(folder: Path) -> None:
    """Remove what a fetch that was killed on this host has left of unfinished files."""
    for left in folder.glob(f"{_COMING}*-*"):
        pid = left.name.removeprefix(_COMING).partition("-")[0]
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

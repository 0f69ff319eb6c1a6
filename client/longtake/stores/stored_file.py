"""Open a file of a store for a server: it is read piece by piece, and is where it seems to be."""

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.paths import is_bookkeeping
from longtake.stores.store import Store


@dataclass(frozen=True)
class OpenFile:
    """A file of a store that is open.

    Args:
        size_bytes: Its size when it was opened.
        modified_ns: When it was last written, in ns since 1970.
        sha256: Its digest, where the store keeps one.
        location: Where it is.
        store: The store.
        descriptor: Descriptor of a file of this host.
    """

    size_bytes: int
    modified_ns: int
    sha256: str | None
    location: str
    store: Store
    descriptor: int | None = None

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)`, fewer where the file ends before."""
        if self.descriptor is None:
            return self.store.read_part(self.location, start, stop)
        return os.pread(self.descriptor, stop - start, start)

    def close(self) -> None:
        """Close the file; a second call is harmful."""
        if self.descriptor is not None:
            os.close(self.descriptor)


class OutsideError(OSError):
    """Raised for a file that is not where its name says: a link leads elsewhere."""


def open_stored(store: Store, location: str, folders: Sequence[str], *, bookkeeping: bool = False) -> OpenFile:
    """Open a file that a job has in its store. Blocking.

    Whoever may write to a folder may put a link there, which would show a server's own files to those who look at the
    job; so the file that was opened is asked where it is, not its name.

    Args:
        store: The store.
        location: The file.
        folders: Folders one of which the file must lie in, links followed; a bucket has no links.
        bookkeeping: Whether it may lie in Longtake's own folder.

    Raises:
        FileNotFoundError: There is no such file.
        OutsideError: It lies elsewhere, or is no regular file.
    """
    if not store.is_local:
        found = store.stat(location)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", location)
        return OpenFile(found.size_bytes, found.modified_ns, found.sha256, location, store)
    # A pipe would wait for its writer.
    descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        place = _find_place(descriptor, location)
        inside = any(place.is_relative_to(os.path.realpath(folder)) for folder in folders)
        hidden = not bookkeeping and any(map(is_bookkeeping, place.parts))
        if not stat.S_ISREG(status.st_mode) or not inside or hidden:
            raise OutsideError(errno.EPERM, "is no file of the job", location)
        return OpenFile(status.st_size, status.st_mtime_ns, None, location, store, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def opened(store: Store, location: str, folders: Sequence[str], *, bookkeeping: bool = False) -> Iterator[OpenFile]:
    """Open a file as `open_stored` does, and close it behind the block."""
    file = open_stored(store, location, folders, bookkeeping=bookkeeping)
    try:
        yield file
    finally:
        file.close()


def _find_place(descriptor: int, location: str) -> Path:
    """Return where an open file is, links resolved."""
    if sys.platform == "linux":
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    # Elsewhere the name is asked again, and must still be that of the same file.
    place = os.path.realpath(location)
    if not os.path.samestat(os.fstat(descriptor), os.stat(place, follow_symlinks=False)):
        raise OutsideError(errno.EPERM, "was exchanged while it was opened", location)
    return Path(place)

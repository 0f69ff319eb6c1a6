"""Define what every store offers: exclusive creation, listing, reading and removal of files."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoreError(OSError):
    """The store did not do what was asked, and nothing half-made is left in it.

    Args:
        sentence: What happened and the fix, without any credential.
        location: Where it happened.
        is_temporary: Whether it may work later as it is: the store is away, slow or full, and nothing needs mending.
    """

    def __init__(self, sentence: str, location: str, *, is_temporary: bool = False) -> None:
        super().__init__(0, sentence, location)
        self.sentence = sentence
        self.is_temporary = is_temporary

    def __str__(self) -> str:
        return f"{self.filename}: {self.sentence}"


@dataclass(frozen=True)
class StoredFile:
    """A file of a store."""

    location: str
    size_bytes: int
    # When it was written, in ns since 1970.
    modified_ns: int
    # What two names of one file share, where files can have two; None elsewhere.
    identity: str | None = None
    # Digest of its content as it was handed in, where the store keeps one; None where only reading it tells.
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Its name in its folder."""
        return self.location.rpartition("/")[2]


class Store(Protocol):
    """Files that appear whole or not at all, on this host or elsewhere.

    A *location* says where a file or folder lies, as records name it: an absolute path in a directory store, an
    `s3://bucket/key` URL in a bucket. Folders need not be made. All methods block and may be called from many
    threads; each raises `FileNotFoundError` for a file that must be there and is not, and `StoreError` or another
    `OSError` for what else goes wrong.
    """

    url: str
    # Whether its files are files of this host, so that programs can read and write them in place.
    is_local: bool
    # How many calls at once make it fastest.
    parallel: int

    def locate(self, path: str) -> str:
        """Return the location of a path as a job names it; `..` and `.` are taken out.

        Raises:
            ValueError: It leads out of the store; `is ...; the fix`, without the field's name.
        """
        ...

    def local(self, location: str) -> Path:
        """Return where this host writes what is to be put there: the place itself where the store is local."""
        ...

    def read(self, location: str) -> bytes:
        """Return the content of a small file."""
        ...

    def stat(self, location: str) -> StoredFile | None:
        """Return what is known of a file; None where there is none."""
        ...

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Return the files directly in a folder, sorted by name, without those that are still being written."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of the same files, without looking at each of them."""
        ...

    def folders(self, folder: str) -> Iterator[str]:
        """Return the names of the folders directly in a folder, sorted."""
        ...

    def create(self, location: str, content: bytes) -> bool:
        """Make a small file unless there is one; return whether it was made here. Of many who try, one makes it."""
        ...

    def replace(self, location: str, content: bytes) -> None:
        """Write a small file, whatever was there; readers see the old content or the new one."""
        ...

    def put(self, file: Path, location: str, *, sha256: str | None = None) -> bool:
        """Hand in a complete local file unless there is one of that name; return whether the name was free.

        What is handed in to the place where it lies already is left as it is.

        Args:
            file: The file.
            location: Its name there.
            sha256: Its digest, where it is known: a store that keeps one need not read the file for it.
        """
        ...

    def copy(self, source: str, target: str) -> bool:
        """Give a stored file another name unless that is taken; return whether it was free. No bytes pass here."""
        ...

    def download(self, location: str, into: Path, *, sha256: str | None = None) -> Path:
        """Return a local file with this content: its own place, or `into`, to which it is downloaded and proven.

        Args:
            location: The file.
            into: Where to put it; a file that is there is replaced.
            sha256: Digest that the content must have, where it is known; checked while it is downloaded.

        Raises:
            StoreError: It has another content, or the disk here is full; nothing is left at `into`.
        """
        ...

    def digest(self, location: str) -> str:
        """Return the SHA-256 of a file: the one the store vouches for, or that of all its bytes."""
        ...

    def move(self, source: str, target: str) -> bool:
        """Give a file another name instead of its own unless that is taken; return whether it was free."""
        ...

    def remove(self, location: str) -> None:
        """Remove a file, if it is there."""
        ...

    def remove_all(self, folder: str) -> None:
        """Remove a folder with all that is in it, also what this host holds locally for it."""
        ...

    def sync(self, folders: Iterable[str]) -> None:
        """Make names that were given in these folders survive a power cut."""
        ...


def map_parallel(store: Store, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return what the work makes of each item, in order, as many at once as the store likes.

    The first error is raised when what was begun has ended; what was not begun then is not begun.
    """
    listed = list(items)
    if store.parallel == 1 or len(listed) < 2:
        return [work(item) for item in listed]
    with ThreadPoolExecutor(min(store.parallel, len(listed)), thread_name_prefix="store") as pool:
        futures = [pool.submit(work, item) for item in listed]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

"""Store outputs in a directory that all rendering hosts share."""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from longtake.concurrency import current_work
from longtake.stores.store import LARGEST_RECORD_BYTES, OversizedFileError, StoredFile, StoreError, store_call

Method = TypeVar("Method", bound=Callable[..., object])

# A file is read in pieces of this size to be digested, so that a stop ends that.
_PIECE_BYTES = 1 << 20

# Errors of `link` where no hard link is possible: another file system, one without links, or too many links already.
_UNLINKABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def _call(method: Method) -> Method:
    """Make a method a call of a store, which takes the stop and has the errors of one; see `store_call`."""

    @wraps(method)
    def called(self: "DirectoryStore", location: str | Path, *args: object, **kwargs: object) -> object:
        with store_call(str(location)):
            return method(self, location, *args, **kwargs)

    return cast("Method", called)


class DirectoryStore:
    """Read and write the files of a shared directory; the methods are those of `Store`.

    Args:
        base: Absolute path of the directory.
    """

    is_local = True
    parallel = 1

    def __init__(self, base: Path) -> None:
        self.base = base
        self.url = str(base)

    def locate(self, path: str) -> str:
        """Return the location of a path that a job names."""
        return os.path.normpath(self.base / path)

    def local(self, location: str) -> Path:
        """Return the location itself as a path."""
        return Path(location)

    @_call
    def read(self, location: str, *, most_bytes: int = LARGEST_RECORD_BYTES) -> bytes:
        """Return the content of a small file."""
        with open(location, "rb") as file:
            # Of the file that is open, and pipes have no size.
            if (size := os.fstat(file.fileno()).st_size) > most_bytes:
                raise OversizedFileError(location, size, most_bytes)
            return file.read()

    @_call
    def read_part(self, location: str, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)` of a file."""
        with open(location, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(stop - start)

    @_call
    def stat(self, location: str) -> StoredFile | None:
        """Return the metadata of a file, links followed; None if there is no such file."""
        try:
            return _stored(location, os.stat(location))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Yield the files in a folder; hidden ones are still being written and left out."""
        yield from self._list_files(folder)

    @_call
    def _list_files(self, folder: str) -> list[StoredFile]:
        found = []
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                # Another worker may remove the file between the listing and its metadata.
                with suppress(FileNotFoundError):
                    if not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False):
                        found.append(_stored(entry.path, entry.stat()))
        return sorted(found, key=lambda file: file.location)

    @_call
    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, without reading the metadata of each file."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            shown = (entry for entry in entries if not entry.name.startswith("."))
            return sorted(entry.name for entry in shown if not entry.is_dir(follow_symlinks=False))
        return []

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the names of the folders in a folder."""
        yield from self._list_folders(folder)

    @_call
    def _list_folders(self, folder: str) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return []

    @_call
    def create(self, location: str, content: bytes) -> bool:
        """Create a file; return False if the name is taken."""
        partial = _write_partial(Path(location), content)
        try:
            return _link(partial, Path(location), sync=True)
        finally:
            partial.unlink(missing_ok=True)

    @_call
    def replace(self, location: str, content: bytes) -> None:
        """Write a file in place of any other."""
        partial = _write_partial(Path(location), content)
        try:
            partial.replace(location)
        finally:
            partial.unlink(missing_ok=True)

    @_call
    def put(self, file: Path, location: str, *, sha256: str | None = None) -> bool:
        """Link a file to a new name, or copy it where no hard link is possible; return False if the name is taken."""
        target = Path(location)
        if file == target:
            return True
        try:
            return _link(file, target, sync=False)
        except OSError as error:
            if error.errno not in _UNLINKABLE:
                raise
            # A copy that a crash cuts short is found by its digest, which callers write down before they put a file.
            return link_or_copy(file, target)

    @_call
    def copy(self, source: str, target: str) -> bool:
        """Link a file to a new name; return False if the name is taken."""
        return self.put(Path(source), target)

    @_call
    def download(self, location: str, into: Path, *, sha256: str | None = None) -> Path:
        """Return the file itself; its content is not proven."""
        path = Path(location)
        os.stat(path)
        return path

    def digest(self, location: str) -> str:
        """Return the SHA-256 of a file, read in pieces; a file that its disk cannot read raises a plain `OSError`."""
        return file_digest(Path(location))

    @_call
    def move(self, source: str, target: str) -> bool:
        """Rename a file; return False if the new name is taken."""
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        try:
            # The name is reserved first: another worker may be moving a file to it at the same time.
            Path(target).touch(exist_ok=False)
        except FileExistsError:
            return False
        try:
            shutil.move(source, target)
        except OSError:
            # The name that was reserved, or what a full disk has left of a copy.
            os.unlink(target)
            raise
        return True

    @_call
    def remove(self, location: str) -> None:
        """Remove a file if there is one."""
        Path(location).unlink(missing_ok=True)

    @_call
    def remove_all(self, folder: str) -> None:
        """Remove a folder with all that is in it."""
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.lexists(folder):
            # A renderer may have taken away permissions of folders that it made.
            _restore_permissions(folder)
            shutil.rmtree(folder, ignore_errors=True)

    def sync(self, folders: Iterable[str]) -> None:
        """Make the names of new files survive a power cut, which the fsync of the files does not."""
        for folder in folders:
            self._sync(folder)

    @_call
    def _sync(self, folder: str) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces.

    Raises:
        StoreError: The work of this thread was stopped.
    """
    with path.open("rb", buffering=0) as file:
        return digest_stream(file)


def digest_stream(file: FileIO | BinaryIO) -> str:
    """Return the SHA-256 of what is left to read of an open file.

    Raises:
        StoreError: The work of this thread was stopped.
    """
    work, digest = current_work(), hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
        if work is not None and work.is_stopped:
            raise StoreError("was interrupted before it was read", "a file", is_temporary=True)
    return digest.hexdigest()


def link_or_copy(source: Path, target: Path) -> bool:
    """Link a file to a new name, or copy it where no hard link is possible; return False if the name is taken.

    A crash may leave a copy incomplete: only for files whose digest is checked before they are used.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        try:
            writable = target.open("xb")
        except FileExistsError:
            return False
        try:
            with writable, source.open("rb") as readable:
                shutil.copyfileobj(readable, writable, 1 << 20)
        except BaseException:
            # Half a file, of a disk that is full, is nobody's.
            target.unlink(missing_ok=True)
            raise
    return True


def restore_access(folder: str) -> None:
    """Let this account list and change one folder of its own, whatever a renderer has done to its permissions."""
    with suppress(OSError):
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            os.chmod(folder, 0o700 | stat.S_IMODE(os.stat(folder).st_mode))


def _restore_permissions(folder: str) -> None:
    """Let this account list and change a folder and all folders below, where they are its own."""
    with suppress(OSError):
        os.chmod(folder, 0o700)
    for place, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                with suppress(OSError):
                    os.chmod(path, 0o700)


def _link(source: Path, target: Path, *, sync: bool) -> bool:
    """Give a complete file its final name; return False if the name is taken.

    A hard link either appears whole or fails with EEXIST, on local disks and on NFS alike. A rename would replace the
    file that has the name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _copy(source, target)
    if sync:
        DirectoryStore(target.parent).sync([str(target.parent)])
    return True


def _copy(source: Path, target: Path) -> bool:
    """Give a file of another file system its final name: copy it beside the target, then link the copy."""
    partial = _partial(target)
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # The time is kept because a published file with another time counts as changed.
        known = source.stat()
        os.utime(partial, ns=(known.st_atime_ns, known.st_mtime_ns))
        return _link(partial, target, sync=False)
    finally:
        partial.unlink(missing_ok=True)


def _write_partial(target: Path, content: bytes) -> Path:
    partial = _partial(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")


def _stored(location: str, status: os.stat_result) -> StoredFile:
    identity = f"{status.st_dev}:{status.st_ino}"
    return StoredFile(os.fspath(location), status.st_size, status.st_mtime_ns, identity)

"""Cache of the input files of jobs in buckets: download each once a host, and link it into a folder for each render."""

import errno
import hashlib
import logging
import os
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from activities.stores.job_folder import OpenJob
from activities.stores.scratch import file_lock
from longtake.concurrency import clean_up_in_thread, run_in_thread
from longtake.models.inputs import (
    LARGEST_MANIFEST_BYTES,
    InputBundle,
    InputFile,
    InputManifest,
    content_path,
    manifest_path,
)
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store, StoreError, map_parallel
from longtake.temporary_folder import lock_folder
from longtake.text import describe_invalid

_log = logging.getLogger(__name__)

# Of all contents, so that one that was written to is told by its time: 2001-09-09, which any tool can show.
_MODIFIED_NS = 10**9 * 10**9

# A disk that is full to the last byte troubles more than this cache.
_LEFT_FREE_BYTES = 64 * 2**20


StrPath = str | os.PathLike[str]


class InputContents:
    """The cached files, named by their digests.

    Args:
        folder: Folder of the cache.
        manifests: Folder of the manifests, whose times say when contents were used last.
        limit_bytes: Most bytes of all contents.
    """

    def __init__(self, folder: Path, manifests: Path, limit_bytes: int) -> None:
        self._folder = folder / "contents"
        self._locks = folder / "locks"
        self._manifests = manifests
        self._limit_bytes = limit_bytes

    def link(self, file: InputFile, target: str) -> bool:
        """Link a cached file into the folder of a render; return False where it is missing or damaged."""
        # Plain texts: 5,000 paths of pathlib's own take longer than the links.
        content = f"{self._folder}/{_name(file)}"
        try:
            is_link = _link_or_copy(content, target)
            # Looked at under its new name, which nobody takes away: what is in use is not evicted.
            status = os.stat(target if is_link else content)
            if status.st_size == file.size_bytes and status.st_mtime_ns == _MODIFIED_NS:
                if not is_link or status.st_mode & 0o777 != _mode(file):
                    _set_mode_and_time(target, file)
                return True
        except FileNotFoundError:
            pass
        with suppress(FileNotFoundError):
            os.unlink(target)
        return False

    def fetch(self, store: Store, file: InputFile, target: str, *, work: Path, stop: threading.Event) -> None:
        """Download a file into the cache, unless another attempt has done so by now, and link it.

        Args:
            store: The job's store.
            file: The file.
            target: Path of the link.
            work: Folder for the unfinished download.
            stop: Prevents the download when it is set.

        Raises:
            StoreError: The file cannot be downloaded; nothing of it is left here.
        """
        name = _name(file)
        try:
            with file_lock(self._locks / name, stop):
                if stop.is_set():
                    raise InterruptedError("told to stop before it began")
                if not self.link(file, target):
                    self._fetch(store, file, target, work / f"{name}.{secrets.token_hex(4)}")
        except InterruptedError as error:
            raise StoreError(f"was not fetched: {error}", file.path, is_temporary=True) from error

    def _fetch(self, store: Store, file: InputFile, target: str, coming: Path) -> None:
        location = store.locate(content_path(file.sha256))
        content = self._folder / _name(file)
        if content.exists():
            _log.warning("the input %s was damaged on this host by a render; it is fetched again", file.path)
        try:
            store.download(location, coming, sha256=file.sha256)
        except FileNotFoundError as error:
            problem = f"the input {file.path} is not there any more; submit the job again, which hands it in anew"
            raise StoreError(problem, location) from error
        if coming.stat().st_size != file.size_bytes:
            raise StoreError(f"the input {file.path} has not the size that its list says; submit anew", location)
        _set_mode_and_time(coming, file)
        # Lent before it is there for all: what is lent is not evicted.
        if not _link_or_copy(coming, target):
            _set_mode_and_time(target, file)
        content.parent.mkdir(parents=True, exist_ok=True)
        coming.replace(content)

    def make_room(self, wanted: Mapping[str, int] | None = None) -> None:
        """Remove the least recently used files until the wanted ones fit; never call this twice at once.

        Args:
            wanted: Sizes of the files to download, by name.

        Raises:
            StoreError: The disk has no room.
        """
        need = sum((wanted or {}).values())
        sizes = {entry.name: entry.stat() for entry in self._entries()}
        held = sum(status.st_size for status in sizes.values())
        free = shutil.disk_usage(self._folder.parent).free
        most = min(self._limit_bytes - need, held + free - need - (_LEFT_FREE_BYTES if need else 0))
        if held > most:
            used = self._last_used()
            for name in sorted(sizes, key=lambda name: used.get(name, 0)):
                if held <= most:
                    break
                # Two names: somebody's folder has it, and removing it here would free nothing.
                if sizes[name].st_nlink == 1:
                    (self._folder / name).unlink(missing_ok=True)
                    held -= sizes[name].st_size
        if need and need > (free := shutil.disk_usage(self._folder.parent).free):
            problem = f"has {free:,} bytes free, and inputs of a job take {need:,}; free some, or move LONGTAKE_SCRATCH"
            raise StoreError(problem, str(self._folder.parent), is_temporary=True)

    def _entries(self) -> list[os.DirEntry[str]]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            return list(entries)
        return []

    def _last_used(self) -> dict[str, int]:
        """Return when each content was used last, in ns; forget the manifests that have none of theirs here."""
        used: dict[str, int] = {}
        here = {entry.name for entry in self._entries()}
        for path in self._manifests.glob("*.json"):
            with suppress(FileNotFoundError):
                when = path.stat().st_mtime_ns
                try:
                    names = {_name(file) for file in InputManifest.model_validate_json(path.read_bytes()).files}
                except ValidationError:
                    names = set()
                if not names & here:
                    path.unlink()
                for name in names:
                    used[name] = max(when, used.get(name, 0))
        return used


def _link_or_copy(content: StrPath, target: StrPath) -> bool:
    """Give a file a second name, or a copy where no link can be had; return whether it is a link."""
    try:
        os.link(content, target)
        return True
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        # What is wrong with the disk and not with links shows here again.
        shutil.copyfile(content, target)
        return False


def _name(file: InputFile) -> str:
    # A program and a plain file of one content cannot share a file, because its permissions are the file's.
    return f"{file.sha256}.x" if file.executable else file.sha256


def _mode(file: InputFile) -> int:
    return 0o555 if file.executable else 0o444


def _set_mode_and_time(path: StrPath, file: InputFile) -> None:
    """Make a file as all contents are: read-only, and of one time."""
    os.chmod(path, _mode(file))
    os.utime(path, ns=(_MODIFIED_NS, _MODIFIED_NS))


class AttemptFolder:
    """The folder of one render, held by a lock on itself.

    Args:
        folder: The folder.
        descriptor: Holds the lock until it is closed.
    """

    def __init__(self, folder: Path, descriptor: int) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self.tree = folder / "tree"
        # For what is on its way here; on the same disk, and gone with the place.
        self.work = folder / "work"
        for part in (self.tree, self.work):
            part.mkdir()

    def clear(self) -> None:
        """Remove the folder with all of its files."""
        _remove(self._folder)
        os.close(self._descriptor)


class AttemptFolders:
    """The folders of all renders on this host.

    Args:
        folder: Their parent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self) -> AttemptFolder:
        """Make a new folder; never at the same time as `sweep`, which would remove it."""
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        descriptor = lock_folder(folder)
        assert descriptor is not None, "nobody else knows of a folder that was made just now"
        return AttemptFolder(folder, descriptor)

    def sweep(self) -> None:
        """Remove the folders whose processes have died."""
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if (descriptor := lock_folder(Path(entry.path))) is not None:
                    _remove(Path(entry.path))
                    os.close(descriptor)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, onerror=_make_removable)


def _make_removable(remove: Callable[..., Any], path: str, _: object) -> None:
    """Make a folder writable that a render has made read-only; what cannot be removed is left to a later sweep."""
    with suppress(OSError):
        for folder in (os.path.dirname(path), path):
            if not os.path.islink(folder) and os.path.isdir(folder):
                os.chmod(folder, 0o700)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


class InputCache:
    """The input files of jobs, on this host; processes that share the folder share what is in it.

    ```
    <folder>/contents/<sha256>       a file, read-only; with .x behind it where it is a program
             manifests/<sha256>.json what a bundle consists of; its time says when it was used last
             uses/<token>/           what one attempt runs in, held by a lock on itself while it does
             locks/                  one file for each content that is fetched now
    ```

    Each use gets a folder of its own, of second names (hard links) of the contents: what one render creates, renames
    or removes there, no other sees; 5,000 files take 0.1 s to lay out and to clear away. Contents can be damaged only
    by a render that overwrites an input in place, which takes root or a chmod, because they are read-only. All are
    given one time in the past, so that a damaged one is told by its time or size when it is used next, and fetched
    anew.

    Args:
        folder: Where they lie.
        limit_bytes: How much they may take; what was not used for longest goes first. What is in use stays, and may
            take more.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._manifests = folder / "manifests"
        self._lock = folder / "lock"
        self._folders = AttemptFolders(folder / "uses")
        self._contents = InputContents(folder, self._manifests, limit_bytes)
        self._swept = False

    @asynccontextmanager
    async def lay_out_in_thread(self, job: OpenJob) -> AsyncIterator[Path]:
        """Do as `lay_out` in a thread; a cancel ends it between two files."""
        if job.folder.store.is_local:
            yield Path(job.folder.store.url)
            return
        stop = threading.Event()
        with ExitStack() as stack:
            laid_out = self.lay_out(job, stop)
            try:
                yield await run_in_thread(lambda: stack.enter_context(laid_out), stop)
            finally:
                await clean_up_in_thread(stack.close)

    @contextmanager
    def lay_out(self, job: OpenJob, stop: threading.Event | None = None) -> Iterator[Path]:
        """Yield the folder in which commands of a job run, with its inputs; the folder is removed after the block.

        For a directory store that is the store itself, where inputs are in place already. Blocking.

        Args:
            job: The job.
            stop: Ends it between two files when it is set.

        Raises:
            StoreError: An input cannot be downloaded, has another content, or finds no room on this host.
        """
        store, bundle = job.folder.store, job.job.inputs
        if store.is_local:
            yield Path(store.url)
            return
        fetched = False
        with self._place() as place:
            if isinstance(bundle, InputBundle):
                try:
                    files = self._manifest(store, bundle.sha256).files
                    fetched = self._lay_out(store, files, place, stop or threading.Event())
                except StoreError:
                    raise
                except OSError as error:
                    why = f"the inputs of a job cannot be laid out ({error.strerror}); look at that disk"
                    # What is full gets room again; a file that this disk cannot read stays so.
                    is_temporary = error.errno != errno.EIO
                    raise StoreError(why, str(error.filename or place.tree), is_temporary=is_temporary) from error
            yield place.tree
        if fetched:
            with file_lock(self._lock):
                self._contents.make_room()

    @contextmanager
    def _place(self) -> Iterator[AttemptFolder]:
        with file_lock(self._lock):
            if not self._swept:
                self._folders.sweep()
                self._swept = True
            place = self._folders.create()
        try:
            yield place
        finally:
            place.clear()

    def _manifest(self, store: Store, sha256: str) -> InputManifest:
        here = self._manifests / f"{sha256}.json"
        location = store.locate(manifest_path(sha256))
        try:
            content = here.read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != sha256:
            content = _read(store, location)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise StoreError("is not the list of inputs that was handed in; submit the job again", location)
            DirectoryStore(self._manifests).replace(str(here), content)
        here.touch()
        try:
            return InputManifest.model_validate_json(content)
        except ValidationError as error:
            problem = f"is no list of inputs ({describe_invalid(error)}); hand them in by `longtake submit`"
            raise StoreError(problem, location) from error

    def _lay_out(self, store: Store, files: tuple[InputFile, ...], place: AttemptFolder, stop: threading.Event) -> bool:
        """Give all files their names in a place; return whether any had to be fetched."""
        for folder in {file.path.rpartition("/")[0] for file in files}:
            (place.tree / folder).mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if not self._contents.link(file, f"{place.tree}/{file.path}")]
        if not missing:
            return False
        with file_lock(self._lock):
            self._folders.sweep()
            self._contents.make_room({file.sha256: file.size_bytes for file in missing})
        map_parallel(store, partial(self._fetch, store, place, stop), missing)
        return True

    def _fetch(self, store: Store, place: AttemptFolder, stop: threading.Event, file: InputFile) -> None:
        self._contents.fetch(store, file, f"{place.tree}/{file.path}", work=place.work, stop=stop)


def _read(store: Store, location: str) -> bytes:
    there = store.stat(location)
    if there is None:
        raise StoreError("is not there; submit the job by `longtake submit`, which hands its inputs in", location)
    if there.size_bytes > LARGEST_MANIFEST_BYTES:
        raise StoreError("is too large to be a list of inputs; submit the job by `longtake submit`", location)
    return store.read(location, most_bytes=LARGEST_MANIFEST_BYTES)

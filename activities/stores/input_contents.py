"""Contents of input files on this host: fetched once, lent to many, and within a limit."""

import logging
import os
import secrets
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from activities.stores.file_locks import locked
from longtake.models.inputs import InputFile, InputManifest, content_path
from longtake.stores.store import Store, StoreError

_log = logging.getLogger(__name__)

# Of all contents, so that one that was written to is told by its time: 2001-09-09, which any tool can show.
_MODIFIED_NS = 10**9 * 10**9

# A disk that is full to the last byte troubles more than this cache.
_LEFT_FREE_BYTES = 64 * 2**20


StrPath = str | os.PathLike[str]


class InputContents:
    """The contents, by their digests.

    Args:
        folder: Of the cache.
        manifests: Where the manifests lie whose times say when contents were used last.
        limit_bytes: How much contents may take.
    """

    def __init__(self, folder: Path, manifests: Path, limit_bytes: int) -> None:
        self._folder = folder / "contents"
        self._locks = folder / "locks"
        self._manifests = manifests
        self._limit_bytes = limit_bytes

    def lend(self, file: InputFile, target: str) -> bool:
        """Give a content a name in somebody's folder; False where it is not here, or damaged."""
        # Plain texts: 5,000 paths of pathlib's own take longer than the links.
        content = f"{self._folder}/{_name(file)}"
        try:
            is_link = _give(content, target)
            # Looked at under its new name, which nobody takes away: what is in use is not evicted.
            status = os.stat(target if is_link else content)
            if status.st_size == file.size_bytes and status.st_mtime_ns == _MODIFIED_NS:
                if not is_link or status.st_mode & 0o777 != _mode(file):
                    _dress(target, file)
                return True
        except FileNotFoundError:
            pass
        with suppress(FileNotFoundError):
            os.unlink(target)
        return False

    def fetch(self, store: Store, file: InputFile, target: str, *, work: Path, stop: threading.Event) -> None:
        """Bring a content here, unless another attempt has done so by now, and give it a name.

        Args:
            store: Where it was handed in.
            file: Whose content it is.
            target: The name.
            work: Where to put it while it is on its way.
            stop: Ends this before it begins when it is set.

        Raises:
            StoreError: It cannot be had; nothing of it is left here.
        """
        name = _name(file)
        try:
            with locked(self._locks / name, stop):
                if stop.is_set():
                    raise InterruptedError("told to stop before it began")
                if not self.lend(file, target):
                    self._fetch(store, file, target, work / f"{name}.{secrets.token_hex(4)}")
        except InterruptedError as error:
            raise StoreError(f"was not fetched: {error}", file.path, passing=True) from error

    def _fetch(self, store: Store, file: InputFile, target: str, coming: Path) -> None:
        location = store.locate(content_path(file.sha256))
        content = self._folder / _name(file)
        if content.exists():
            _log.warning("the input %s was damaged on this host by a render; it is fetched again", file.path)
        try:
            store.bring(location, coming, sha256=file.sha256)
        except FileNotFoundError as error:
            problem = f"the input {file.path} is not there any more; submit the job again, which hands it in anew"
            raise StoreError(problem, location) from error
        if coming.stat().st_size != file.size_bytes:
            raise StoreError(f"the input {file.path} has not the size that its list says; submit anew", location)
        _dress(coming, file)
        # Lent before it is there for all: what is lent is not evicted.
        if not _give(coming, target):
            _dress(target, file)
        content.parent.mkdir(parents=True, exist_ok=True)
        coming.replace(content)

    def make_room(self, wanted: Mapping[str, int] | None = None) -> None:
        """Remove what was not used for longest, until what is wanted fits; not beside another call of this.

        Args:
            wanted: Contents that are to be fetched, with their sizes.

        Raises:
            StoreError: The disk has no room for them.
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
            raise StoreError(problem, str(self._folder.parent), passing=True)

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


def _give(content: StrPath, target: StrPath) -> bool:
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


def _dress(path: StrPath, file: InputFile) -> None:
    """Make a file as all contents are: read-only, and of one time."""
    os.chmod(path, _mode(file))
    os.utime(path, ns=(_MODIFIED_NS, _MODIFIED_NS))

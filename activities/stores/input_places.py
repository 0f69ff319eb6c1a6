"""Folders that attempts run in when their store is elsewhere: one for each, gone when it ends."""

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from activities.stores.file_locks import hold


class Place:
    """The folder of one attempt.

    Args:
        folder: All of it; held by this process until it is cleared.
        descriptor: What holds it.
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
        """Remove the folder with all that a render has put there."""
        _remove(self._folder)
        os.close(self._descriptor)


class InputPlaces:
    """The folders of all attempts on this host.

    Args:
        folder: Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self) -> Place:
        """Return a new one; not beside a `sweep`, which would take it for one that was left."""
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        descriptor = hold(folder)
        assert descriptor is not None, "nobody else knows of a folder that was made just now"
        return Place(folder, descriptor)

    def sweep(self) -> None:
        """Remove those whose processes have died."""
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if (descriptor := hold(Path(entry.path))) is not None:
                    _remove(Path(entry.path))
                    os.close(descriptor)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, onerror=_insist)


def _insist(remove: Callable[..., Any], path: str, _: object) -> None:
    """Make a folder writable that a render has made read-only; what cannot be removed is left to a later sweep."""
    with suppress(OSError):
        for folder in (os.path.dirname(path), path):
            if not os.path.islink(folder) and os.path.isdir(folder):
                os.chmod(folder, 0o700)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)

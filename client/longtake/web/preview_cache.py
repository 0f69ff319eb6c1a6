"""Keep what previews are made of in a bounded folder: fragments, and copies of sounds that lie in a bucket."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from longtake.temporary_folder import TemporaryFolder

_MOST_BYTES = 1 << 30


class PreviewCache:
    """Contents by key, of which the one goes first that was not asked for the longest. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder: TemporaryFolder | None = None
        self._sizes: OrderedDict[str, int] = OrderedDict()

    @property
    def folder(self) -> Path:
        """The folder, which is made when it is asked for."""
        with self._lock:
            if self._folder is None:
                self._folder = TemporaryFolder("preview")
            return self._folder.path

    def close(self) -> None:
        """Remove what was kept."""
        with self._lock:
            self._sizes.clear()
            if self._folder is not None:
                self._folder.close()
                self._folder = None

    def read(self, key: str) -> bytes | None:
        """Return what was kept under a key; None where it is gone."""
        descriptor = self.open(key)
        if descriptor is None:
            return None
        with open(descriptor, "rb") as file:
            return file.read()

    def open(self, key: str) -> int | None:
        """Return a descriptor of what was kept under a key; None where it is gone."""
        with self._lock:
            if key not in self._sizes:
                return None
            self._sizes.move_to_end(key)
        try:
            return os.open(self.folder / key, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def keep(self, key: str, write: Callable[[Path], object]) -> None:
        """Keep what a function writes to a path."""
        coming = self.folder / f"{key}.{threading.get_ident()}"
        try:
            write(coming)
            size = coming.stat().st_size
            coming.replace(coming.parent / key)
        finally:
            coming.unlink(missing_ok=True)
        with self._lock:
            self._sizes[key] = size
            self._sizes.move_to_end(key)
            while sum(self._sizes.values()) > _MOST_BYTES and len(self._sizes) > 1:
                old, _ = self._sizes.popitem(last=False)
                (coming.parent / old).unlink(missing_ok=True)

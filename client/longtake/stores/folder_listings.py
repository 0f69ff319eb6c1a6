"""Answer for many files from one listing of each folder."""

import threading
from collections.abc import Collection

from longtake.stores.store import Store, StoredFile


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

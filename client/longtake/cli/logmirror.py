"""Logs of a job where a `LogReader` can read them, also when its store is a bucket."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from longtake.cli.logreader import LOG_NAME
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.stores.factory import is_bucket
from longtake.stores.store import Store, StoredFile, each
from longtake.transfer.progress import store_of
from longtake.transfer.stored_job import visible

# Workers send what has grown every few seconds; more looks would show nothing new and cost money.
_SYNC_SECONDS = 2.0


class LogFolder:
    """A folder of logs that are files of this host already."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sync(self, *, now: bool = False) -> None:
        """Bring it up to date, if it is time or `now`. Blocking."""


class LogMirror(LogFolder):
    """A folder that follows the logs of a job in a bucket.

    Args:
        store: The job's.
        folder: The logs in it.
        path: The folder here, empty.
        chunk: The only chunk whose logs are wanted; all of them and the film's when None.
    """

    def __init__(self, store: Store, folder: str, path: Path, chunk: int | None) -> None:
        super().__init__(path)
        self._store = store
        self._folder = folder
        self._begins = "" if chunk is None else f"{chunk:06}."
        self._here: dict[str, tuple[int, int]] = {}
        self._due = 0.0

    def sync(self, *, now: bool = False) -> None:
        """Bring what is new and what has grown, and forget what is no longer kept."""
        if time.monotonic() < self._due and not now:
            return
        there = {file.name: file for file in self._store.files(self._folder) if self._is_wanted(file)}
        changed = [file for file in there.values() if self._here.get(file.name) != (file.size_bytes, file.modified_ns)]
        each(self._store, self._bring, changed)
        for name in set(self._here) - set(there):
            (self.path / name).unlink(missing_ok=True)
            del self._here[name]
        self._due = time.monotonic() + _SYNC_SECONDS

    def _is_wanted(self, file: StoredFile) -> bool:
        return file.name.startswith(self._begins) and LOG_NAME.fullmatch(file.name) is not None

    def _bring(self, file: StoredFile) -> None:
        # Gone again: only so many bytes of a log are kept.
        with suppress(FileNotFoundError):
            coming = self._store.bring(file.location, self.path / f".{file.name}")
            # Tries are counted in the order of their times.
            os.utime(coming, ns=(file.modified_ns, file.modified_ns))
            coming.replace(self.path / file.name)
            self._here[file.name] = file.size_bytes, file.modified_ns


@contextmanager
def log_folder(url: str | None, job_id: str, chunk: int | None) -> Iterator[LogFolder]:
    """Yield the logs of a job for as long as the block runs.

    Args:
        url: The job's store.
        job_id: The job.
        chunk: The only chunk whose logs are wanted; all of them and the film's when None.

    Raises:
        LongtakeError: They cannot be read from here.
    """
    url = visible(url, job_id)
    folder = f"{url}/{BOOKKEEPING_FOLDER}/{job_id}"
    if not is_bucket(url):
        visible(folder, job_id)
        yield LogFolder(Path(folder) / "logs")
        return
    with store_of(url) as store, TemporaryDirectory(prefix="longtake-logs-") as place:
        yield LogMirror(store, f"{folder}/logs", Path(place), chunk)

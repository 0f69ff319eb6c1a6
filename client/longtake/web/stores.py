"""Open the stores of jobs for a server that reads many of them: each once, and only where the server may read."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from longtake.concurrency import run_in_thread
from longtake.errors import LongtakeError, StoreUnusableError
from longtake.models.status import JobStatus
from longtake.stores.factory import is_bucket, open_store, require_visible_store
from longtake.stores.job_records import JobRecords
from longtake.stores.store import Store, StoreError
from longtake.stores.stored_file import OutsideError
from longtake.temporary_folder import TemporaryFolder
from longtake.web.problems import ProblemError

Result = TypeVar("Result")

# Clients of buckets keep connections open.
_MOST_OPEN = 16

# A person waits for the answer.
_PATIENCE_SECONDS = 5.0


class OpenStores:
    """Keep the stores of jobs open.

    Args:
        roots: Folders that stores must lie in, links resolved; none allows all that this account can read.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self._roots = tuple(roots)
        self._open: OrderedDict[str, Store] = OrderedDict()
        self._lock = threading.Lock()
        self._scratch = TemporaryFolder("web")

    def close(self) -> None:
        """Remove what was kept on this host."""
        self._scratch.close()

    def open(self, url: str | None, job_id: str) -> Store:
        """Return the store of a job. Blocking.

        Raises:
            StoreUnusableError: The store is not visible from here, or this server may not read it.
        """
        try:
            url = require_visible_store(url, job_id)
        except StoreUnusableError:
            raise
        except LongtakeError as error:
            raise StoreUnusableError(str(error)) from error
        if not is_bucket(url) and self._roots:
            real = Path(url).resolve()
            if not any(real.is_relative_to(root) for root in self._roots):
                raise StoreUnusableError(
                    f"{url} lies outside the folders that this server may read; add its folder to LONGTAKE_ROOTS"
                )
        with self._lock:
            if url in self._open:
                self._open.move_to_end(url)
                return self._open[url]
            store = open_store(url, scratch=self._scratch.path, patience_seconds=_PATIENCE_SECONDS)
            self._open[url] = store
            if len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return store

    async def read(
        self, status: JobStatus, look: Callable[[JobRecords], Result], *, empty: Result | None = None
    ) -> Result:
        """Call a function with the records of a job, in a thread.

        Args:
            status: Status of the job.
            look: The function.
            empty: What is returned of a job that has no store yet.

        Raises:
            ProblemError: The job has no store yet.
            StoreUnusableError: The store cannot be read from here, or not now.
        """
        if status.base_dir is None:
            if empty is not None:
                return empty
            raise ProblemError(404, f"{status.id} has no store yet: no worker has planned it", kind="no-store-yet")
        return await run_in_thread(partial(self._read, status, look))

    def _read(self, status: JobStatus, look: Callable[[JobRecords], Result]) -> Result:
        store = self.open(status.base_dir, status.id)
        try:
            return look(JobRecords(store, status.id))
        except StoreError as error:
            raise StoreUnusableError(f"store: {error}") from error
        except OutsideError as error:
            raise ProblemError(404, f"{error.filename} is no file of {status.id}", kind="no-such-file") from error
        except OSError as error:
            where, what = error.filename or status.base_dir, error.strerror or error
            raise StoreUnusableError(f"store: {where}: {what}; look at its permissions and its disk") from error

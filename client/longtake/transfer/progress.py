"""Count and report the progress of work on many files of a store."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from longtake.errors import StoreUnusableError
from longtake.models.inputs import INPUTS_FOLDER
from longtake.stores.factory import is_bucket, open_store
from longtake.stores.store import Store, StoreError

# For a person who waits to hear of a wrong address; later on, a store may be away for as long as for workers.
_FIRST_SECONDS = 5.0


@dataclass(frozen=True)
class TransferProgress:
    """How far the work is.

    Args:
        files: How many files there are.
        size_bytes: How many bytes they have together.
        done_files: How many are done.
        done_bytes: How many bytes those have.
    """

    files: int = 0
    size_bytes: int = 0
    done_files: int = 0
    done_bytes: int = 0


OnProgress = Callable[[TransferProgress], None]


class ProgressCounter:
    """Counts, in many threads, and tells one at a time.

    Args:
        tell: Hears each count.
        stop: Ends the work between two files when it is set.
    """

    def __init__(self, tell: OnProgress, stop: threading.Event | None) -> None:
        self._tell = tell
        self._stop = stop or threading.Event()
        self._lock = threading.Lock()
        self._now = TransferProgress()

    def add(self, **more: int) -> None:
        """Count more of anything; raises where the work is to end."""
        if self._stop.is_set():
            raise StoreUnusableError("interrupted; the same command goes on where this one ended")
        with self._lock:
            self._now = TransferProgress(**{name: value + more.get(name, 0) for name, value in vars(self._now).items()})
            self._tell(self._now)


@contextmanager
def store_of(url: str, stop: threading.Event | None = None) -> Iterator[Store]:
    """Open the store of a job for as long as the block runs; what goes wrong with it there is one sentence.

    Args:
        url: The store.
        stop: Ends what is under way with it, soon, when it is set.

    Raises:
        StoreUnusableError: The sentence.
    """
    with tempfile.TemporaryDirectory(prefix="longtake-") as scratch:
        try:
            yield _reached(url, Path(scratch), stop)
        except OSError as error:
            raise StoreUnusableError(f"store: {_told(error, url)}") from error


def _reached(url: str, scratch: Path, stop: threading.Event | None) -> Store:
    """Return the store; raise soon where it is not there now, and not when there has been work to lose."""
    if is_bucket(url):
        first = open_store(url, scratch=scratch, patience_seconds=_FIRST_SECONDS, stop=stop)
        first.stat(first.locate(INPUTS_FOLDER))
    return open_store(url, scratch=scratch, stop=stop)


def _told(error: OSError, url: str) -> str:
    if isinstance(error, StoreError):
        return str(error)
    return f"{error.filename or url}: {error.strerror or error}; look at its permissions and its disk"

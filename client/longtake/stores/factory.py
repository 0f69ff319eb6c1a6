"""Open the store that a job names: a directory or a bucket."""

import threading
from pathlib import Path

from longtake.errors import BadJobError
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store


def is_bucket(url: str) -> bool:
    """Tell whether a store is a bucket and no directory."""
    return url.startswith("s3://")


def open_store(
    url: str, *, scratch: Path, patience_seconds: float | None = None, stop: threading.Event | None = None
) -> Store:
    """Return the store.

    Args:
        url: An absolute directory, or `s3://bucket/prefix`.
        scratch: Where this host keeps what it works at for stores that are elsewhere.
        patience_seconds: How long such a store may be away, where that is not as long as for workers.
        stop: Ends what is under way with such a store, soon, when it is set.

    Raises:
        BadJobError: It is neither, or what it takes is not installed.
    """
    if not is_bucket(url):
        if not url.startswith("/"):
            raise BadJobError(f"store: {url!r} is neither a folder from the root nor s3://bucket/prefix; write one")
        return DirectoryStore(Path(url))
    try:
        # Not needed by services that only start and watch jobs: boto3 takes 0.3 s to import.
        from longtake.stores.s3 import S3Store  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadJobError(
            f"store: {url} is a bucket, and this needs boto3; `pip install 'longtake[s3]'` brings it"
        ) from error
    try:
        return S3Store.open(url, scratch=scratch, patience_seconds=patience_seconds, stop=stop)
    except ValueError as error:
        raise BadJobError(f"store: {url} {error}") from error

"""Open the store that a job names: a directory or a bucket."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longtake.errors import BadJobError, LongtakeError, StoreUnusableError
from longtake.models.inputs import INPUTS_FOLDER
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store, StoreError
from longtake.temporary_folder import TemporaryFolder

# Time for the first answer of a bucket to a person, so that a mistyped address fails soon. After it, clients wait for a
# store that is away as long as workers do.
_FIRST_ANSWER_SECONDS = 5.0


def is_bucket(url: str) -> bool:
    """Tell whether the URL of a store names a bucket rather than a directory."""
    return url.startswith("s3://")


def open_store(
    url: str, *, scratch: Path, patience_seconds: float | None = None, stop: threading.Event | None = None
) -> Store:
    """Return the store at a URL, without calling it.

    Args:
        url: An absolute directory, or `s3://bucket/prefix`.
        scratch: Local folder for files on their way to a bucket and back.
        patience_seconds: How long calls wait for a bucket that is away; default: as long as for workers.
        stop: Event that ends calls of a bucket that are under way.

    Raises:
        BadJobError: The URL is neither, or the store needs a package that is not installed.
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


# Stores that were found to create files exclusively, by this process.
_exclusive: set[str] = set()


def check_exclusive_creation(store: Store) -> None:
    """Refuse a store that lets a second writer take a name: two attempts could then both win; asked once a process.

    Raises:
        StoreError: The service ignores `If-None-Match`, or is away.
    """
    if store.is_local or store.url in _exclusive:
        return
    location = f"{store.url}/{BOOKKEEPING_FOLDER}/probe.{secrets.token_hex(8)}"
    try:
        if not store.create(location, b"first") or store.create(location, b"second"):
            raise StoreError(
                "the service ignores `If-None-Match: *` and lets two writers create one name, so that finished work "
                "could be overwritten; use a service that keeps it, such as S3, R2 or SeaweedFS",
                store.url,
            )
    finally:
        store.remove(location)
    _exclusive.add(store.url)


@contextmanager
def open_client_store(url: str, stop: threading.Event | None = None) -> Iterator[Store]:
    """Open a store for one command of a client; turn errors of the store inside the block into one sentence.

    Args:
        url: An absolute directory, or `s3://bucket/prefix`.
        stop: Event that ends calls of a bucket that are under way.

    Raises:
        StoreUnusableError: The store cannot be reached, or a call inside the block failed.
    """
    with TemporaryFolder("store") as scratch:
        try:
            if is_bucket(url):
                # Asked before there is work to lose: wrong addresses and credentials show here, within seconds.
                first = open_store(url, scratch=scratch, patience_seconds=_FIRST_ANSWER_SECONDS, stop=stop)
                first.stat(first.locate(INPUTS_FOLDER))
            yield open_store(url, scratch=scratch, stop=stop)
        except OSError as error:
            raise StoreUnusableError(f"store: {_describe(error, url)}") from error


def require_visible_store(url: str | None, job_id: str) -> str:
    """Return the URL of a job's store; raise if the job has none yet or its directory is not mounted on this host.

    Raises:
        LongtakeError: No worker has planned the job yet, or the directory is not here.
    """
    if url is None:
        raise LongtakeError(f"{job_id} has no store yet: no worker has planned it; `longtake doctor` shows the workers")
    if not is_bucket(url) and not Path(url).is_dir():
        raise LongtakeError(f"{url} is not visible on this host; run this where the job's store is mounted")
    return url


def _describe(error: OSError, url: str) -> str:
    if isinstance(error, StoreError):
        return str(error)
    return f"{error.filename or url}: {error.strerror or error}; look at its permissions and its disk"

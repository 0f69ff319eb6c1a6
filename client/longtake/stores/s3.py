"""Store outputs in a bucket of S3, SeaweedFS, R2 or another service that speaks S3's protocol."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader

from longtake.stores import s3_listing
from longtake.stores.s3_calls import RETRY_POLICY, RetryPolicy, S3Retrier
from longtake.stores.s3_direct import send_directly
from longtake.stores.s3_download import compute_digest, download_object
from longtake.stores.s3_objects import Keys, Objects, to_stored_file
from longtake.stores.s3_upload import copy_object, create_object, replace_object, upload_file
from longtake.stores.store import LARGEST_RECORD_BYTES, OversizedFileError, StoredFile, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# Enough for `S3Store.parallel` files at once, and for the parts of some large ones.
_CONNECTIONS = 64
_CONNECT_SECONDS = 10.0
# Longest silence of a server, as when it copies a part or puts parts together.
_READ_SECONDS = 60.0


def make_session(**credentials: str) -> boto3.Session:
    """Return a session of boto3 with these credentials, or without any with those of this host, read anew."""
    return boto3.Session(botocore_session=make_core_session(), **credentials)


def make_core_session() -> botocore.session.Session:
    """Return a session of botocore, which has read the AWS settings of this host.

    All sessions share what botocore reads from its own data files, which otherwise costs each 0.15 s of CPU time.
    """
    core = botocore.session.Session()
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    return core


@cache
def _loader(data_path: str | None) -> Loader:
    return create_loader(data_path)


def make_s3_client(session: boto3.Session | None = None, *, endpoint_url: str | None = None) -> "S3Client":
    """Return a client for the S3 service that this host's AWS settings name.

    Args:
        session: Session with other credentials than those of the environment, the profile or the role.
        endpoint_url: Address of another service than the settings name.

    Raises:
        ValueError: The settings cannot be used; `is ...; the fix`, without the field's name.
    """
    try:
        return _client(session or make_session(), endpoint_url)
    except BotoCoreError as error:
        # The name of the error alone is shown: its text may quote secrets.
        name = type(error).__name__
        raise ValueError(f"is not to be had with the AWS settings of this host ({name}); mend AWS_PROFILE") from error
    except ValueError as error:
        raise ValueError("is at no address; write AWS_ENDPOINT_URL_S3 as http://host:port") from error


def _client(session: boto3.Session, endpoint_url: str | None) -> "S3Client":
    # boto3 reads AWS_DEFAULT_REGION only; Lambda and most other SDKs set AWS_REGION.
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"

    def make(addressing: Literal["auto", "path"]) -> "S3Client":
        return session.client("s3", region_name=region, endpoint_url=endpoint_url, config=_config(addressing))

    # SeaweedFS and others have no host name for each bucket, so the bucket goes into the path. A client takes 0.1 s of
    # CPU time to make, and a second one is needed only where a profile names the service.
    named = endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    is_amazon = named is None or _is_amazon(named)
    client = make("auto" if is_amazon else "path")
    if named is None and not _is_amazon(client.meta.endpoint_url):
        is_amazon, client = False, make("path")
    client.meta.events.register_last("before-call.s3", _drop_expect_header)
    return send_directly(client, session, has_buckets_in_path=not is_amazon)


def _is_amazon(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _config(addressing: Literal["auto", "path"]) -> Config:
    return Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        # boto3 builds its own user agent anew for each call, which takes an eighth of the call's CPU time.
        user_agent="longtake",
        # `S3Retrier` retries instead: it knows that an exclusive write that was sent twice may have succeeded.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Bodies are sent with a signed SHA-256, and contents are proven by the digest that the store keeps.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing, "payload_signing_enabled": False},
    )


def _drop_expect_header(params: dict[str, Any], **_: object) -> None:
    """Remove `Expect: 100-continue`, which R2 never answers: the client would wait a second before each body."""
    params["headers"].pop("Expect", None)


# Largest file that is sent and read in one request; at least 5 MiB, which S3 demands of a part.
PART_BYTES = 16 << 20


class S3Store:
    """Read and write the objects below a prefix of a bucket; the methods are those of `Store`.

    Each object is written with the SHA-256 of its content, which the service checks on arrival and keeps as metadata.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        client: Client without retries of its own; see `make_s3_client`.
        scratch: Local folder for files on their way to the bucket and back.
        renew: Makes a client with fresh credentials once the old ones have expired.
        patience: Retries while the bucket is away, busy or slow.
        part_bytes: Size of the parts that larger files are sent and read in, some at once.
        stop: Event that ends calls that are under way.

    Raises:
        ValueError: The URL names no bucket.
    """

    is_local = False
    # More threads make neither SeaweedFS on one disk nor S3 over one network faster, and are limited by the GIL.
    parallel = 16

    def __init__(
        self,
        url: str,
        client: "S3Client",
        *,
        scratch: Path,
        renew: "Callable[[], S3Client] | None" = None,
        patience: RetryPolicy = RETRY_POLICY,
        part_bytes: int = PART_BYTES,
        stop: threading.Event | None = None,
    ) -> None:
        self._keys = Keys(url, scratch)
        self._objects = Objects(S3Retrier(client, renew=renew, patience=patience, stop=stop), self._keys)
        self._part_bytes = part_bytes
        self.url = self._keys.url

    @classmethod
    def open(
        cls, url: str, *, scratch: Path, patience_seconds: float | None = None, stop: threading.Event | None = None
    ) -> "S3Store":
        """Return the store at a URL, with the AWS settings of this host and without calling it.

        Args:
            url: `s3://bucket` or `s3://bucket/prefix`.
            scratch: Local folder for files on their way to the bucket and back.
            patience_seconds: How long calls wait for a bucket that is away; default: as long as for workers.
            stop: Event that ends calls that are under way.

        Raises:
            ValueError: The URL names no bucket, or the AWS settings cannot be used; `is ...; the fix`.
        """
        Keys(url, scratch)
        patience = RETRY_POLICY if patience_seconds is None else replace(RETRY_POLICY, seconds=patience_seconds)
        return cls(url, make_s3_client(), scratch=scratch, renew=make_s3_client, patience=patience, stop=stop)

    def locate(self, path: str) -> str:
        """Return the location of a path that a job names."""
        return self._keys.locate(path)

    def local(self, location: str) -> Path:
        """Return the path below the scratch folder where this host prepares a file for a location."""
        return self._keys.local(location)

    def read(self, location: str, *, most_bytes: int = LARGEST_RECORD_BYTES) -> bytes:
        """Return the content of a small file, proven by its SHA-256."""
        pieces: dict[int, bytes] = {}
        found = self._objects.read_start(location, self._part_bytes, pieces.__setitem__)
        if found.size_bytes > most_bytes:
            raise OversizedFileError(location, found.size_bytes, most_bytes)
        if found.size_bytes > self._part_bytes:
            self._objects.read_range(location, found.etag, self._part_bytes, found.size_bytes, pieces.__setitem__)
        content = b"".join(pieces[offset] for offset in sorted(pieces))
        if found.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise StoreError("it was damaged in the store or on its way here; try again", location, is_temporary=True)
        return content

    def read_part(self, location: str, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)` of a file, all of one version of it."""
        found = self._objects.find(location)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", location)
        pieces: list[bytes] = []
        if (end := min(stop, found.size_bytes)) > start:
            self._objects.read_range(location, found.etag, start, end, lambda _, piece: pieces.append(piece))
        return b"".join(pieces)

    def stat(self, location: str) -> StoredFile | None:
        """Return the metadata of a file; None if there is no such file."""
        found = self._objects.find(location)
        return None if found is None else to_stored_file(location, found)

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Yield the files in a folder, page by page."""
        return s3_listing.list_files(self._objects, folder)

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder."""
        return [file.name for file in self.files(folder)]

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the names of the folders in a folder."""
        return s3_listing.list_folders(self._objects, folder)

    def create(self, location: str, content: bytes) -> bool:
        """Create a file; return False if the name is taken."""
        return create_object(self._objects, location, lambda: content, hashlib.sha256(content).digest())

    def replace(self, location: str, content: bytes) -> None:
        """Write a file in place of any other."""
        replace_object(self._objects, location, content)

    def put(self, file: Path, location: str, *, sha256: str | None = None) -> bool:
        """Upload a local file under a new name; return False if the name is taken."""
        return upload_file(self._objects, file, location, sha256=sha256, part_bytes=self._part_bytes)

    def copy(self, source: str, target: str) -> bool:
        """Copy a file to a new name, a large one within the service; return False if the name is taken."""
        return copy_object(self._objects, source, target)

    def download(self, location: str, into: Path, *, sha256: str | None = None) -> Path:
        """Download a file and prove it by the given SHA-256 or by the one that the store keeps; return `into`."""
        download_object(self._objects, location, into, sha256=sha256, part_bytes=self._part_bytes)
        return into

    def digest(self, location: str) -> str:
        """Return the SHA-256 that the store keeps with a file; read files that other programs wrote to compute it."""
        found = self._objects.find(location)
        if found is not None and found.sha256 is not None:
            return found.sha256
        return compute_digest(self._objects, location)

    def move(self, source: str, target: str) -> bool:
        """Rename a file; return False if the new name is taken. A crash on the way leaves the file with both names."""
        try:
            if not self.copy(source, target):
                return False
        except FileNotFoundError:
            if self.stat(target) is not None:
                return False
            raise
        self.remove(source)
        return True

    def remove(self, location: str) -> None:
        """Remove a file if there is one."""
        where = self._objects.address(location)
        self._objects.calls.call(lambda client: client.delete_object(**where), location)

    def remove_all(self, folder: str) -> None:
        """Remove a folder with all that is in it, unfinished uploads and local files for it included."""
        s3_listing.remove_folder(self._objects, folder)

    def sync(self, folders: Iterable[str]) -> None:
        """Do nothing: a bucket keeps what it has confirmed."""

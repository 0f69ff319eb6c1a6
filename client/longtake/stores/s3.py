"""Store outputs in a bucket of S3, SeaweedFS, R2 or another service that speaks S3's protocol."""

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
from longtake.stores.s3_download import compute_digest, download_object
from longtake.stores.s3_objects import Keys, Objects, to_stored_file
from longtake.stores.s3_upload import copy_object, create_object, replace_object, upload_file
from longtake.stores.store import StoredFile, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# So many files at once (`S3Store.parallel`), and the parts of some large ones.
_CONNECTIONS = 64
_CONNECT_SECONDS = 10.0
# Between two reads. A server that copies a part, or puts parts together, says nothing for so long.
_READ_SECONDS = 60.0


def make_session(**credentials: str) -> boto3.Session:
    """Return a session with these credentials, or else with those of this host, which are read anew.

    It shares with others what botocore reads of its own files, which otherwise takes each session 0.15 s of CPU time.
    """
    core = botocore.session.Session()
    core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
    return boto3.Session(botocore_session=core, **credentials)


@cache
def _loader(data_path: str | None) -> Loader:
    return create_loader(data_path)


def make_s3_client(session: boto3.Session | None = None, *, endpoint_url: str | None = None) -> "S3Client":
    """Return a client for the store that this host's AWS settings name.

    Args:
        session: Other credentials than those of the environment, the profile or the role, which are read anew.
        endpoint_url: Another store than the one that the settings name.

    Raises:
        ValueError: The settings cannot be used; `is ...; the fix`.
    """
    try:
        return _client(session or make_session(), endpoint_url)
    except BotoCoreError as error:
        # The name of the error alone: its text may quote what is secret.
        name = type(error).__name__
        raise ValueError(f"is not to be had with the AWS settings of this host ({name}); mend AWS_PROFILE") from error
    except ValueError as error:
        raise ValueError("is at no address; write AWS_ENDPOINT_URL_S3 as http://host:port") from error


def _client(session: boto3.Session, endpoint_url: str | None) -> "S3Client":
    # boto3 reads AWS_DEFAULT_REGION only, and Lambda and most other SDKs know the short name.
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=_config("auto"))
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if not host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        # SeaweedFS and the like have no host name for each bucket.
        client = session.client("s3", region_name=region, endpoint_url=endpoint_url, config=_config("path"))
    client.meta.events.register_last("before-call.s3", _expect_nothing)
    return client


def _config(addressing: Literal["auto", "path"]) -> Config:
    return Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        # boto3's own is put together anew for each call, which takes an eighth of its CPU time.
        user_agent="longtake",
        # `Calls` tries again, and knows what an exclusive write that was tried twice means.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Bodies carry a SHA-256 of their own, which is signed, and contents are proven by their own digest.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": addressing, "payload_signing_enabled": False},
    )


def _expect_nothing(params: dict[str, Any], **_: object) -> None:
    """Send bodies at once: R2 never answers `Expect: 100-continue`, which costs a second for each body."""
    params["headers"].pop("Expect", None)


# As large as a file may be that is sent and read in one piece; at least 5 MiB, which S3 demands of a part.
PART_BYTES = 16 << 20


class S3Store:
    """A store whose files are the objects below a prefix of a bucket; see `Store`.

    Every object is written with the SHA-256 of its content, which the bucket checks as it comes and keeps with it.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        client: A client that tries nothing again by itself; see `connect`.
        scratch: Where this host keeps what it works at.
        renew: Makes a client with fresh credentials, for when the old ones have expired.
        patience: How long the bucket may be away, busy or slow.
        part_bytes: Larger files go and come in parts of so much, some at once.
        stop: Ends what is under way, soon, when it is set.

    Raises:
        ValueError: The URL is no such thing.
    """

    is_local = False
    # More make neither SeaweedFS on one disk nor S3 over one network faster, and the GIL has had enough.
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
        """Return the store at a URL, by the AWS settings of this host; nothing is asked of it yet.

        Args:
            url: `s3://bucket` or `s3://bucket/prefix`.
            scratch: Where this host keeps what it works at.
            patience_seconds: How long the bucket may be away, where that is not as long as for workers.
            stop: Ends what is under way, soon, when it is set.

        Raises:
            ValueError: The URL names no bucket, or the AWS settings cannot be used; `is ...; the fix`.
        """
        Keys(url, scratch)
        patience = RETRY_POLICY if patience_seconds is None else replace(RETRY_POLICY, seconds=patience_seconds)
        return cls(url, make_s3_client(), scratch=scratch, renew=make_s3_client, patience=patience, stop=stop)

    def locate(self, path: str) -> str:
        """Return the location of a path as a job names it."""
        return self._keys.locate(path)

    def local(self, location: str) -> Path:
        """Return the place in the scratch that stands for it."""
        return self._keys.local(location)

    def read(self, location: str) -> bytes:
        """Return the content of a small file, proven by its digest."""
        pieces: dict[int, bytes] = {}
        found = self._objects.read_start(location, self._part_bytes, pieces.__setitem__)
        if found.size_bytes > self._part_bytes:
            self._objects.read_range(location, found.etag, self._part_bytes, found.size_bytes, pieces.__setitem__)
        content = b"".join(pieces[offset] for offset in sorted(pieces))
        if found.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise StoreError("it was damaged in the store or on its way here; try again", location, is_temporary=True)
        return content

    def stat(self, location: str) -> StoredFile | None:
        """Return what is known of a file; None where there is none."""
        found = self._objects.find(location)
        return None if found is None else to_stored_file(location, found)

    def files(self, folder: str) -> Iterator[StoredFile]:
        """Return the files in a folder, page by page."""
        return s3_listing.list_files(self._objects, folder)

    def names(self, folder: str) -> list[str]:
        """Return the names of the same files; a listing tells all there is at once."""
        return [file.name for file in self.files(folder)]

    def folders(self, folder: str) -> Iterator[str]:
        """Return the names of the folders in a folder."""
        return s3_listing.list_folders(self._objects, folder)

    def create(self, location: str, content: bytes) -> bool:
        """Make a file unless there is one."""
        return create_object(self._objects, location, lambda: content, hashlib.sha256(content).digest())

    def replace(self, location: str, content: bytes) -> None:
        """Write a file, whatever was there."""
        replace_object(self._objects, location, content)

    def put(self, file: Path, location: str, *, sha256: str | None = None) -> bool:
        """Upload a file unless there is one of that name; its digest, where it is known, spares a reading."""
        return upload_file(self._objects, file, location, sha256=sha256, part_bytes=self._part_bytes)

    def copy(self, source: str, target: str) -> bool:
        """Give a file another name unless that is taken; large ones are copied by the store itself."""
        return copy_object(self._objects, source, target)

    def download(self, location: str, into: Path, *, sha256: str | None = None) -> Path:
        """Download a file and prove it, by the given digest or the one that the store keeps with it."""
        download_object(self._objects, location, into, sha256=sha256, part_bytes=self._part_bytes)
        return into

    def digest(self, location: str) -> str:
        """Return the SHA-256 that was checked when the file came, or for files of others, that of all its bytes."""
        found = self._objects.find(location)
        if found is not None and found.sha256 is not None:
            return found.sha256
        return compute_digest(self._objects, location)

    def move(self, source: str, target: str) -> bool:
        """Give a file another name instead of its own; a crash on the way leaves it with both."""
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
        """Remove a file, if it is there."""
        where = self._objects.address(location)
        self._objects.calls.call(lambda client: client.delete_object(**where), location)

    def remove_all(self, folder: str) -> None:
        """Remove a folder with all that is in it, unfinished uploads and this host's scratch for it included."""
        s3_listing.remove_folder(self._objects, folder)

    def sync(self, folders: Iterable[str]) -> None:
        """Do nothing: what a bucket has answered for survives."""

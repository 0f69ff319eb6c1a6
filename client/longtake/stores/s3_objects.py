"""Read objects of a bucket and their metadata, and check the keys that a store may touch."""

import posixpath
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from longtake.stores.s3_calls import ExpectedAnswer, S3Answer, S3Retrier
from longtake.stores.store import StoredFile, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# What S3, SeaweedFS and R2 all take: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

# Bytes of UTF-8: the limit of S3 for a key, and that of SeaweedFS and of local disks for one name in a key.
_KEY_BYTES = 1024
_NAME_BYTES = 255

_SCHEME = "s3://"

# Folder of the scratch folder with one folder a bucket. No bucket has a name of two characters, so that none can stand
# in for what a host keeps beside them: one named `inputs` was its cache of inputs.
BUCKETS_FOLDER = "s3"

# Parts of one file that travel at once. R2 takes few at once of one upload, and more make neither a disk nor a network
# faster.
PARTS_AT_ONCE = 4

# S3 takes 10,000: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_MOST_PARTS = 9_000
_MIB = 1 << 20


class Keys:
    """Translate paths and locations to keys below one prefix of one bucket, and refuse all others.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        scratch: Local folder for files on their way to the bucket and back.

    Raises:
        ValueError: The URL names no bucket; `names ...; the fix`, without the field's name.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
        if not url.startswith(_SCHEME) or not _BUCKET.fullmatch(bucket):
            raise ValueError("names no bucket; write s3://bucket/prefix, the bucket in small letters, digits, . and -")
        self.bucket = bucket
        self._path = prefix.rstrip("/")
        self._root = f"{_SCHEME}{bucket}/"
        self._scratch = scratch
        if self._path:
            _check(self._path)

    @property
    def url(self) -> str:
        """URL of the store, which is the location of its root."""
        return (self._root + self._path).rstrip("/")

    def locate(self, path: str) -> str:
        """Return the location of a path that a job names.

        Raises:
            ValueError: The path leads out of the store, or no key can have this name.
        """
        if path == self.url or path.startswith(f"{self.url}/"):
            self.folder(path)
            return path.rstrip("/")
        inside = posixpath.normpath(path)
        if inside.startswith(("/", "../", _SCHEME.replace("//", "/"))) or inside == "..":
            raise ValueError(f"leads out of {self.url}; write a path below it, without a / before it")
        if "\\" in inside:
            # SeaweedFS takes a backslash for a slash, so that a\b and a/b would be one file.
            raise ValueError(
                f"{inside!r} holds a backslash, which not every service tells from /; write another character"
            )
        location = self.url if inside == "." else f"{self.url}/{inside}"
        self.folder(location)
        return location

    def key(self, location: str) -> str:
        """Return the key of the file at a location.

        Raises:
            ValueError: The location is not below this store, or no key can have this name.
        """
        key = self.folder(location).rstrip("/")
        if key == self._path:
            raise ValueError(f"{location} is the store itself and no file of it; name a path below it")
        return key

    def folder(self, location: str) -> str:
        """Return the prefix of all keys in the folder at a location, with its trailing slash.

        Raises:
            ValueError: The location is not below this store, or no key can have this name.
        """
        if location != self.url and not location.startswith(f"{self.url}/"):
            raise ValueError(f"{location} leads out of {self.url}; name a path below it")
        key = location.removeprefix(self._root if location.startswith(self._root) else self.url).rstrip("/")
        if not key:
            return ""
        _check(key)
        return f"{key}/"

    def location(self, key: str) -> str:
        """Return the location of a key."""
        return self._root + key

    def local(self, location: str) -> Path:
        """Return the local path below the scratch folder where this host prepares a file for a location.

        Raises:
            ValueError: The location is not below this store, or no file can have this name.
        """
        return self._scratch / BUCKETS_FOLDER / self.bucket / self.folder(location)


def _check(key: str) -> None:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key!r} holds half a character; write it anew, in UTF-8") from None
    if len(encoded) > _KEY_BYTES:
        raise ValueError(f"{key[:60]!r}... is longer than the {_KEY_BYTES} bytes that a key may have; shorten it")
    for name in key.split("/"):
        if name in ("", ".", ".."):
            raise ValueError(f"{key!r} holds an empty name, . or ..; take it out")
        if len(name.encode()) > _NAME_BYTES:
            raise ValueError(f"{name[:60]!r}... is longer than the {_NAME_BYTES} bytes of a name; shorten it")
        if "\0" in name:
            raise ValueError(f"{name!r} holds a NUL, which no file name can; take it out")


# Names of user metadata: the SHA-256 of the content, and a random token of the write, by which a writer recognises its
# own object after a lost answer.
SHA256 = "longtake-sha256"
TOKEN = "longtake-token"

# Bytes read from a connection at once: large enough to cost little CPU time, small enough for many threads.
_PIECE_BYTES = 1 << 20


class ObjectAddress(TypedDict):
    """Parameters that name an object in calls of boto3."""

    Bucket: str
    Key: str


@dataclass(frozen=True)
class StoredObject:
    """Metadata of an object of a bucket."""

    size_bytes: int
    etag: str
    modified: datetime
    sha256: str | None
    token: str | None


@dataclass(frozen=True)
class Objects:
    """Read the objects of a store and their metadata.

    Args:
        calls: Sends the calls and retries them.
        keys: Keys of the store.
    """

    calls: S3Retrier
    keys: Keys

    def address(self, location: str) -> ObjectAddress:
        """Return the parameters that name an object in calls of boto3.

        Raises:
            ValueError: The location is not below this store, or no key can have this name.
        """
        return {"Bucket": self.keys.bucket, "Key": self.keys.key(location)}

    def find(self, location: str) -> StoredObject | None:
        """Return the metadata of an object; None if there is no such object."""
        where = self.address(location)
        try:
            found = self.calls.call(lambda client: client.head_object(**where), location)
        except FileNotFoundError:
            return None
        return _parse_metadata(found, found["ContentLength"])

    def read_start(self, location: str, most_bytes: int, into: Callable[[int, bytes], None]) -> StoredObject:
        """Read the first bytes of an object, or all of a small one; return the metadata of the object.

        Args:
            location: Location of the object.
            most_bytes: Number of bytes to read.
            into: Called with the offset and the bytes of each piece, each byte once.

        Raises:
            FileNotFoundError: There is no such object.
            StoreError: The object was changed meanwhile.
        """
        where = self.address(location)
        found: StoredObject | None = None
        position = 0

        def ask(client: "S3Client") -> StoredObject:
            nonlocal found, position
            if found is None:
                answer = client.get_object(**where, Range=f"bytes=0-{most_bytes - 1}")
                found = _parse_metadata(answer, int(answer["ContentRange"].rpartition("/")[2]))
            elif position == min(most_bytes, found.size_bytes):
                return found
            else:
                wanted = f"bytes={position}-{most_bytes - 1}"
                answer = client.get_object(**where, Range=wanted, IfMatch=found.etag)
            with closing(answer["Body"]) as body:
                while piece := body.read(_PIECE_BYTES):
                    into(position, piece)
                    position += len(piece)
            return found

        try:
            return self.calls.call(ask, location, expected={S3Answer.RANGE, S3Answer.PRECONDITION})
        except ExpectedAnswer as error:
            if error.answer is S3Answer.PRECONDITION:
                raise changed_error(location) from error
        empty = self.find(location)
        if empty is None:
            raise FileNotFoundError(2, "No such file or directory", location)
        if empty.size_bytes:
            raise changed_error(location)
        return empty

    def read_range(self, location: str, etag: str, start: int, stop: int, into: Callable[[int, bytes], None]) -> None:
        """Read the bytes `[start, stop)` of an object, if the object still has this tag.

        Args:
            location: Location of the object.
            etag: Tag that the object must have.
            start: Offset of the first byte.
            stop: Offset after the last byte.
            into: Called with the offset and the bytes of each piece, each byte once.

        Raises:
            StoreError: The object was changed or removed.
        """
        where = self.address(location)
        position = start

        def ask(client: "S3Client") -> None:
            nonlocal position
            if position == stop:
                return
            with closing(
                client.get_object(**where, Range=f"bytes={position}-{stop - 1}", IfMatch=etag)["Body"]
            ) as body:
                while piece := body.read(_PIECE_BYTES):
                    into(position, piece)
                    position += len(piece)

        try:
            self.calls.call(ask, location, expected={S3Answer.PRECONDITION})
        except (ExpectedAnswer, FileNotFoundError) as error:
            raise changed_error(location) from error


def changed_error(location: str) -> StoreError:
    """Return the error for an object that was changed or removed while it was read."""
    return StoreError("it was changed or removed while it was read; try again", location, is_temporary=True)


def to_modified_ns(modified: datetime) -> int:
    """Return a time in ns, cut to seconds: listings have fractions and HEAD has not, and both must give one value."""
    return int(modified.timestamp()) * 10**9


def to_stored_file(location: str, found: StoredObject) -> StoredFile:
    """Return the metadata of an object as those of a file."""
    return StoredFile(location, found.size_bytes, to_modified_ns(found.modified), sha256=found.sha256)


def _parse_metadata(answer: Any, size_bytes: int) -> StoredObject:
    # Some servers capitalise the names of metadata, as HTTP headers are.
    metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
    return StoredObject(size_bytes, answer["ETag"], answer["LastModified"], metadata.get(SHA256), metadata.get(TOKEN))


def split_parts(size_bytes: int, part_bytes: int) -> list[range]:
    """Split a file into the byte ranges of its parts: all of one size but the last, as R2 demands, and at most 9,000.

    Args:
        size_bytes: Size of the file.
        part_bytes: Wanted size of a part; larger files get larger parts.
    """
    least = -(-size_bytes // _MOST_PARTS)
    step = max(part_bytes, -(-least // _MIB) * _MIB)
    return [range(start, min(start + step, size_bytes)) for start in range(0, size_bytes, step)]

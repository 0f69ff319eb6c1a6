"""Objects of a bucket: what is known of them, reading them, and making them in one call."""

import base64
import hashlib
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, TypedDict

from longtake.stores.s3_calls import Answered, Calls
from longtake.stores.s3_errors import Answer
from longtake.stores.s3_keys import Keys
from longtake.stores.store import StoredFile, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Names of user metadata: the digest of the content, and who wrote it, so that a writer knows its own work again.
SHA256 = "longtake-sha256"
TOKEN = "longtake-token"

# Read from a connection at once: large enough to cost little, small enough for many threads.
_PIECE_BYTES = 1 << 20


class Where(TypedDict):
    """Names an object in calls."""

    Bucket: str
    Key: str


@dataclass(frozen=True)
class StoredObject:
    """What a bucket tells of an object."""

    size_bytes: int
    etag: str
    modified: datetime
    sha256: str | None
    token: str | None


@dataclass(frozen=True)
class Objects:
    """Reads the objects of a store."""

    calls: Calls
    keys: Keys

    def where(self, location: str) -> Where:
        """Return what names an object in calls.

        Raises:
            ValueError: The location is not below this store, or no key can have this name.
        """
        return {"Bucket": self.keys.bucket, "Key": self.keys.key(location)}

    def find(self, location: str) -> StoredObject | None:
        """Return what is known of an object; None where there is none."""
        where = self.where(location)
        try:
            found = self.calls.call(lambda client: client.head_object(**where), location)
        except FileNotFoundError:
            return None
        return _told(found, found["ContentLength"])

    def start(self, location: str, most_bytes: int, into: Callable[[int, bytes], None]) -> StoredObject:
        """Read the first bytes of an object, all of them if it has no more; return what is known of it.

        Args:
            location: The object.
            most_bytes: How many.
            into: Takes each piece and its offset.

        Raises:
            FileNotFoundError: There is none.
        """
        where = self.where(location)
        found: StoredObject | None = None
        position = 0

        def ask(client: "S3Client") -> StoredObject:
            nonlocal found, position
            if found is None:
                answer = client.get_object(**where, Range=f"bytes=0-{most_bytes - 1}")
                found = _told(answer, int(answer["ContentRange"].rpartition("/")[2]))
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
            return self.calls.call(ask, location, sees={Answer.RANGE, Answer.PRECONDITION})
        except Answered as error:
            if error.answer is Answer.PRECONDITION:
                raise changed(location) from error
        empty = self.find(location)
        if empty is None:
            raise FileNotFoundError(2, "No such file or directory", location)
        if empty.size_bytes:
            raise changed(location)
        return empty

    def read_range(self, location: str, etag: str, start: int, stop: int, into: Callable[[int, bytes], None]) -> None:
        """Read the bytes from `start` to before `stop`, of the object that has this tag only.

        Raises:
            StoreError: It is another object now.
        """
        where = self.where(location)
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
            self.calls.call(ask, location, sees={Answer.PRECONDITION})
        except (Answered, FileNotFoundError) as error:
            raise changed(location) from error


def write_new(objects: Objects, location: str, body: Callable[[], bytes | IO[bytes]], sha256: bytes) -> bool:
    """Make an object in one call unless there is one; return whether it was made here.

    Args:
        objects: The store's.
        location: The object.
        body: Makes the content, anew at each try.
        sha256: Its digest.
    """
    token = new_token()
    where = objects.where(location)
    metadata = {SHA256: sha256.hex(), TOKEN: token}
    checksum = encoded(sha256)
    unsure = False
    while True:
        try:
            objects.calls.call(
                lambda client: client.put_object(
                    **where, Body=body(), ChecksumSHA256=checksum, Metadata=metadata, IfNoneMatch="*"
                ),
                location,
                sees={Answer.PRECONDITION},
            )
            return True
        except Answered as error:
            unsure = unsure or error.unsure
        if not unsure:
            return False
        # An earlier try whose answer was lost may have made what stands there now.
        if (standing := objects.find(location)) is not None:
            return standing.token == token


def write(objects: Objects, location: str, content: bytes) -> None:
    """Make an object in one call, whatever was there."""
    where = objects.where(location)
    digest = hashlib.sha256(content)
    metadata = {SHA256: digest.hexdigest(), TOKEN: new_token()}
    checksum = encoded(digest.digest())
    objects.calls.call(
        lambda client: client.put_object(**where, Body=content, ChecksumSHA256=checksum, Metadata=metadata), location
    )


def encoded(digest: bytes) -> str:
    """Return a digest as S3's headers have it."""
    return base64.b64encode(digest).decode()


def new_token() -> str:
    """Return what tells one write from all others."""
    return secrets.token_hex(16)


def changed(location: str) -> StoreError:
    """Return the error for an object that is another one than a moment ago."""
    return StoreError("it was changed or removed while it was read; try again", location, passing=True)


def modified_ns(modified: datetime) -> int:
    """Return a time as files have it: to the second, because HEAD tells no more and listings do."""
    return int(modified.timestamp()) * 10**9


def stored_file(location: str, found: StoredObject) -> StoredFile:
    """Return an object as a file of a store."""
    return StoredFile(location, found.size_bytes, modified_ns(found.modified), sha256=found.sha256)


def _told(answer: Any, size_bytes: int) -> StoredObject:
    # Servers may spell the names of metadata with capitals, as HTTP headers are.
    metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
    return StoredObject(size_bytes, answer["ETag"], answer["LastModified"], metadata.get(SHA256), metadata.get(TOKEN))

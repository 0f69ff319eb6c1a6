"""Upload, download and copy objects of a bucket: whole or not at all, and never over an object that exists.

Files above the size of one request travel in parts; downloads are proven by their SHA-256.
"""

import base64
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from longtake.stores.directory import file_digest
from longtake.stores.s3_calls import Answered, S3Answer, failed, no_room
from longtake.stores.s3_objects import SHA256, TOKEN, Objects, StoredObject, changed
from longtake.stores.store import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


_log = logging.getLogger(__name__)

# Of one file. R2 takes few at once of one upload, and no more make a disk or a network faster.
PARTS_AT_ONCE = 4

# S3 takes 10,000: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_MOST_PARTS = 9_000
_MIB = 1 << 20

# Others that complete the same name in the same moment make S3 refuse both; each time one of them is done.
_STARTS = 5

# Claims of other writers that one writer meets, each gone again without an object, before it gives up.
_CLAIMS = 20

# Sends one part, by its number in an upload; returns its tag and checksum.
SendPart = Callable[[range, int, str], tuple[str, str | None]]


def ranges_of(size: int, part_bytes: int) -> list[range]:
    """Return the parts of a file: all of one size but the last, as R2 demands, and never too many."""
    least = -(-size // _MOST_PARTS)
    step = max(part_bytes, -(-least // _MIB) * _MIB)
    return [range(start, min(start + step, size)) for start in range(0, size, step)]


class PartedUpload:
    """One object that is made of parts.

    Args:
        objects: The store's.
        location: The object.
        sha256: Digest of the whole, where it is known.
        checksums: Whether each part comes with its digest.
        check: Raises if the object must not appear although all its parts are there.
    """

    def __init__(
        self,
        objects: Objects,
        location: str,
        sha256: str | None,
        *,
        checksums: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.where = objects.where(location)
        self._objects = objects
        self._location = location
        self._sha256 = sha256
        self._checksums = checksums
        self._check = check
        # Beside the object, where its writer may write; hidden, as what is still being written.
        folder, _, name = location.rpartition("/")
        self._claim = f"{folder}/.longtake-{hashlib.sha256(name.encode()).hexdigest()[:32]}.upload"

    def publish(self, parts: Sequence[range], send: SendPart) -> bool:
        """Make the object unless there is one; return whether it was made here.

        Nothing of it is left when this raises.
        """
        if self._objects.find(self._location) is not None:
            return False
        for _ in range(_STARTS):
            token = secrets.token_hex(16)
            upload_id = self._begin(token)
            made: bool | None = None
            try:
                sent = _send_all(parts, send, upload_id)
                self._check()
                made = self._complete(upload_id, sent, token)
            finally:
                if not made:
                    self._abort(upload_id)
            if made is not None:
                return made
        raise StoreError("others write to this name all the time; try again", self._location, passing=True)

    def _begin(self, token: str) -> str:
        metadata = {TOKEN: token} if self._sha256 is None else {TOKEN: token, SHA256: self._sha256}
        if self._checksums:
            answer = self._objects.calls.call(
                lambda client: client.create_multipart_upload(
                    **self.where, Metadata=metadata, ChecksumAlgorithm="SHA256"
                ),
                self._location,
            )
        else:
            answer = self._objects.calls.call(
                lambda client: client.create_multipart_upload(**self.where, Metadata=metadata), self._location
            )
        return answer["UploadId"]

    def _complete(self, upload_id: str, parts: "list[CompletedPartTypeDef]", token: str) -> bool | None:
        """Return whether the object is ours; None where it is nobody's and the upload is of no use any more.

        Some services check that the name is free, and write a moment later (SeaweedFS 4.48): of two uploads that are
        completed at once, both are told that they have made the object. So the upload to complete is named by a claim
        first, a small object, whose exclusive create is exact everywhere. A writer that finds another's claim
        completes that upload, so that none waits for a writer that has died.
        """
        claim = json.dumps({"UploadId": upload_id, "Parts": parts}).encode()
        for _ in range(_CLAIMS):
            if write_new(self._objects, self._claim, lambda: claim, hashlib.sha256(claim).digest()):
                return self._complete_claimed(upload_id, parts, token)
            is_read = self._complete_for_other()
            if (standing := self._objects.find(self._location)) is not None:
                return standing.token == token
            if is_read:
                # Its upload is gone, and so is its writer.
                self._remove_claim()
        raise StoreError("others write to this name all the time; try again", self._location, passing=True)

    def _complete_claimed(self, upload_id: str, parts: "list[CompletedPartTypeDef]", token: str) -> bool | None:
        """Complete the upload that our claim names, and remove the claim."""
        try:
            if self._call_complete(upload_id, parts):
                return True
            # Taken; or made by an earlier try whose answer was lost, which leaves no upload to complete.
            standing = self._objects.find(self._location)
        except OSError:
            # Before the claim goes, after which another may make the object.
            self._abort(upload_id)
            raise
        finally:
            self._remove_claim()
        return None if standing is None else standing.token == token

    def _complete_for_other(self) -> bool:
        """Complete the upload that another's claim names; return whether there was such a claim still."""
        where = self._objects.where(self._claim)
        try:
            claim = self._objects.calls.call(lambda client: client.get_object(**where)["Body"].read(), self._claim)
        except FileNotFoundError:
            return False
        named = json.loads(claim)
        self._call_complete(named["UploadId"], named["Parts"])
        return True

    def _call_complete(self, upload_id: str, parts: "list[CompletedPartTypeDef]") -> bool:
        """Complete an upload; return False where the name is taken, or the upload is gone."""
        try:
            self._objects.calls.call(
                lambda client: client.complete_multipart_upload(
                    **self.where, UploadId=upload_id, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                ),
                self._location,
                sees={S3Answer.PRECONDITION, S3Answer.CONFLICT, S3Answer.NO_UPLOAD},
            )
        except Answered:
            return False
        return True

    def _remove_claim(self) -> None:
        where = self._objects.where(self._claim)
        try:
            self._objects.calls.call(lambda client: client.delete_object(**where), self._claim, tidying=True)
        except OSError as error:
            _log.warning("%s; the next writer of %s removes it", error, self._location)

    def _abort(self, upload_id: str) -> None:
        try:
            self._objects.calls.call(
                lambda client: client.abort_multipart_upload(**self.where, UploadId=upload_id),
                self._location,
                sees={S3Answer.NO_UPLOAD},
                tidying=True,
            )
        except Answered:
            pass
        except OSError as error:
            _log.warning("%s; an upload was begun and could not be aborted: deleting the job aborts it", error)


def _send_all(parts: Sequence[range], send: SendPart, upload_id: str) -> "list[CompletedPartTypeDef]":
    """Send the parts, some at once; return when none is on its way any more, so that an abort leaves none behind."""
    with ThreadPoolExecutor(min(PARTS_AT_ONCE, len(parts)), thread_name_prefix="s3-part") as pool:
        futures = [pool.submit(send, part, number, upload_id) for number, part in enumerate(parts, 1)]
        try:
            done = wait(futures, return_when=FIRST_EXCEPTION).done
            for future in done:
                future.result()
            return [_completed(number, *future.result()) for number, future in enumerate(futures, 1)]
        finally:
            for future in futures:
                future.cancel()


def _completed(number: int, etag: str, checksum: str | None) -> "CompletedPartTypeDef":
    if checksum is None:
        return {"PartNumber": number, "ETag": etag}
    return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}


# Read from a disk and given to a connection at once.
_UPLOAD_PIECE_BYTES = 1 << 18


class FileSlice:
    """A part of a file, as a body that is sent: read while it is sent, from its beginning at each try."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file.fileno()
        self._start = start
        self._stop = stop
        self._position = start

    def __len__(self) -> int:
        return self._stop - self._start

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; more than asked for, because 16 KiB at a time, as asked, take twice the CPU."""
        wanted = min(_UPLOAD_PIECE_BYTES if size else 0, self._stop - self._position)
        piece = os.pread(self._file, wanted, self._position)
        if len(piece) < wanted:
            # The file was cut. What is promised is sent, and refused because its digest is another.
            piece = piece.ljust(wanted, b"\0")
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset in this part."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._position, os.SEEK_END: self._stop}[whence]
        self._position = base + offset
        return self.tell()

    def tell(self) -> int:
        """Return the offset in this part."""
        return self._position - self._start

    def body(self) -> IO[bytes]:
        """Return itself as the type that boto3 asks for; it needs no more of it than is here."""
        return cast("IO[bytes]", self)

    def sha256(self) -> bytes:
        """Return the digest of this part."""
        self.seek(0)
        digest = hashlib.sha256()
        while piece := self.read():
            digest.update(piece)
        self.seek(0)
        return digest.digest()


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
                sees={S3Answer.PRECONDITION},
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


def upload(objects: Objects, file: Path, location: str, *, sha256: str | None, part_bytes: int) -> bool:
    """Make an object of a local file unless there is one; return whether it was made here.

    Args:
        objects: The store's.
        file: The file; it is read while it is sent.
        location: The object.
        sha256: Its digest, where it is known; spares a reading of a large file.
        part_bytes: A file of more is sent in parts of so much, some at once.

    Raises:
        StoreError: It was written to meanwhile, or the store did not take it; nothing of it is left there.
    """
    with file.open("rb") as content:
        before = _signature(content)
        size = before[0]

        def check() -> None:
            if _signature(content) != before:
                raise StoreError(f"{file} was written to while it was handed in; let its writer end first", location)

        try:
            if size > part_bytes:
                return _upload_parts(objects, content, size, location, sha256 or file_digest(file), part_bytes, check)
            digest = FileSlice(content, 0, size).sha256()
            check()
            return write_new(objects, location, lambda: FileSlice(content, 0, size).body(), digest)
        except StoreError:
            # Which may be why it was refused.
            check()
            raise


def _upload_parts(
    objects: Objects,
    content: BinaryIO,
    size: int,
    location: str,
    sha256: str,
    part_bytes: int,
    check: Callable[[], None],
) -> bool:
    parted = PartedUpload(objects, location, sha256, checksums=True, check=check)

    def send(part: range, number: int, upload_id: str) -> tuple[str, str | None]:
        checksum = encoded(FileSlice(content, part.start, part.stop).sha256())
        answer = objects.calls.call(
            lambda client: client.upload_part(
                **parted.where,
                UploadId=upload_id,
                PartNumber=number,
                Body=FileSlice(content, part.start, part.stop).body(),
                ChecksumSHA256=checksum,
            ),
            location,
        )
        return answer["ETag"], checksum

    return parted.publish(ranges_of(size, part_bytes), send)


def encoded(digest: bytes) -> str:
    """Return a digest as S3's headers have it."""
    return base64.b64encode(digest).decode()


def new_token() -> str:
    """Return what tells one write from all others."""
    return secrets.token_hex(16)


def _signature(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


_DOWNLOAD_PIECE_BYTES = 1 << 20


def download(objects: Objects, location: str, into: Path, *, sha256: str | None, part_bytes: int) -> None:
    """Write an object to a file.

    Args:
        objects: The store's.
        location: The object.
        into: The file; one that is there is replaced when the new one is whole.
        sha256: Digest that it must have; None for the one that the store keeps with it, if any.
        part_bytes: An object of more is read in parts of so much, some at once.

    Raises:
        FileNotFoundError: There is no such object.
        StoreError: It has another content, or was changed meanwhile, or the disk is full; `into` is as it was.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = into.parent / f".{secrets.token_hex(8)}.partial"
    try:
        with partial.open("x+b", buffering=0) as file:
            found, digest = _fetch(objects, location, file, part_bytes)
        _prove(found, digest, sha256, location)
        partial.replace(into)
    except OSError as error:
        trouble = no_room(error, into.parent)
        if trouble is None:
            raise
        raise failed(trouble, location) from error
    finally:
        partial.unlink(missing_ok=True)


def digest_of(objects: Objects, location: str) -> str:
    """Return the SHA-256 of all bytes of an object, as they are now."""
    digest = hashlib.sha256()
    found = objects.start(location, _DOWNLOAD_PIECE_BYTES, lambda _, piece: digest.update(piece))
    if found.size_bytes > _DOWNLOAD_PIECE_BYTES:
        objects.read_range(
            location, found.etag, _DOWNLOAD_PIECE_BYTES, found.size_bytes, lambda _, piece: digest.update(piece)
        )
    return digest.hexdigest()


def _fetch(objects: Objects, location: str, file: BinaryIO, part_bytes: int) -> tuple[StoredObject, str]:
    """Write all bytes of an object; return what is known of it and the digest of what was written."""
    digest = hashlib.sha256()

    def write_first(offset: int, piece: bytes) -> None:
        _write(file, offset, piece)
        digest.update(piece)

    found = objects.start(location, part_bytes, write_first)
    _check_room(found.size_bytes - part_bytes, file, location)
    rest = ranges_of(max(found.size_bytes - part_bytes, 0), part_bytes)
    if not rest:
        return found, digest.hexdigest()

    def fetch(part: range) -> range:
        start, stop = part.start + part_bytes, part.stop + part_bytes
        objects.read_range(location, found.etag, start, stop, lambda offset, piece: _write(file, offset, piece))
        return range(start, stop)

    with ThreadPoolExecutor(min(PARTS_AT_ONCE, len(rest)), thread_name_prefix="s3-part") as pool:
        futures = [pool.submit(fetch, part) for part in rest]
        try:
            for future in futures:
                # In their order, because a digest has one. They were written a moment ago, and are in memory still.
                part = future.result()
                for offset in range(part.start, part.stop, _DOWNLOAD_PIECE_BYTES):
                    digest.update(os.pread(file.fileno(), min(_DOWNLOAD_PIECE_BYTES, part.stop - offset), offset))
        finally:
            for future in futures:
                future.cancel()
    return found, digest.hexdigest()


def _write(file: BinaryIO, offset: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        # A nearly full disk takes a part, and refuses the next.
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def _check_room(wanted: int, file: BinaryIO, location: str) -> None:
    """Raise before gigabytes are fetched for nothing."""
    status = os.fstatvfs(file.fileno())
    if wanted > status.f_bavail * status.f_frsize:
        raise OSError(28, "no room", location)


def _prove(found: StoredObject, digest: str, wanted: str | None, location: str) -> None:
    if digest == (wanted or found.sha256 or digest):
        return
    if found.sha256 == wanted or wanted is None:
        # The store vouches for the right content, so that it was damaged on its way.
        sentence = "it was damaged on its way here: its SHA-256 is another than that of what was handed in; try again"
        raise StoreError(sentence, location, passing=True)
    raise StoreError(f"it has another content: its SHA-256 is {digest} and not {wanted}; hand it in anew", location)


# CopyObject would be one call, but some services ignore its `If-None-Match` and overwrite (MinIO). What
# is small is read and written, which is two calls; a copy in parts is six.
_SMALL_BYTES = 1 << 20

# A call that is answered within the client's time limit where the server reads and writes every byte (SeaweedFS).
_PART_BYTES = 64 << 20


def copy(objects: Objects, source: str, target: str) -> bool:
    """Give an object a second name unless that is taken; return whether it was free.

    Raises:
        FileNotFoundError: There is no such object.
        StoreError: It was changed meanwhile, or the store did not do it; the name is still free then.
    """
    pieces: dict[int, bytes] = {}
    found = objects.start(source, _SMALL_BYTES, pieces.__setitem__)
    if found.size_bytes > _SMALL_BYTES:
        pieces.clear()
        return _copy_parts(objects, source, target, found)
    content = b"".join(pieces[offset] for offset in sorted(pieces))
    digest = hashlib.sha256(content)
    if found.sha256 not in (None, digest.hexdigest()):
        raise StoreError("it is not what was handed in: its SHA-256 is another; render it anew", source)
    return write_new(objects, target, lambda: content, digest.digest())


def _copy_parts(objects: Objects, source: str, target: str, found: StoredObject) -> bool:
    """Have the store do it: the parts of the new object are ranges of the old one."""
    parted = PartedUpload(objects, target, found.sha256, checksums=False)
    key = objects.keys.key(source)

    def send(part: range, number: int, upload_id: str) -> tuple[str, str | None]:
        try:
            answer = objects.calls.call(
                lambda client: client.upload_part_copy(
                    **parted.where,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": objects.keys.bucket, "Key": key},
                    CopySourceRange=f"bytes={part.start}-{part.stop - 1}",
                    CopySourceIfMatch=found.etag,
                ),
                target,
                sees={S3Answer.PRECONDITION},
            )
        except (Answered, FileNotFoundError) as error:
            raise changed(source) from error
        return answer["CopyPartResult"]["ETag"], None

    return parted.publish(ranges_of(found.size_bytes, _PART_BYTES), send)

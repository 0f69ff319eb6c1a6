"""Create objects of a bucket from local files, bytes or other objects: whole or not at all, never over an existing one.

A file above the size of one request is sent in parts (multipart upload); large objects are copied within the store.
"""

import base64
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from longtake.stores.directory import file_digest
from longtake.stores.s3_calls import ExpectedAnswer, S3Answer
from longtake.stores.s3_objects import PARTS_AT_ONCE, SHA256, TOKEN, Objects, StoredObject, changed_error, split_parts
from longtake.stores.store import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef


_log = logging.getLogger(__name__)

# Uploads that one writer begins. Writers that complete the same name at the same moment make S3 refuse all of them;
# each time at least one of them is done.
_MOST_UPLOADS = 5

# Claims of other writers that one writer meets, each gone again without an object, before it gives up.
_MOST_CLAIMS = 20

# Bytes that are read from a disk and given to a connection at once.
_PIECE_BYTES = 1 << 18

# Larger objects are copied in parts. CopyObject would be one request, but some services ignore its `If-None-Match` and
# overwrite (MinIO). Reading and writing a small object are two requests; a copy in parts takes six.
_COPY_SMALL_BYTES = 1 << 20

# Small enough to be copied within the client's time limit where the server reads and writes each byte (SeaweedFS).
_COPY_PART_BYTES = 64 << 20

# Sends the bytes of one part, given its number and the upload; returns its tag and, if it has one, its checksum.
SendPart = Callable[[range, int, str], tuple[str, str | None]]


def upload_file(objects: Objects, file: Path, location: str, *, sha256: str | None, part_bytes: int) -> bool:
    """Upload a local file as a new object; return False, and leave the object alone, if the name is taken.

    Args:
        objects: Objects of the store.
        file: The file; read while it is sent.
        location: Location of the new object.
        sha256: SHA-256 of the file, if known; a large file is then read once rather than twice.
        part_bytes: Size of the parts of a multipart upload; a file of at most one part is sent in one request.

    Raises:
        StoreError: The file was written to meanwhile, or the store refused it; nothing of it is left in the store.
    """
    with file.open("rb") as content:
        size, modified_ns = _size_and_time(content)

        def check_unchanged() -> None:
            if _size_and_time(content) != (size, modified_ns):
                raise StoreError(f"{file} was written to while it was handed in; let its writer end first", location)

        try:
            if size > part_bytes:
                digest = sha256 or file_digest(file)
                multipart = MultipartUpload(objects, location, digest, has_checksums=True, check=check_unchanged)
                return multipart.publish(
                    split_parts(size, part_bytes), partial(_send_part, objects, content, multipart)
                )
            checksum = FileSlice(content, 0, size).sha256()
            check_unchanged()
            return create_object(objects, location, lambda: FileSlice(content, 0, size).body(), checksum)
        except StoreError:
            # A file that was written to has another digest, which the store refuses: say so rather than that.
            check_unchanged()
            raise


def create_object(objects: Objects, location: str, body: Callable[[], bytes | IO[bytes]], sha256: bytes) -> bool:
    """Create an object in one request; return False, and leave the object alone, if the name is taken.

    Args:
        objects: Objects of the store.
        location: Location of the new object.
        body: Makes the content, anew for each try.
        sha256: Digest of the content.
    """
    token = _make_token()
    address = objects.address(location)
    metadata = {SHA256: sha256.hex(), TOKEN: token}
    checksum = _encode_digest(sha256)
    may_be_ours = False
    while True:
        try:
            objects.calls.call(
                lambda client: client.put_object(
                    **address, Body=body(), ChecksumSHA256=checksum, Metadata=metadata, IfNoneMatch="*"
                ),
                location,
                expected={S3Answer.PRECONDITION},
            )
            return True
        except ExpectedAnswer as error:
            may_be_ours = may_be_ours or error.may_be_done
        if not may_be_ours:
            return False
        # An earlier try whose answer was lost may have created the object that has the name now.
        if (existing := objects.find(location)) is not None:
            return existing.token == token


def replace_object(objects: Objects, location: str, content: bytes) -> None:
    """Write an object in one request, in place of any other object of that name."""
    address = objects.address(location)
    digest = hashlib.sha256(content)
    metadata = {SHA256: digest.hexdigest(), TOKEN: _make_token()}
    checksum = _encode_digest(digest.digest())
    objects.calls.call(
        lambda client: client.put_object(**address, Body=content, ChecksumSHA256=checksum, Metadata=metadata), location
    )


def copy_object(objects: Objects, source: str, target: str) -> bool:
    """Copy an object to a new name; return False, and leave the object there alone, if the name is taken.

    Raises:
        FileNotFoundError: There is no object `source`.
        StoreError: The source was changed meanwhile, or the store refused the copy; no object `target` was made.
    """
    pieces: dict[int, bytes] = {}
    found = objects.read_start(source, _COPY_SMALL_BYTES, pieces.__setitem__)
    if found.size_bytes > _COPY_SMALL_BYTES:
        pieces.clear()
        return _copy_parts(objects, source, target, found)
    content = b"".join(pieces[offset] for offset in sorted(pieces))
    digest = hashlib.sha256(content)
    if found.sha256 not in (None, digest.hexdigest()):
        raise StoreError("it is not what was handed in: its SHA-256 is another; render it anew", source)
    return create_object(objects, target, lambda: content, digest.digest())


def _copy_parts(objects: Objects, source: str, target: str, found: StoredObject) -> bool:
    """Copy within the store: the parts of the new object are ranges of the old one, and no bytes pass here."""
    multipart = MultipartUpload(objects, target, found.sha256, has_checksums=False)
    key = objects.keys.key(source)

    def send(part: range, number: int, upload_id: str) -> tuple[str, str | None]:
        try:
            answer = objects.calls.call(
                lambda client: client.upload_part_copy(
                    **multipart.address,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": objects.keys.bucket, "Key": key},
                    CopySourceRange=f"bytes={part.start}-{part.stop - 1}",
                    CopySourceIfMatch=found.etag,
                ),
                target,
                expected={S3Answer.PRECONDITION},
            )
        except (ExpectedAnswer, FileNotFoundError) as error:
            raise changed_error(source) from error
        return answer["CopyPartResult"]["ETag"], None

    return multipart.publish(split_parts(found.size_bytes, _COPY_PART_BYTES), send)


class MultipartUpload:
    """Create one object from parts, whole or not at all.

    Args:
        objects: Objects of the store.
        location: Location of the new object.
        sha256: SHA-256 of the whole object, if known; kept as metadata.
        has_checksums: Whether each part is sent with its own SHA-256.
        check: Raises if the object must not appear although all parts are there.
    """

    def __init__(
        self,
        objects: Objects,
        location: str,
        sha256: str | None,
        *,
        has_checksums: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = objects.address(location)
        self._objects = objects
        self.location = location
        self._sha256 = sha256
        self._has_checksums = has_checksums
        self._check = check
        # Beside the object, because its writer may write there; hidden by its dot, as all unfinished files are.
        folder, _, name = location.rpartition("/")
        self._claim = f"{folder}/.longtake-{hashlib.sha256(name.encode()).hexdigest()[:32]}.upload"

    def publish(self, parts: Sequence[range], send: SendPart) -> bool:
        """Create the object; return False, and leave the object alone, if the name is taken.

        An error leaves neither parts nor an object behind.

        Args:
            parts: Byte ranges of the parts.
            send: Sends one part.

        Raises:
            StoreError: The store refused a part, or other writers kept winning the name.
        """
        if self._objects.find(self.location) is not None:
            return False
        for _ in range(_MOST_UPLOADS):
            token = _make_token()
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
        raise StoreError("others write to this name all the time; try again", self.location, is_temporary=True)

    def _begin(self, token: str) -> str:
        metadata = {TOKEN: token} if self._sha256 is None else {TOKEN: token, SHA256: self._sha256}
        if self._has_checksums:
            answer = self._objects.calls.call(
                lambda client: client.create_multipart_upload(
                    **self.address, Metadata=metadata, ChecksumAlgorithm="SHA256"
                ),
                self.location,
            )
        else:
            answer = self._objects.calls.call(
                lambda client: client.create_multipart_upload(**self.address, Metadata=metadata), self.location
            )
        return answer["UploadId"]

    def _complete(self, upload_id: str, parts: "list[CompletedPartTypeDef]", token: str) -> bool | None:
        """Complete the upload; return whether this writer made the object, None if the upload must start again.

        Some services check that the name is free and write a moment later (SeaweedFS 4.48): of two uploads that are
        completed at once, both are told that they have made the object. So a claim, a small object whose exclusive
        creation is exact everywhere, first names the upload to complete. A writer that finds the claim of another
        writer completes that upload, so that no writer waits for one that has died.
        """
        claim = json.dumps({"UploadId": upload_id, "Parts": parts}).encode()
        for _ in range(_MOST_CLAIMS):
            if create_object(self._objects, self._claim, lambda: claim, hashlib.sha256(claim).digest()):
                return self._complete_claimed(upload_id, parts, token)
            had_claim = self._complete_for_other()
            if (existing := self._objects.find(self.location)) is not None:
                return existing.token == token
            if had_claim:
                # The claimed upload made no object: it was aborted, and its writer is gone.
                self._remove_claim()
        raise StoreError("others write to this name all the time; try again", self.location, is_temporary=True)

    def _complete_claimed(self, upload_id: str, parts: "list[CompletedPartTypeDef]", token: str) -> bool | None:
        """Complete the upload that the claim of this writer names, and remove the claim; return as `_complete` does."""
        try:
            if self._call_complete(upload_id, parts):
                return True
            # The name is taken, maybe by an earlier try whose answer was lost: that leaves no upload to complete.
            existing = self._objects.find(self.location)
        except OSError:
            # Aborted before the claim is removed: after that another writer may create the object.
            self._abort(upload_id)
            raise
        finally:
            self._remove_claim()
        return None if existing is None else existing.token == token

    def _complete_for_other(self) -> bool:
        """Complete the upload that the claim of another writer names; return False if that claim is gone."""
        address = self._objects.address(self._claim)
        try:
            claim = self._objects.calls.call(lambda client: client.get_object(**address)["Body"].read(), self._claim)
        except FileNotFoundError:
            return False
        named = json.loads(claim)
        self._call_complete(named["UploadId"], named["Parts"])
        return True

    def _call_complete(self, upload_id: str, parts: "list[CompletedPartTypeDef]") -> bool:
        """Complete an upload; return False if the name is taken or the upload is gone."""
        try:
            self._objects.calls.call(
                lambda client: client.complete_multipart_upload(
                    **self.address, UploadId=upload_id, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
                ),
                self.location,
                expected={S3Answer.PRECONDITION, S3Answer.CONFLICT, S3Answer.NO_UPLOAD},
            )
        except ExpectedAnswer:
            return False
        return True

    def _remove_claim(self) -> None:
        address = self._objects.address(self._claim)
        try:
            self._objects.calls.call(lambda client: client.delete_object(**address), self._claim, is_cleanup=True)
        except OSError as error:
            _log.warning("%s; the next writer of %s removes it", error, self.location)

    def _abort(self, upload_id: str) -> None:
        try:
            self._objects.calls.call(
                lambda client: client.abort_multipart_upload(**self.address, UploadId=upload_id),
                self.location,
                expected={S3Answer.NO_UPLOAD},
                is_cleanup=True,
            )
        except ExpectedAnswer:
            pass
        except OSError as error:
            _log.warning("%s; an upload was begun and could not be aborted: deleting the job aborts it", error)


def _send_all(parts: Sequence[range], send: SendPart, upload_id: str) -> "list[CompletedPartTypeDef]":
    """Send all parts, some at once; return or raise when none is on its way any more, so that an abort finds all."""
    with ThreadPoolExecutor(min(PARTS_AT_ONCE, len(parts)), thread_name_prefix="s3-part") as pool:
        futures = [pool.submit(send, part, number, upload_id) for number, part in enumerate(parts, 1)]
        try:
            done = wait(futures, return_when=FIRST_EXCEPTION).done
            for future in done:
                future.result()
            return [_completed_part(number, *future.result()) for number, future in enumerate(futures, 1)]
        finally:
            for future in futures:
                future.cancel()


def _completed_part(number: int, etag: str, checksum: str | None) -> "CompletedPartTypeDef":
    if checksum is None:
        return {"PartNumber": number, "ETag": etag}
    return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}


def _send_part(
    objects: Objects, content: BinaryIO, multipart: "MultipartUpload", part: range, number: int, upload_id: str
) -> tuple[str, str | None]:
    """Send one part of a file; return its tag and its checksum."""
    checksum = _encode_digest(FileSlice(content, part.start, part.stop).sha256())
    answer = objects.calls.call(
        lambda client: client.upload_part(
            **multipart.address,
            UploadId=upload_id,
            PartNumber=number,
            Body=FileSlice(content, part.start, part.stop).body(),
            ChecksumSHA256=checksum,
        ),
        multipart.location,
    )
    return answer["ETag"], checksum


class FileSlice:
    """Read the bytes `[start, stop)` of an open file as the body of a request, from the start again at each try."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file = file.fileno()
        self._start = start
        self._stop = stop
        self._position = start

    def __len__(self) -> int:
        return self._stop - self._start

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes: 256 KiB whatever `size` asks for, because 16 KiB at a time take twice the CPU time."""
        wanted = min(_PIECE_BYTES if size else 0, self._stop - self._position)
        piece = os.pread(self._file, wanted, self._position)
        if len(piece) < wanted:
            # The file was truncated. The promised length is sent, and the store refuses its digest.
            piece = piece.ljust(wanted, b"\0")
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset in the slice; return it."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._position, os.SEEK_END: self._stop}[whence]
        self._position = base + offset
        return self.tell()

    def tell(self) -> int:
        """Return the offset in the slice."""
        return self._position - self._start

    def body(self) -> IO[bytes]:
        """Return the slice as the type of boto3's `Body`, which uses no more than the methods here."""
        return cast("IO[bytes]", self)

    def sha256(self) -> bytes:
        """Return the digest of the slice."""
        self.seek(0)
        digest = hashlib.sha256()
        while piece := self.read():
            digest.update(piece)
        self.seek(0)
        return digest.digest()


def _size_and_time(file: BinaryIO) -> tuple[int, int]:
    """Return size and time of modification, which change when somebody writes to the file."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _encode_digest(digest: bytes) -> str:
    """Return a digest in the base64 of S3's headers."""
    return base64.b64encode(digest).decode()


def _make_token() -> str:
    """Return a random token, by which a writer recognises the object of an earlier try of its own."""
    return secrets.token_hex(16)

"""Uploads in parts: the object appears when all are there, unless its name is taken by then."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from longtake.stores.s3_calls import Answered
from longtake.stores.s3_errors import Answer
from longtake.stores.s3_objects import SHA256, TOKEN, Objects, new_token, write_new
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

# How many claims of others are met before this is given up: each was made and withdrawn meanwhile.
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
        # Beside the object, so that who may write the one may write the other; hidden, as what is still being written.
        folder, _, name = location.rpartition("/")
        self._claim = f"{folder}/.longtake-{hashlib.sha256(name.encode()).hexdigest()[:32]}.upload"

    def publish(self, parts: Sequence[range], send: SendPart) -> bool:
        """Make the object unless there is one; return whether it was made here.

        Nothing of it is left when this raises.
        """
        if self._objects.find(self._location) is not None:
            return False
        for _ in range(_STARTS):
            token = new_token()
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

        Some services look whether the name is free, and write a moment later (SeaweedFS 4.48): of two uploads that
        are completed at once, both would be told that they have made the object. So the upload that is to be completed
        is named by a claim first, a small object, whose exclusive create is exact everywhere. Who finds another's
        claim completes that upload in its stead: then nobody waits for a writer that has died.
        """
        claim = json.dumps({"UploadId": upload_id, "Parts": parts}).encode()
        for _ in range(_CLAIMS):
            ours = write_new(self._objects, self._claim, lambda: claim, hashlib.sha256(claim).digest())
            named = claim if ours else self._read_claim()
            if named is None:
                # It was completed in this moment.
                continue
            try:
                made = self._complete_claimed(**json.loads(named))
                standing = None if made and ours else self._objects.find(self._location)
            except OSError:
                if ours:
                    # Before the claim goes: nobody may complete it any more.
                    self._abort(upload_id)
                    self._remove_claim()
                raise
            if ours or standing is None:
                # Another's is left by a writer that died, and of no use any more.
                self._remove_claim()
            if made and ours:
                return True
            if standing is not None:
                # Taken; or made by an earlier try whose answer was lost, which leaves no upload to complete.
                return standing.token == token
            if ours:
                return None
        raise StoreError("others write to this name all the time; try again", self._location, passing=True)

    def _complete_claimed(self, UploadId: str, Parts: "list[CompletedPartTypeDef]") -> bool:
        """Complete an upload; return False where it cannot be, or where that was done before."""
        try:
            self._objects.calls.call(
                lambda client: client.complete_multipart_upload(
                    **self.where, UploadId=UploadId, MultipartUpload={"Parts": Parts}, IfNoneMatch="*"
                ),
                self._location,
                sees={Answer.PRECONDITION, Answer.CONFLICT, Answer.NO_UPLOAD},
            )
        except Answered:
            return False
        return True

    def _read_claim(self) -> bytes | None:
        where = self._objects.where(self._claim)
        try:
            return self._objects.calls.call(lambda client: client.get_object(**where)["Body"].read(), self._claim)
        except FileNotFoundError:
            return None

    def _remove_claim(self) -> None:
        where = self._objects.where(self._claim)
        try:
            self._objects.calls.call(lambda client: client.delete_object(**where), self._claim, tidying=True)
        except OSError as error:
            _log.warning("%s; it is of no use any more: who next writes this name removes it", error)

    def _abort(self, upload_id: str) -> None:
        try:
            self._objects.calls.call(
                lambda client: client.abort_multipart_upload(**self.where, UploadId=upload_id),
                self._location,
                sees={Answer.NO_UPLOAD},
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

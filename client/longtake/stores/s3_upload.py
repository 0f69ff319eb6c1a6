"""Handing files in to a bucket: whole or not at all, and never over a file that stands there."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, BinaryIO, cast

from longtake.stores.directory import file_digest
from longtake.stores.s3_objects import Objects, encoded, write_new
from longtake.stores.s3_parts import PartedUpload, ranges_of
from longtake.stores.store import StoreError

# Read from a disk and given to a connection at once.
_PIECE_BYTES = 1 << 18


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
        wanted = min(_PIECE_BYTES if size else 0, self._stop - self._position)
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


def _signature(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns

"""Download objects of a bucket into local files, each proven by its SHA-256; large ones come in parts."""

import errno
import hashlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from longtake.stores.s3_calls import describe_full_disk, problem_error
from longtake.stores.s3_objects import PARTS_AT_ONCE, Objects, StoredObject, split_parts
from longtake.stores.store import StoreError

# Bytes of a file that are read for its digest at once.
_PIECE_BYTES = 1 << 20


def download_object(objects: Objects, location: str, into: Path, *, sha256: str | None, part_bytes: int) -> None:
    """Download an object into a local file and prove its SHA-256.

    Args:
        objects: Objects of the store.
        location: Location of the object.
        into: The file; an older file is replaced once the new one is whole.
        sha256: SHA-256 that the content must have; None for the one that the store keeps with the object, if any.
        part_bytes: Size of the parts that a larger object is read in, some at once.

    Raises:
        FileNotFoundError: There is no such object.
        StoreError: The object has another content, or was changed meanwhile, or the disk is full; `into` is unchanged.
    """
    # Plain texts, and no call of the disk that is not needed: of a small file they take as long as the transfer.
    folder = os.path.dirname(into)
    partial = f"{folder}/.{secrets.token_hex(8)}.partial"
    is_left = True
    try:
        with _create(partial) as file:
            found, digest = _download(objects, location, file, part_bytes)
        _check_digest(found, digest, sha256, location)
        os.replace(partial, into)
        is_left = False
    except OSError as error:
        problem = describe_full_disk(error, into.parent)
        if problem is None:
            raise
        raise problem_error(problem, location) from error
    finally:
        if is_left:
            with suppress(FileNotFoundError):
                os.unlink(partial)


def _create(path: str) -> BinaryIO:
    """Create a file, and its folder if need be."""
    try:
        return cast("BinaryIO", open(path, "x+b", buffering=0))
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return cast("BinaryIO", open(path, "x+b", buffering=0))


def compute_digest(objects: Objects, location: str) -> str:
    """Read all bytes of an object and return their SHA-256."""
    digest = hashlib.sha256()
    found = objects.read_start(location, _PIECE_BYTES, lambda _, piece: digest.update(piece))
    if found.size_bytes > _PIECE_BYTES:
        objects.read_range(location, found.etag, _PIECE_BYTES, found.size_bytes, lambda _, piece: digest.update(piece))
    return digest.hexdigest()


def _download(objects: Objects, location: str, file: BinaryIO, part_bytes: int) -> tuple[StoredObject, str]:
    """Write all bytes of an object to a file; return the metadata of the object and the digest of the bytes."""
    digest = hashlib.sha256()

    def write_first(offset: int, piece: bytes) -> None:
        _write(file, offset, piece)
        digest.update(piece)

    found = objects.read_start(location, part_bytes, write_first)
    if found.size_bytes <= part_bytes:
        return found, digest.hexdigest()
    _check_room(found.size_bytes - part_bytes, file, location)
    rest = split_parts(found.size_bytes - part_bytes, part_bytes)

    def download_part(part: range) -> range:
        start, stop = part.start + part_bytes, part.stop + part_bytes
        objects.read_range(location, found.etag, start, stop, lambda offset, piece: _write(file, offset, piece))
        return range(start, stop)

    with ThreadPoolExecutor(min(PARTS_AT_ONCE, len(rest)), thread_name_prefix="s3-part") as pool:
        futures = [pool.submit(download_part, part) for part in rest]
        try:
            for future in futures:
                # Digested in their order, and from the file: it was written a moment ago and is in memory still.
                part = future.result()
                for offset in range(part.start, part.stop, _PIECE_BYTES):
                    digest.update(os.pread(file.fileno(), min(_PIECE_BYTES, part.stop - offset), offset))
        finally:
            for future in futures:
                future.cancel()
    return found, digest.hexdigest()


def _write(file: BinaryIO, offset: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        # A nearly full disk writes a part of the bytes, and raises at the next call.
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def _check_room(wanted: int, file: BinaryIO, location: str) -> None:
    """Raise if the disk has no room for the rest of an object, before gigabytes are downloaded for nothing."""
    status = os.fstatvfs(file.fileno())
    if wanted > status.f_bavail * status.f_frsize:
        raise OSError(errno.ENOSPC, "no room", location)


def _check_digest(found: StoredObject, digest: str, wanted: str | None, location: str) -> None:
    """Raise unless downloaded bytes have the wanted digest, or else the one that the store keeps."""
    if digest == (wanted or found.sha256 or digest):
        return
    if found.sha256 == wanted or wanted is None:
        # The store keeps the right digest, so that the bytes were damaged on their way.
        sentence = "it was damaged on its way here: its SHA-256 is another than that of what was handed in; try again"
        raise StoreError(sentence, location, is_temporary=True)
    raise StoreError(f"it has another content: its SHA-256 is {digest} and not {wanted}; hand it in anew", location)

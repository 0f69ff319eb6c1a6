"""Bringing objects of a bucket to this host: proven, and under their name only when they are whole."""

import hashlib
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from longtake.stores.s3_calls import failed
from longtake.stores.s3_errors import no_room
from longtake.stores.s3_objects import Objects, StoredObject
from longtake.stores.s3_parts import PARTS_AT_ONCE, ranges_of
from longtake.stores.store import StoreError

_PIECE_BYTES = 1 << 20


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
    found = objects.start(location, _PIECE_BYTES, lambda _, piece: digest.update(piece))
    if found.size_bytes > _PIECE_BYTES:
        objects.read_range(location, found.etag, _PIECE_BYTES, found.size_bytes, lambda _, piece: digest.update(piece))
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
                for offset in range(part.start, part.stop, _PIECE_BYTES):
                    digest.update(os.pread(file.fileno(), min(_PIECE_BYTES, part.stop - offset), offset))
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

"""Handing the inputs of a job in to its bucket, each content once."""

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from longtake.errors import BadJobError
from longtake.input_files import LocalInput, find_inputs, path_below
from longtake.models.inputs import INPUTS_FOLDER, InputBundle, InputFile, InputManifest, content_path, manifest_path
from longtake.models.job import ChunkList, RenderJobSpec
from longtake.stores.factory import is_bucket
from longtake.stores.store import Store, StoreError, each
from longtake.transfer.progress import store_of

_PIECE_BYTES = 1 << 20

# A listing tells of 1,000 files in the time of two looks at single ones.
_WORTH_A_GLANCE = 50
_MOST_LISTED = 50_000

# What tells that nobody has written to a file: its inode, size and time.
_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class HandingIn:
    """How far the handing in of a job's inputs is.

    Args:
        files: How many files there are.
        size_bytes: How many bytes they have together.
        read_bytes: How many of them were read, to know their digests.
        done_bytes: How many of them are in the store.
        sent_files: How many files were sent; the others were there.
        sent_bytes: How many bytes those have.
    """

    files: int
    size_bytes: int
    read_bytes: int = 0
    done_bytes: int = 0
    sent_files: int = 0
    sent_bytes: int = 0


Tell = Callable[[HandingIn], None]


def needs_handing_in(job: RenderJobSpec) -> bool:
    """Tell whether what renders of this job read must be in a bucket before it is started."""
    return job.store is not None and is_bucket(job.store)


def handed_in(job: RenderJobSpec, *, tell: Tell = lambda _: None, stop: threading.Event | None = None) -> RenderJobSpec:
    """Return the job as it is started: its inputs are in its bucket, and it names nothing of this host any more.

    What is in the bucket already is not sent again, so that the same files make the same job. Blocking. A job whose
    store is a directory stays as it is: renders use its inputs in place.

    Args:
        job: The job, with paths of this host.
        tell: Hears how far it is, from several threads, one at a time.
        stop: Ends it between two files when it is set.

    Raises:
        BadJobError: An input cannot be handed in; nothing half-made is left in the store.
        StoreUnusableError: The store cannot be reached or does not take it.
    """
    if not needs_handing_in(job) or job.store is None:
        return job
    if not _names_files(job):
        # Whoever only starts such a job needs no access to its bucket.
        return job.model_copy(update={"base_dir": None})
    stop = stop or threading.Event()
    with store_of(job.store, stop) as store:
        return _Delivery(job, store, tell, stop).job()


def _names_files(job: RenderJobSpec) -> bool:
    """Tell whether a job names files of this host."""
    handed_in_before = isinstance(job.inputs, InputBundle)
    return job.chunk_list is not None or (not handed_in_before and bool(job.inputs or job.audio))


class _Delivery:
    """The way of one job's inputs to its store."""

    def __init__(self, job: RenderJobSpec, store: Store, tell: Tell, stop: threading.Event) -> None:
        self._job = job
        self._store = store
        self._tell = tell
        self._stop = stop
        self._lock = threading.Lock()
        self._now = HandingIn(0, 0)

    def job(self) -> RenderJobSpec:
        changes: dict[str, object] = {"base_dir": None}
        base = Path(self._job.base_dir or os.getcwd())
        if not isinstance(self._job.inputs, InputBundle):
            changes["inputs"] = self._bundle()
            if self._job.audio is not None:
                changes["audio"] = path_below(base, self._job.audio, "audio")
        if self._job.chunk_list is not None:
            changes["chunks"] = self._chunk_list(base, self._job.chunk_list)
        return self._job.model_copy(update=changes)

    def _bundle(self) -> InputBundle | tuple[()]:
        found = find_inputs(self._job)
        if not found:
            return ()
        self._count(files=len(found), size_bytes=sum(file.size_bytes for file in found))
        read = each(self._store, self._read, found)
        manifest = InputManifest(files=tuple(file for file, _ in read))
        by_content = {file.sha256: (local, file, sign) for local, (file, sign) in zip(found, read, strict=True)}
        self._count(
            done_bytes=manifest.bundle().size_bytes - sum(file.size_bytes for _, file, _ in by_content.values())
        )
        absent = self._absent(set(by_content))
        each(self._store, lambda one: self._send(*one, is_absent=one[1].sha256 in absent), by_content.values())
        bundle, content = manifest.bundle(), manifest.to_bytes()
        place = self._store.locate(manifest_path(bundle.sha256))
        if not self._stands(place, bundle.sha256, len(content)):
            self._store.replace(place, content)
        return bundle

    def _read(self, local: LocalInput) -> tuple[InputFile, _Signature]:
        """Return what a manifest says of a file, and what tells whether it is still so."""
        try:
            with local.file.open("rb") as file:
                before = _signature(os.fstat(file.fileno()))
                digest, size = hashlib.sha256(), 0
                while piece := file.read(_PIECE_BYTES):
                    self._go_on()
                    digest.update(piece)
                    size += len(piece)
                    self._count(read_bytes=len(piece))
                if _signature(os.fstat(file.fileno())) != before or size != before[1]:
                    raise _changed(local)
        except OSError as error:
            raise _unreadable(local, error) from error
        known = InputFile(path=local.path, sha256=digest.hexdigest(), size_bytes=size, executable=local.executable)
        return known, before

    def _absent(self, contents: set[str]) -> set[str]:
        """Return contents that are not in the store, as far as a glance tells; the others are looked at one by one."""
        if len(contents) < _WORTH_A_GLANCE:
            return set()
        listing = self._store.files(self._store.locate(INPUTS_FOLDER))
        names = {file.name for file in islice(listing, _MOST_LISTED)}
        return contents - names if len(names) < _MOST_LISTED else set()

    def _send(self, local: LocalInput, file: InputFile, read: _Signature, *, is_absent: bool = False) -> None:
        place = self._store.locate(content_path(file.sha256))
        while True:
            self._go_on()
            if not is_absent and self._stands(place, file.sha256, file.size_bytes):
                self._count(done_bytes=file.size_bytes)
                return
            if self._put(local, place, file, read):
                self._count(done_bytes=file.size_bytes, sent_files=1, sent_bytes=file.size_bytes)
                return
            # Another client was quicker, by moments.
            is_absent = False

    def _put(self, local: LocalInput, place: str, file: InputFile, read: _Signature) -> bool:
        """Return whether a content was sent; False where it stands already."""
        try:
            made = self._store.put(local.file, place)
        except FileNotFoundError as error:
            raise _changed(local) from error
        except StoreError as error:
            if _is(local.file, read):
                raise
            self._take_back(place, file)
            raise _changed(local) from error
        if not _is(local.file, read):
            self._take_back(place, file)
            raise _changed(local)
        return made

    def _stands(self, place: str, sha256: str, size_bytes: int) -> bool:
        """Tell whether a content is in the store; another one under its name is removed."""
        there = self._store.stat(place)
        if there is None:
            return False
        if there.size_bytes == size_bytes and there.sha256 in (None, sha256):
            return True
        self._store.remove(place)
        return False

    def _take_back(self, place: str, file: InputFile) -> None:
        """Remove what was sent of a file that changed on its way; others would take it for what its name says."""
        with suppress(FileNotFoundError):
            if self._store.digest(place) != file.sha256:
                self._store.remove(place)

    def _chunk_list(self, base: Path, listed: ChunkList) -> ChunkList:
        if listed.path == content_path(listed.sha256):
            return listed
        path = base / listed.path
        try:
            local = LocalInput("chunks.path", listed.path, path, path.stat().st_size, executable=False)
        except OSError as error:
            raise BadJobError(f"chunks.path: {path} cannot be read ({error.strerror}); mend the path") from error
        self._count(files=1, size_bytes=local.size_bytes)
        file, sign = self._read(local)
        if file.sha256 != listed.sha256:
            raise BadJobError(f"chunks.sha256: {path} is not the file it was; write its digest anew")
        self._send(local, file, sign)
        return listed.model_copy(update={"path": content_path(file.sha256)})

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise BadJobError("inputs: handing them in was interrupted; submit again, and what is there is not resent")

    def _count(self, **more: int) -> None:
        with self._lock:
            self._now = HandingIn(**{name: value + more.get(name, 0) for name, value in vars(self._now).items()})
            self._tell(self._now)


def _signature(status: os.stat_result) -> _Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is(file: Path, read: _Signature) -> bool:
    with suppress(OSError):
        return _signature(file.stat()) == read
    return False


def _changed(local: LocalInput) -> BadJobError:
    return BadJobError(f"{local.field}: {local.path} was written to while it was handed in; submit when it is at rest")


def _unreadable(local: LocalInput, error: OSError) -> BadJobError:
    if isinstance(error, FileNotFoundError):
        return BadJobError(f"{local.field}: there is no {local.file} any more; submit when its writer has ended")
    return BadJobError(f"{local.field}: {local.file} cannot be read ({error.strerror}); change its permissions")

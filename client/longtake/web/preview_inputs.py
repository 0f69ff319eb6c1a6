"""Open the files that a job names for its film, its sound and its colours, as far as a server may read them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from longtake.models.inputs import InputBundle, InputFile, content_path
from longtake.models.job import RenderJobSpec
from longtake.stores.job_records import JobRecords
from longtake.stores.store import Store
from longtake.stores.stored_file import OutsideError, open_stored
from longtake.transfer.upload_inputs import read_manifest
from longtake.web.preview_cache import PreviewCache

# The copy of one in a bucket takes its room from what else is kept.
_MOST_BYTES = 512 << 20
_MOST_KNOWN = 200


@dataclass(frozen=True)
class OpenInput:
    """A file that a job names, open.

    Args:
        descriptor: Its descriptor.
        suffix: The extension of its name, in small letters.
        version: Another one when its content is another.
        path: Where it is.
    """

    descriptor: int
    suffix: str
    version: str
    path: str


class PreviewInputs:
    """Open inputs of jobs; those of a bucket are copied.

    Args:
        cache: Where copies are kept.
    """

    def __init__(self, cache: PreviewCache) -> None:
        self._cache = cache
        self._lock = Lock()
        self._known: dict[tuple[str, str, str], InputFile | None] = {}

    @contextmanager
    def open(
        self, records: JobRecords, job: RenderJobSpec, name: str, folders: Sequence[str]
    ) -> Iterator[OpenInput | None]:
        """Open a file that a job names; None where there is none that may be read. Blocking.

        Args:
            records: The job's records.
            job: The job.
            name: Name of the file in the job.
            folders: Folders one of which a file of this host must lie in.
        """
        is_here = records.store.is_local
        found = _open_local(records, job, name, folders) if is_here else self._copy(records, job, name)
        try:
            yield found
        finally:
            if found is not None:
                os.close(found.descriptor)

    def _copy(self, records: JobRecords, job: RenderJobSpec, name: str) -> OpenInput | None:
        file = self._find(records.store, job, name)
        if file is None or file.size_bytes > _MOST_BYTES:
            return None
        store, key = records.store, f"input-{file.sha256}"
        descriptor = self._cache.open(key)
        if descriptor is None:
            location = store.locate(content_path(file.sha256))
            try:
                self._cache.keep(key, lambda path: store.download(location, path, sha256=file.sha256))
            except FileNotFoundError:
                return None
            descriptor = self._cache.open(key)
        if descriptor is None:
            return None
        return OpenInput(descriptor, Path(name).suffix.lower(), file.sha256, str(self._cache.folder / key))

    def _find(self, store: Store, job: RenderJobSpec, name: str) -> InputFile | None:
        """Find an uploaded input by its name."""
        if not isinstance(job.inputs, InputBundle):
            return None
        key = (store.url, job.inputs.sha256, name)
        with self._lock:
            if key in self._known:
                return self._known[key]
        wanted = os.path.normpath(name)
        manifest = read_manifest(store, job.inputs)
        found = next((file for file in manifest.files if file.path == wanted), None) if manifest is not None else None
        with self._lock:
            self._known[key] = found
            if len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return found


def _open_local(records: JobRecords, job: RenderJobSpec, name: str, folders: Sequence[str]) -> OpenInput | None:
    path = os.path.join(job.base_dir or records.store.url, name)
    try:
        opened = open_stored(records.store, path, folders)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, OutsideError):
        return None
    assert opened.descriptor is not None
    version = f"{path} {opened.size_bytes} {opened.modified_ns}"
    return OpenInput(opened.descriptor, Path(name).suffix.lower(), version, path)

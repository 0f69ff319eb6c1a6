"""Upload the inputs of a job to its bucket, each content once."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from longtake.errors import BadJobError
from longtake.models.films import FilmSpec
from longtake.models.frames import ChunkList
from longtake.models.inputs import (
    INPUTS_FOLDER,
    LARGEST_MANIFEST_BYTES,
    MOST_INPUTS,
    InputBundle,
    InputFile,
    InputManifest,
    check_input_path,
    content_path,
    manifest_path,
)
from longtake.models.job import RenderJobSpec
from longtake.paths import is_bookkeeping
from longtake.stores.factory import is_bucket, open_client_store
from longtake.stores.store import Store, StoreError, map_parallel
from longtake.text import describe_invalid, escape_text
from longtake.transfer.progress import OnProgress, ProgressCounter

# Bytes of an input that are read for its digest at once.
_PIECE_BYTES = 1 << 20

# From this many contents on the store is listed first: a listing returns 1,000 names in the time of two single calls.
_LEAST_LISTED = 50
# Longer listings cost more than they save.
_MOST_LISTED = 50_000

# Inode, size and modification time of a file, which change when somebody writes to the file.
_Signature = tuple[int, int, int]


@dataclass(frozen=True)
class LocalInput:
    """A local file that renders read.

    Args:
        field: Key of the job that names the file or its folder, as in `inputs[2]`.
        path: Path below `base_dir`, at which renders find the file.
        file: The file.
        size_bytes: Size of the file now.
        executable: Whether the file is a program.
    """

    field: str
    path: str
    file: Path
    size_bytes: int
    executable: bool


def needs_upload(job: RenderJobSpec) -> bool:
    """Tell whether the inputs of a job must be uploaded before the job starts: its store is a bucket."""
    return job.store is not None and is_bucket(job.store)


def measure_inputs(job: RenderJobSpec) -> tuple[int, int]:
    """Return the number of inputs of a job and their size in bytes, without reading or uploading them.

    Raises:
        BadJobError: An input is missing or cannot be uploaded.
    """
    if isinstance(job.inputs, InputBundle):
        return job.inputs.files, job.inputs.size_bytes
    found = find_inputs(job)
    return len(found), sum(file.size_bytes for file in found)


def upload_inputs(
    job: RenderJobSpec, *, on_progress: OnProgress = lambda _: None, stop: threading.Event | None = None
) -> RenderJobSpec:
    """Upload the inputs of a job to its bucket; return the job as it is started, without paths of this host. Blocking.

    Contents that are in the bucket already are not sent again, and the same files make the same job. A job whose store
    is a directory is returned as it is: renders read its inputs in place.

    Args:
        job: The job, with paths of this host.
        on_progress: Called with each new total, from several threads, one at a time.
        stop: Event that ends the upload between two files.

    Raises:
        BadJobError: An input cannot be uploaded; nothing half-made is left in the store.
        StoreUnusableError: The store cannot be reached or refuses an input.
    """
    if not needs_upload(job) or job.store is None:
        return job
    if not _names_files(job):
        # Without files to upload, a client needs no access to the bucket.
        return job.model_copy(update={"base_dir": None})
    with open_client_store(job.store, stop) as store:
        return _InputUpload(job, store, ProgressCounter(on_progress, stop, _make_interrupted_error)).run()


def _names_files(job: RenderJobSpec) -> bool:
    """Tell whether a job names files of this host."""
    if isinstance(job.inputs, InputBundle):
        return job.chunk_list is not None or bool(_find_new_film_files(job))
    return job.chunk_list is not None or bool(job.inputs or job.audio_files or job.colour_files)


def _find_new_film_files(job: RenderJobSpec) -> dict[str, str]:
    """Return the fields of sounds and colour settings that are not uploaded, by the names of their files.

    Beside inputs that are uploaded those alone are files of this host that are named from the root.
    """
    files = (*job.audio_files, *job.colour_files)
    return {name: field for field, name in files if os.path.isabs(name) or not isinstance(job.inputs, InputBundle)}


class _InputUpload:
    """Carry out one call of `upload_inputs`."""

    def __init__(self, job: RenderJobSpec, store: Store, counter: ProgressCounter) -> None:
        self._job = job
        self._store = store
        self._counter = counter

    def run(self) -> RenderJobSpec:
        changes: dict[str, object] = {"base_dir": None}
        base = Path(self._job.base_dir or os.getcwd())
        names: dict[str, str] = {}
        there = self._job.inputs
        if isinstance(there, InputBundle) and not _find_new_film_files(self._job):
            changes["inputs"] = there
        elif isinstance(there, InputBundle) or (self._job.film_only and not there):
            changes["inputs"], names = self._add_film_files(base, there if isinstance(there, InputBundle) else None)
        else:
            changes["inputs"] = self._upload_bundle()
            for field, name in (*self._job.audio_files, *self._job.colour_files):
                names[name] = relative_input_path(base, name, field)
        job = self._job.rename_film_files(lambda _, name: names.get(name, name))
        if self._job.chunk_list is not None:
            changes["chunks"] = self._upload_chunk_list(base, self._job.chunk_list)
        return job.model_copy(update=changes)

    def _upload_bundle(self) -> InputBundle | tuple[()]:
        """Upload all inputs, then their manifest."""
        found = find_inputs(self._job)
        if not found:
            return ()
        self._counter.add(files=len(found), size_bytes=sum(file.size_bytes for file in found))
        read = map_parallel(self._store, self._read, found)
        manifest = InputManifest(files=tuple(file for file, _ in read))
        by_content = {
            file.sha256: (local, file, signature) for local, (file, signature) in zip(found, read, strict=True)
        }
        self._counter.add(
            done_files=len(found) - len(by_content),
            done_bytes=manifest.bundle().size_bytes - sum(file.size_bytes for _, file, _ in by_content.values()),
        )
        absent = self._find_absent(set(by_content))
        map_parallel(self._store, lambda one: self._send(*one, is_absent=one[1].sha256 in absent), by_content.values())
        return self._upload_manifest(manifest).model_copy(update={"render_sha256": _digest_render(manifest, self._job)})

    def _add_film_files(self, base: Path, there: InputBundle | None) -> tuple[InputBundle | tuple[()], dict[str, str]]:
        """Upload sounds and colour settings of a film beside inputs that are uploaded.

        What renders read stays what it was, and with it the digests of their chunks.

        Returns:
            The inputs, and the new names of the files.
        """
        files = {file.path: file for file in self._require_manifest(there).files} if there else {}
        found: list[LocalInput] = []
        names: dict[str, str] = {}
        taken: dict[str, str] = {}
        for name, field in _find_new_film_files(self._job).items():
            whole = os.path.normpath(base / name)
            path = os.path.relpath(whole, base)
            path = os.path.basename(whole) if path.startswith("../") else path
            if taken.setdefault(path, whole) != whole:
                raise BadJobError(f"{field}: {escape_text(whole, 400)} is another file of the name {path}; rename one")
            names[name] = path
            if os.path.lexists(whole) or path not in files:
                found += list(_InputSearch(Path(whole.removesuffix(path)), field).files(path))
        self._counter.add(files=len(found), size_bytes=sum(local.size_bytes for local in found))
        for local in found:
            file, signature = self._read(local)
            self._send(local, file, signature)
            files[local.path] = file
        if not files:
            return (), names
        try:
            manifest = InputManifest(files=tuple(files[path] for path in sorted(files)))
        except ValidationError as error:
            raise BadJobError(f"{found[0].field}: {describe_invalid(error)}; give the file another name") from error
        read = "" if there is None else there.sha256 if there.render_sha256 is None else there.render_sha256
        return self._upload_manifest(manifest).model_copy(update={"render_sha256": read}), names

    def _require_manifest(self, bundle: InputBundle) -> InputManifest:
        manifest = read_manifest(self._store, bundle)
        if manifest is None:
            place = self._store.locate(manifest_path(bundle.sha256))
            raise BadJobError(f"inputs: {place} is not the list that was handed in; submit the job file anew")
        return manifest

    def _upload_manifest(self, manifest: InputManifest) -> InputBundle:
        bundle, content = manifest.bundle(), manifest.to_bytes()
        place = self._store.locate(manifest_path(bundle.sha256))
        if not self._is_stored(place, bundle.sha256, len(content)):
            self._store.replace(place, content)
        return bundle

    def _read(self, local: LocalInput) -> tuple[InputFile, _Signature]:
        """Read a file; return its entry in the manifest and its signature at that time."""
        try:
            with local.file.open("rb") as file:
                before = _signature(os.fstat(file.fileno()))
                digest, size = hashlib.sha256(), 0
                while piece := file.read(_PIECE_BYTES):
                    digest.update(piece)
                    size += len(piece)
                    self._counter.add(read_bytes=len(piece))
                if _signature(os.fstat(file.fileno())) != before or size != before[1]:
                    raise _make_changed_error(local)
        except OSError as error:
            raise _make_unreadable_error(local, error) from error
        known = InputFile(path=local.path, sha256=digest.hexdigest(), size_bytes=size, executable=local.executable)
        return known, before

    def _find_absent(self, contents: set[str]) -> set[str]:
        """Return contents that a listing shows to be absent from the store; all others are checked one by one."""
        if len(contents) < _LEAST_LISTED:
            return set()
        listing = self._store.files(self._store.locate(INPUTS_FOLDER))
        names = {file.name for file in islice(listing, _MOST_LISTED)}
        return contents - names if len(names) < _MOST_LISTED else set()

    def _send(self, local: LocalInput, file: InputFile, read: _Signature, *, is_absent: bool = False) -> None:
        """Upload a content unless the store has it, and count the file as done."""
        place = self._store.locate(content_path(file.sha256))
        while True:
            self._counter.check_stop()
            if not is_absent and self._is_stored(place, file.sha256, file.size_bytes):
                self._counter.add(done_files=1, done_bytes=file.size_bytes)
                return
            if self._put(local, place, file, read):
                self._counter.add(done_files=1, done_bytes=file.size_bytes, sent_files=1, sent_bytes=file.size_bytes)
                return
            # Another client has uploaded the content meanwhile: check that one.
            is_absent = False

    def _put(self, local: LocalInput, place: str, file: InputFile, read: _Signature) -> bool:
        """Upload a content; return False if its name is taken.

        Raises:
            BadJobError: The file was changed since it was read; its content is removed from the store again.
        """
        try:
            made = self._store.put(local.file, place)
        except FileNotFoundError as error:
            raise _make_changed_error(local) from error
        except StoreError as error:
            if _is_unchanged(local.file, read):
                raise
            self._remove_changed(place, file)
            raise _make_changed_error(local) from error
        if not _is_unchanged(local.file, read):
            self._remove_changed(place, file)
            raise _make_changed_error(local)
        return made

    def _is_stored(self, place: str, sha256: str, size_bytes: int) -> bool:
        """Tell whether the store has a content; remove another content that has its name."""
        there = self._store.stat(place)
        if there is None:
            return False
        if there.size_bytes == size_bytes and there.sha256 in (None, sha256):
            return True
        self._store.remove(place)
        return False

    def _remove_changed(self, place: str, file: InputFile) -> None:
        """Remove the content of a file that changed during its upload: other jobs would trust its name, a digest."""
        with suppress(FileNotFoundError):
            if self._store.digest(place) != file.sha256:
                self._store.remove(place)

    def _upload_chunk_list(self, base: Path, listed: ChunkList) -> ChunkList:
        """Upload the file with the chunk list, unless the list names an uploaded one."""
        if listed.path == content_path(listed.sha256):
            return listed
        path = base / listed.path
        try:
            local = LocalInput("chunks.path", listed.path, path, path.stat().st_size, executable=False)
        except OSError as error:
            raise BadJobError(f"chunks.path: {path} cannot be read ({error.strerror}); mend the path") from error
        self._counter.add(files=1, size_bytes=local.size_bytes)
        file, signature = self._read(local)
        if file.sha256 != listed.sha256:
            raise BadJobError(f"chunks.sha256: {path} is not the file it was; write its digest anew")
        self._send(local, file, signature)
        return listed.model_copy(update={"path": content_path(file.sha256)})


def read_manifest(store: Store, bundle: InputBundle) -> InputManifest | None:
    """Read which files a bundle consists of; None where its list is gone, or is not the one that was handed in."""
    try:
        content = store.read(store.locate(manifest_path(bundle.sha256)), most_bytes=LARGEST_MANIFEST_BYTES)
        if hashlib.sha256(content).hexdigest() == bundle.sha256:
            return InputManifest.model_validate_json(content)
    except (FileNotFoundError, ValidationError):
        pass
    return None


def _digest_render(manifest: InputManifest, job: RenderJobSpec) -> str | None:
    """Return the digest of the files that renders read; None where there are none for the film alone."""
    if not job.audio_files and not job.colour_files:
        return None
    renders = job.model_copy(update={"audio": None, "colour": None, "film": FilmSpec()})
    read = {file.path for file in find_inputs(renders)}
    files = tuple(file for file in manifest.files if file.path in read)
    return InputManifest(files=files).bundle().sha256 if files else ""


def find_inputs(job: RenderJobSpec) -> list[LocalInput]:
    """Find all files that `inputs`, and `audio` and `colour` of films, name, sorted by their paths, each once.

    Links are followed if they stay below `base_dir`. Folders are searched, without Longtake's own bookkeeping; empty
    folders are ignored.

    Raises:
        BadJobError: `inputs[2]: what is wrong; the fix`.
    """
    base = Path(job.base_dir or os.getcwd())
    named = [] if isinstance(job.inputs, InputBundle) else list(job.inputs)
    fields = [(f"inputs[{index}]", name) for index, name in enumerate(named)]
    fields += [*job.audio_files, *job.colour_files]
    found: dict[str, LocalInput] = {}
    for field, name in fields:
        for file in _InputSearch(base, field).files(relative_input_path(base, name, field)):
            found.setdefault(file.path, file)
            if len(found) > MOST_INPUTS:
                raise BadJobError(
                    f"{field}: makes more than {MOST_INPUTS:,} files; name those that renders read, or pack them"
                )
    return [found[path] for path in sorted(found)]


def relative_input_path(base: Path, name: str, field: str) -> str:
    """Return the path of an input relative to `base_dir`; `.` for `base_dir` itself.

    Raises:
        BadJobError: The input lies outside of `base_dir`.
    """
    whole = os.path.normpath(base / name)
    path = os.path.relpath(whole, os.path.normpath(base))
    if not name or path == ".." or path.startswith("../"):
        raise BadJobError(
            f"{field}: {escape_text(name, 200)} lies outside base_dir ({base}), and only what is below it is handed "
            "in; move it there, or set base_dir to a folder that holds both"
        )
    return path


class _InputSearch:
    """Find the files of one input, links and folders followed."""

    def __init__(self, base: Path, field: str) -> None:
        self._base = base
        self._inside = os.path.realpath(base)
        self._field = field

    def files(self, path: str) -> Iterator[LocalInput]:
        file = self._base / path
        if not os.path.lexists(file):
            raise self._error(f"there is no {file}", "put it there, or leave it out")
        self._check_inside(path)
        yield from self._walk(path, ())

    def _walk(self, path: str, above: tuple[str, ...]) -> Iterator[LocalInput]:
        """Yield the file at a path, or all files below a folder; `above` are the folders on the way, links resolved."""
        if path != ".":
            self._check_name(path)
        file = self._base / path
        try:
            status = file.stat()
            if stat.S_ISDIR(status.st_mode):
                real = os.path.realpath(file)
                if real in above:
                    raise self._error(f"{path} is a link to a folder that it lies in", "remove the link")
                with os.scandir(file) as entries:
                    inner = sorted((entry.name, entry.is_symlink()) for entry in entries)
                yield from self._in_folder("" if path == "." else f"{path}/", inner, (*above, real))
                return
        except FileNotFoundError as error:
            raise self._error(f"{path} is a link to nothing", "mend or remove it") from error
        except OSError as error:
            raise self._error(f"{path} cannot be read ({error.strerror})", "change its permissions") from error
        if not stat.S_ISREG(status.st_mode):
            raise self._error(f"{path} is neither a file nor a folder", "take it out")
        yield LocalInput(self._field, path, file, status.st_size, bool(status.st_mode & stat.S_IXUSR))

    def _in_folder(self, prefix: str, inner: list[tuple[str, bool]], above: tuple[str, ...]) -> Iterator[LocalInput]:
        for name, is_link in inner:
            if is_bookkeeping(name):
                continue
            if is_link:
                self._check_inside(prefix + name)
            yield from self._walk(prefix + name, above)

    def _check_inside(self, path: str) -> None:
        real = os.path.realpath(self._base / path)
        if real != self._inside and not real.startswith(f"{self._inside.rstrip('/')}/"):
            raise self._error(f"{path} leads out of base_dir, to {real}", "copy what it leads to below base_dir")

    def _check_name(self, path: str) -> None:
        try:
            check_input_path(path)
        except ValueError as error:
            raise BadJobError(f"{self._field}: {error}") from error

    def _error(self, problem: str, fix: str) -> BadJobError:
        return BadJobError(f"{self._field}: {escape_text(problem, 400)}; {fix}")


def _signature(status: os.stat_result) -> _Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _is_unchanged(file: Path, read: _Signature) -> bool:
    with suppress(OSError):
        return _signature(file.stat()) == read
    return False


def _make_interrupted_error() -> BadJobError:
    return BadJobError("inputs: handing them in was interrupted; submit again, and what is there is not resent")


def _make_changed_error(local: LocalInput) -> BadJobError:
    return BadJobError(f"{local.field}: {local.path} was written to while it was handed in; submit when it is at rest")


def _make_unreadable_error(local: LocalInput, error: OSError) -> BadJobError:
    if isinstance(error, FileNotFoundError):
        return BadJobError(f"{local.field}: there is no {local.file} any more; submit when its writer has ended")
    return BadJobError(f"{local.field}: {local.file} cannot be read ({error.strerror}); change its permissions")

"""What renders read of a job in a bucket: fetched once a host, and laid out in a folder that they run in."""

import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from activities.stores.file_locks import locked
from activities.stores.input_contents import InputContents
from activities.stores.input_places import InputPlaces, Place
from activities.stores.job_folder import OpenJob
from longtake.concurrency import in_thread
from longtake.models.inputs import InputBundle, InputFile, InputManifest, manifest_path
from longtake.stores.directory import DirectoryStore
from longtake.stores.store import Store, StoreError, each
from longtake.text import sentence

# The longest list that `MOST_INPUTS` paths make, and far below what would trouble a host.
_LARGEST_MANIFEST_BYTES = 256 * 2**20


class InputCache:
    """The input files of jobs, on this host; processes that share the folder share what is in it.

    ```
    <folder>/contents/<sha256>       a file, read-only; with .x behind it where it is a program
             manifests/<sha256>.json what a bundle consists of; its time says when it was used last
             uses/<token>/           what one attempt runs in, held by a lock on itself while it does
             locks/                  one file for each content that is fetched now
    ```

    Each use gets a folder of its own, of second names (hard links) of the contents: what one render creates, renames
    or removes there, no other sees; 5,000 files take 0.1 s to lay out and to clear away. Contents can be damaged only
    by a render that overwrites an input in place, which takes root or a chmod, because they are read-only. All are
    given one time in the past, so that a damaged one is told by its time or size when it is used next, and fetched
    anew.

    Args:
        folder: Where they lie.
        limit_bytes: How much they may take; what was not used for longest goes first. What is in use stays, and may
            take more.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._manifests = folder / "manifests"
        self._lock = folder / "lock"
        self._places = InputPlaces(folder / "uses")
        self._contents = InputContents(folder, self._manifests, limit_bytes)
        self._swept = False

    @asynccontextmanager
    async def in_use(self, job: OpenJob) -> AsyncIterator[Path]:
        """Do as `laid_out`, beside the event loop; a cancel ends it between two files."""
        stop = threading.Event()
        with ExitStack() as stack:
            laid_out = self.laid_out(job, stop)
            try:
                yield await in_thread(lambda: stack.enter_context(laid_out), stop)
            finally:
                await in_thread(stack.close)

    @contextmanager
    def laid_out(self, job: OpenJob, stop: threading.Event | None = None) -> Iterator[Path]:
        """Return the folder in which commands of a job run, with its inputs; it stays until the block is left.

        For a directory store that is the store itself, where inputs are in place already. Blocking.

        Args:
            job: The job.
            stop: Ends it between two files when it is set.

        Raises:
            StoreError: An input cannot be fetched, or is not what was handed in; or this host has no room for it.
        """
        store, bundle = job.folder.store, job.job.inputs
        if store.is_local:
            yield Path(store.url)
            return
        fetched = False
        with self._place() as place:
            if isinstance(bundle, InputBundle):
                try:
                    files = self._manifest(store, bundle.sha256).files
                    fetched = self._lay_out(store, files, place, stop or threading.Event())
                except StoreError:
                    raise
                except OSError as error:
                    why = f"the inputs of a job cannot be laid out ({error.strerror}); look at that disk"
                    raise StoreError(why, str(error.filename or place.tree), passing=True) from error
            yield place.tree
        if fetched:
            with locked(self._lock):
                self._contents.make_room()

    @contextmanager
    def _place(self) -> Iterator[Place]:
        with locked(self._lock):
            if not self._swept:
                self._places.sweep()
                self._swept = True
            place = self._places.take()
        try:
            yield place
        finally:
            place.clear()

    def _manifest(self, store: Store, sha256: str) -> InputManifest:
        here = self._manifests / f"{sha256}.json"
        location = store.locate(manifest_path(sha256))
        try:
            content = here.read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != sha256:
            content = _read(store, location)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise StoreError("is not the list of inputs that was handed in; submit the job again", location)
            DirectoryStore(self._manifests).replace(str(here), content)
        here.touch()
        try:
            return InputManifest.model_validate_json(content)
        except ValidationError as error:
            problem = f"is no list of inputs ({sentence(error)}); hand them in by `longtake submit`"
            raise StoreError(problem, location) from error

    def _lay_out(self, store: Store, files: tuple[InputFile, ...], place: Place, stop: threading.Event) -> bool:
        """Give all files their names in a place; return whether any had to be fetched."""
        for folder in {file.path.rpartition("/")[0] for file in files}:
            (place.tree / folder).mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if not self._contents.lend(file, f"{place.tree}/{file.path}")]
        if not missing:
            return False
        with locked(self._lock):
            self._places.sweep()
            self._contents.make_room({file.sha256: file.size_bytes for file in missing})
        each(store, partial(self._fetch, store, place, stop), missing)
        return True

    def _fetch(self, store: Store, place: Place, stop: threading.Event, file: InputFile) -> None:
        self._contents.fetch(store, file, f"{place.tree}/{file.path}", work=place.work, stop=stop)


def _read(store: Store, location: str) -> bytes:
    there = store.stat(location)
    if there is None:
        raise StoreError("is not there; submit the job by `longtake submit`, which hands its inputs in", location)
    if there.size_bytes > _LARGEST_MANIFEST_BYTES:
        raise StoreError("is too large to be a list of inputs; submit the job by `longtake submit`", location)
    return store.read(location)

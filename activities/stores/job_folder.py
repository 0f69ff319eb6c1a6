"""A job's own folder in its store: `.longtake/<job>/`."""

from datetime import datetime
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError

from activities.errors import StoreNotSharedError
from activities.media.facts import VideoFacts
from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.loader import read_chunk_list
from longtake.models.fields import Contract
from longtake.models.job import RenderJobSpec
from longtake.models.messages import JobRef
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.ranges import RangeSet
from longtake.stores import job_records
from longtake.stores.factory import open_store
from longtake.stores.store import Store
from longtake.templates import expand


class PublishedFile(job_records.FileRecord):
    """One file that an attempt made and that was published under its final name."""

    attempt_path: str = Field(description="location where the attempt wrote it; gone once it is published")


class KeptFrame(Contract):
    """One finished frame of a chunk that is not finished."""

    frame: int = Field(ge=0, description="which frame of the chunk it is, counted from 0")
    file: str = Field(pattern=r"^[0-9][^/]*$", description="name of its file, beside this record")
    attempt: str = Field(description="name of the attempt that made it")
    size_bytes: int
    sha256: str
    width: int
    height: int
    format: str


class KeptBatch(Contract):
    """Frames that were verified together; written before their files appear, so that a file without one is foreign."""

    frames: tuple[KeptFrame, ...]


class Sidecar(Contract):
    """The proof that a chunk, or the film, is finished; once it stands, the work is never done again."""

    key: str = Field(description="number of the chunk, or `film`")
    digest: str = Field(description="identity of the job's work")
    attempt: str = Field(description="name of the attempt that made it")
    host: str = ""
    frames: int = 0
    files: tuple[PublishedFile, ...]
    video: VideoFacts | None = Field(default=None, description="stream parameters that chunks must share")
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = Field(default=None, description="of the film")
    render_seconds: float = 0
    cpu_seconds: float = Field(default=0, description="CPU time of the attempt's processes")
    peak_memory_bytes: int = Field(default=0, description="most memory that they had at once")
    log: str = Field(default="", description="path of the attempt's log")
    published_at: datetime | None = None


FILM = "film"


def chunk_key(chunk: int) -> str:
    """Return the name of a chunk in the bookkeeping."""
    return f"{chunk:06}"


class JobFolder:
    """The files that Longtake keeps about one job; all locations are of its store.

    ```
    .longtake/<job>/job.json           the job as accepted
                    list.json          its chunk list, when that is a file of its own
                    chunks/<chunk>.json  sidecars: a chunk is finished when its own is there
                    claims/<chunk>.json  winners that are being published
                    attempts/<chunk>/<attempt>/  what attempts write
                    frames/<chunk>/    finished frames of chunks that are not finished
                    remote/<chunk>/    calls of services that render, see `activities.remote.protocol`
                    logs/<chunk>.<attempt>.log
                    aside/             what was taken out of the way
    ```
    """

    def __init__(self, store: Store, job_id: str) -> None:
        self.store = store
        self.job_id = job_id
        self.path = f"{store.url}/{BOOKKEEPING_FOLDER}/{job_id}"

    @property
    def job_file(self) -> str:
        """Where the accepted job stands."""
        return f"{self.path}/job.json"

    @property
    def list_file(self) -> str:
        """Where the chunk list stands that came as a file."""
        return f"{self.path}/list.json"

    @property
    def is_begun(self) -> bool:
        """Whether a job of this id was accepted here before."""
        return self.store.stat(self.job_file) is not None

    def check_same(self, job: RenderJobSpec) -> None:
        """Pass when the folder is this job's, or not there yet.

        Raises:
            BadJobError: The folder is another job's.
        """
        if self.is_begun and self.read_job().digest() != job.digest():
            raise BadJobError(
                f"id: {self.path} belongs to a different job with this id; choose another id or remove that folder"
            )

    def create(self, job: RenderJobSpec, chunk_list: bytes | None) -> None:
        """Write the job down; a folder of the same job stays as it is."""
        if chunk_list is not None:
            self.store.create(self.list_file, chunk_list)
        self.store.create(self.job_file, job.model_dump_json(exclude_defaults=True, indent=2).encode())
        self.check_same(job)

    def read_job(self) -> RenderJobSpec:
        """Return the job as it was accepted.

        Raises:
            FileNotFoundError: It was not accepted here.
        """
        return RenderJobSpec.model_validate_json(self.store.read(self.job_file))

    def sidecar_path(self, key: str) -> str:
        """Return where the sidecar of a chunk or the film stands."""
        return f"{self.path}/{FILM}.json" if key == FILM else f"{self.path}/chunks/{key}.json"

    def claim_path(self, key: str) -> str:
        """Return where the winner of a chunk or the film is written down before it is published."""
        return f"{self.path}/claims/{key}.json"

    def sidecar(self, key: str) -> Sidecar | None:
        """Return the sidecar of a chunk or the film, if it is finished."""
        return read_record(self.store, self.sidecar_path(key))

    def published(self) -> RangeSet:
        """Return the chunks that have sidecars."""
        names = self.store.names(f"{self.path}/chunks")
        done = RangeSet()
        start = stop = 0
        for chunk in sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()):
            if chunk != stop:
                done.add(start, stop)
                start = chunk
            stop = chunk + 1
        done.add(start, stop)
        return done

    def attempt_dir(self, key: str, attempt: str) -> str:
        """Return the attempt's own place, which the attempt itself makes."""
        return f"{self.attempts_dir(key)}/{attempt}"

    def attempts_dir(self, key: str) -> str:
        """Return where all attempts of a chunk have their places."""
        return f"{self.path}/attempts/{key}"

    def frames_dir(self, key: str) -> str:
        """Return where the frames of an unfinished chunk are kept."""
        return f"{self.path}/frames/{key}"

    def remote_dir(self, key: str) -> str:
        """Return where calls of services that render a chunk are written down."""
        return f"{self.path}/remote/{key}"

    def log_path(self, key: str, attempt: str) -> str:
        """Return where the attempt's renderer writes what it prints."""
        return f"{self.path}/logs/{key}.{attempt}.log"

    def set_aside(self, location: str, name: str) -> str:
        """Move a file out of the way, never over another one; return where it is now.

        Raises:
            FileNotFoundError: There is no such file any more.
        """
        number = 0
        while not self.store.move(location, target := f"{self.path}/aside/{name}.{number}"):
            number += 1
        return target


class OpenJob:
    """A job with its chunks and its folder, as activities use it.

    Args:
        folder: Its folder.
        ref: Its name on the wire.
        job: The job as accepted.
        chunk_list: The bytes of its chunk list, when that is a file.
    """

    def __init__(self, folder: JobFolder, ref: JobRef, job: RenderJobSpec, chunk_list: bytes | None) -> None:
        self.folder = folder
        self.ref = ref
        self.job = job
        self.chunks = ChunkPlan(job, read_chunk_list(chunk_list, "list.json") if chunk_list is not None else ())

    @staticmethod
    def read(ref: JobRef, *, scratch: Path) -> "OpenJob":
        """Return an accepted job; read once a worker, because jobs never change.

        Args:
            ref: Its name on the wire.
            scratch: Where this host keeps what it works at for stores that are elsewhere.

        Raises:
            StoreNotSharedError: The job's folder is not here.
        """
        return _read(ref, scratch)

    @property
    def film_path(self) -> str:
        """The film's path as the job names it."""
        return expand(self.job.output or "", {})

    def target(self, path: str) -> str:
        """Return the location of a path as the job names it."""
        return self.folder.store.locate(path)


@lru_cache(maxsize=16)
def _read(ref: JobRef, scratch: Path) -> OpenJob:
    folder = JobFolder(open_store(ref.store_url, scratch=scratch), ref.id)
    try:
        job = folder.read_job()
        chunk_list = folder.store.read(folder.list_file) if job.chunk_list is not None else None
    except FileNotFoundError as error:
        raise StoreNotSharedError(
            f"this worker does not see {folder.path}; share {ref.store_url} with all hosts that render"
        ) from error
    if job.digest() != ref.digest:
        raise StoreNotSharedError(f"{folder.path} holds another job than {ref.id}; share one store with all hosts")
    return OpenJob(folder, ref, job, chunk_list)


def read_record(store: Store, location: str) -> Sidecar | None:
    """Return a record, or None where there is none that can be read."""
    try:
        return Sidecar.model_validate_json(store.read(location))
    except (FileNotFoundError, ValidationError):
        return None

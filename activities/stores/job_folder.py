"""A job's own folder in a directory store: `.longtake/<job>/`."""

import hashlib
import os
import shutil
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from activities.failures import StoreNotSharedError
from activities.stores.files import write_new
from activities.stores.records import Sidecar
from longtake.errors import BadJobError
from longtake.job import RenderJobSpec
from longtake.jobfile import read_chunk_list
from longtake.outputs import BOOKKEEPING_FOLDER
from longtake.placeholders import expand
from longtake.planning import ChunkPlan
from longtake.ranges import RangeSet
from longtake.work import JobRef

FILM = "film"


def chunk_key(chunk: int) -> str:
    """Return the name of a chunk in the bookkeeping."""
    return f"{chunk:06}"


class JobFolder:
    """The files that Longtake keeps about one job.

    ```
    .longtake/<job>/job.json           the job as accepted
                    list.json          its chunk list, when that is a file of its own
                    chunks/<chunk>.json  sidecars: a chunk is finished when its own is there
                    claims/<chunk>.json  winners that are being published
                    attempts/<chunk>/<attempt>/  what attempts write
                    frames/<chunk>/    finished frames of chunks that are not finished
                    logs/<chunk>.<attempt>.log
                    aside/             what was taken out of the way
    ```
    """

    def __init__(self, base_dir: Path, job_id: str) -> None:
        self.base_dir = base_dir
        self.job_id = job_id
        self.path = base_dir / BOOKKEEPING_FOLDER / job_id

    @property
    def job_file(self) -> Path:
        """Where the accepted job stands."""
        return self.path / "job.json"

    @property
    def list_file(self) -> Path:
        """Where the chunk list stands that came as a file."""
        return self.path / "list.json"

    def check_same(self, job: RenderJobSpec) -> None:
        """Pass when the folder is this job's, or not there yet.

        Raises:
            BadJobError: The folder is another job's.
        """
        if self.job_file.exists() and self.read_job().digest() != job.digest():
            raise BadJobError(
                f"id: {self.path} belongs to a different job with this id; choose another id or remove that folder"
            )

    def create(self, job: RenderJobSpec, chunk_list: bytes | None) -> None:
        """Write the job down; a folder of the same job stays as it is."""
        for name in ("chunks", "claims", "attempts", "logs"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        if chunk_list is not None:
            write_new(self.list_file, chunk_list)
        write_new(self.job_file, job.model_dump_json(exclude_defaults=True, indent=2).encode())
        self.check_same(job)

    def read_job(self) -> RenderJobSpec:
        """Return the job as it was accepted.

        Raises:
            FileNotFoundError: It was not accepted here.
        """
        return RenderJobSpec.model_validate_json(self.job_file.read_bytes())

    def sidecar_path(self, key: str) -> Path:
        """Return where the sidecar of a chunk or the film stands."""
        return self.path / f"{FILM}.json" if key == FILM else self.path / "chunks" / f"{key}.json"

    def claim_path(self, key: str) -> Path:
        """Return where the winner of a chunk or the film is written down before it is published."""
        return self.path / "claims" / f"{key}.json"

    def sidecar(self, key: str) -> Sidecar | None:
        """Return the sidecar of a chunk or the film, if it is finished."""
        return read_record(self.sidecar_path(key))

    def published(self) -> RangeSet:
        """Return the chunks that have sidecars."""
        names = os.listdir(self.path / "chunks") if (self.path / "chunks").is_dir() else []
        done = RangeSet()
        start = stop = 0
        for chunk in sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()):
            if chunk != stop:
                done.add(start, stop)
                start = chunk
            stop = chunk + 1
        done.add(start, stop)
        return done

    def attempt_dir(self, key: str, attempt: str) -> Path:
        """Return the attempt's own place, which the attempt itself makes."""
        return self.attempts_dir(key) / attempt

    def attempts_dir(self, key: str) -> Path:
        """Return where all attempts of a chunk have their places."""
        return self.path / "attempts" / key

    def frames_dir(self, key: str) -> Path:
        """Return where the frames of an unfinished chunk are kept."""
        return self.path / "frames" / key

    def log_path(self, key: str, attempt: str) -> Path:
        """Return where the attempt's renderer writes what it prints."""
        return self.path / "logs" / f"{key}.{attempt}.log"

    def set_aside(self, path: Path, name: str) -> Path:
        """Move a file out of the way, never over another one; return where it is now.

        Raises:
            FileNotFoundError: There is no such file any more.
        """
        aside = self.path / "aside"
        aside.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            target = aside / f"{name}.{number}"
            try:
                # Taken before it is used: another attempt may be setting a file of this name aside.
                target.touch(exist_ok=False)
                break
            except FileExistsError:
                number += 1
        try:
            shutil.move(path, target)
        except FileNotFoundError:
            target.unlink()
            raise
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
    def read(ref: JobRef) -> "OpenJob":
        """Return an accepted job; read once a worker, because jobs never change.

        Raises:
            StoreNotSharedError: The job's folder is not here.
        """
        return _read(ref)

    @property
    def film_path(self) -> str:
        """The film's path as the job names it."""
        return expand(self.job.output or "", {})

    def target(self, path: str) -> Path:
        """Return where a path of the job lies."""
        return Path(os.path.normpath(self.folder.base_dir / path))


@lru_cache(maxsize=16)
def _read(ref: JobRef) -> OpenJob:
    folder = JobFolder(Path(ref.base_dir), ref.id)
    try:
        job = folder.read_job()
        chunk_list = folder.list_file.read_bytes() if job.chunk_list is not None else None
    except FileNotFoundError as error:
        raise StoreNotSharedError(
            f"this worker does not see {folder.path}; share {folder.base_dir} with all hosts that render"
        ) from error
    if job.digest() != ref.digest:
        raise StoreNotSharedError(f"{folder.path} holds another job than {ref.id}; share one store with all hosts")
    return OpenJob(folder, ref, job, chunk_list)


def read_record(path: Path) -> Sidecar | None:
    """Return a record, or None where there is none that can be read."""
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The folder of a job as workers use it: accept the job, read sidecars, set files aside. Layout: `JobLayout`."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

from pydantic import Field, ValidationError

from activities.errors import RefusedError, StoreNotSharedError
from activities.media.facts import VideoFacts
from activities.media.images.facts import ImageFacts
from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.chunk_list import read_chunk_list
from longtake.models.fields import Contract
from longtake.models.job import RenderJobSpec
from longtake.models.messages import JobRef
from longtake.names import find_job_values, name_earlier_start
from longtake.ranges import RangeSet
from longtake.stores.factory import open_store
from longtake.stores.job_layout import FILM, JOB_FILE, LIST_FILE, chunk_key, film_key, find_film_number
from longtake.stores.job_records import ChangedJobError, JobRecords
from longtake.stores.publications import PublishedFile
from longtake.stores.segments import FoundRecord, SegmentName, SegmentRecords, seal_segment
from longtake.stores.store import OversizedFileError, Store, StoreError, map_parallel
from longtake.templates import expand_template
from longtake.text import describe_invalid

_log = logging.getLogger(__name__)

# Sidecars that are read at once.
_BATCH = 500


class KeptFrame(Contract):
    """One finished file of a frame of a chunk that is not finished."""

    frame: int = Field(
        ge=0,
        description="which file of the chunk it is, counted from 0, all frames of one output first; which frame of the "
        "chunk, where no output declares the file",
    )
    name: str = Field(default="", description="path of a file that no output declares, as `also` names it")
    file: str = Field(pattern=r"^[0-9][^/]*$", description="name of its file, beside this record")
    attempt: str = Field(description="name of the attempt that made it")
    size_bytes: int
    sha256: str
    width: int
    height: int
    format: str
    channels: str = ""
    depth: str = ""
    colour: str = ""

    @property
    def facts(self) -> ImageFacts:
        """What was found in the picture."""
        return ImageFacts(**self.model_dump(include=set(ImageFacts.model_fields)))


class KeptBatch(Contract):
    """Frames that were verified together; written before their files appear, so that a file without one is foreign."""

    frames: tuple[KeptFrame, ...]
    others: dict[str, str] = Field(
        default={}, description="files that no output declares and that are not kept here: digests of those of no frame"
    )
    divisible: bool = Field(default=True, description="false: the chunk is rendered as a whole, and no frame is kept")


class OutputFacts(Contract):
    """What was found in the files of one output of a chunk."""

    video: VideoFacts | None = Field(default=None, description="stream parameters that chunks must share")
    images: ImageFacts | None = Field(default=None, description="what the image files of the chunk have in common")
    unproven: str = Field(default="", description="what could not be proven of its files, and why")


class Sidecar(Contract):
    """The record of a finished chunk or film; while it is there, the work is never done again."""

    key: str = Field(description="number of the chunk, or `film`; `film-1` for the second of several")
    digest: str = Field(description="identity of the job's work")
    chunk_digest: str = Field(
        default="", description="identity of the work of this chunk, or of one of several films; empty in older records"
    )
    attempt: str = Field(description="name of the attempt that made it")
    host: str = ""
    frames: int = 0
    files: tuple[PublishedFile, ...]
    video: VideoFacts | None = Field(default=None, description="stream parameters that chunks must share")
    images: ImageFacts | None = Field(default=None, description="what the image files of the chunk have in common")
    unproven: str = Field(default="", description="what could not be proven of its files, and why")
    further: tuple[OutputFacts, ...] = Field(default=(), description="the same of its other outputs, in their order")
    also: int = Field(default=0, description="how many of its files, the last ones, are no declared outputs")
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = Field(default=None, description="of the film")
    render_seconds: float = 0
    cpu_seconds: float = Field(default=0, description="CPU time of the attempt's processes")
    peak_memory_bytes: int = Field(default=0, description="most memory that they had at once")
    log: str = Field(default="", description="path of the attempt's log")
    proof: str = Field(default="", description="which pictures of the film were decoded and compared")
    notes: tuple[str, ...] = Field(default=(), description="what of the film could not be proven, or was lost")
    others: str = Field(default="", description="what the renderer made besides its outputs, and where that is kept")
    published_at: datetime | None = None

    @property
    def facts(self) -> tuple[OutputFacts, ...]:
        """What was found in the files of each output, the main one first."""
        return (OutputFacts(video=self.video, images=self.images, unproven=self.unproven), *self.further)

    def files_of(self, output: int) -> tuple[PublishedFile, ...]:
        """Return the files of one output, counted from 0."""
        each = (len(self.files) - self.also) // len(self.facts)
        return self.files[output * each : (output + 1) * each]


class JobFolder(JobRecords):
    """The folder of a job in its store, as workers write it."""

    # Inode, time and digest of the job's own record as this process has read it; None before, and in buckets.
    _record: tuple[str, int, str] | None = None

    def remember_store(self) -> None:
        """Remember by the job's own record which store this is; see `check_store`."""
        if self.store.is_local:
            self._record = self._find_record()

    def check_store(self) -> None:
        """Read the job's record again; raise unless this is still the store that was remembered.

        Without it, outputs of a share that has vanished would be published on the disk below its mount point, and
        count as done. The time of the record is compared with its inode alone: devices get new numbers when a share
        is mounted again. It is read, because its metadata may come from a cache when the share is away.

        Raises:
            StoreError: The store is away; temporary.
        """
        if self._record is None or self._find_record() == self._record:
            return
        # Where the store was moved for good, the next attempt reads the job there anew.
        _read.cache_clear()
        raise StoreError(
            f"the store is not there any more: what was accepted as {self.job_file} is gone or another file; mount the "
            "share again",
            self.store.url,
            is_temporary=True,
        )

    def _find_record(self) -> tuple[str, int, str] | None:
        there = self.store.stat(self.job_file)
        if there is None:
            return None
        with suppress(FileNotFoundError):
            digest = hashlib.sha256(self.store.read(self.job_file)).hexdigest()
            return (there.identity or "").rpartition(":")[2], there.modified_ns, digest
        return None

    @property
    def is_accepted(self) -> bool:
        """Whether a job of this id was accepted here before."""
        return self.store.stat(self.job_file) is not None

    def check_same_job(self, job: RenderJobSpec) -> None:
        """Refuse a job whose id belongs to another job of the store.

        Raises:
            BadJobError: The folder is another job's.
        """
        try:
            is_other = self.is_accepted and self.read_job().digest() != job.digest()
        except ValidationError as error:
            raise BadJobError(
                f"id: {self.job_file} holds no job that this version knows; choose another id or remove that folder"
            ) from error
        if is_other:
            raise BadJobError(
                f"id: {self.path} belongs to a different job with this id; choose another id or remove that folder"
            )

    def create(self, job: RenderJobSpec, chunk_list: bytes | None) -> None:
        """Write the job and its chunk list, in place of those of an earlier run of the same work.

        Such a run may have had other retries, timeouts or patterns: what is rendered is what was accepted last.

        Raises:
            BadJobError: The folder is another job's.
        """
        if chunk_list is not None:
            self._write(self.list_file, chunk_list)
        raw = encode_job(job)
        if not self.store.create(self.job_file, raw):
            self.check_same_job(job)
            self._write(self.job_file, raw)

    def archive(self, started_at: datetime) -> None:
        """Move the records of an earlier start of this job to a folder of their own, where they still tell its files.

        Safe to repeat after a crash in the middle: the job's own record, which says whose folder this is, goes last.

        Args:
            started_at: When that start was.
        """
        earlier = JobFolder(self.store, name_earlier_start(self.job_id, started_at))
        self._move_files(self.path, earlier.path, skip=JOB_FILE)
        self._move_file(self.job_file, earlier.job_file)

    def _move_files(self, source: str, target: str, skip: str = "") -> None:
        for name in list(self.store.folders(source)):
            self._move_files(f"{source}/{name}", f"{target}/{name}")
        names = [name for name in self.store.names(source) if name != skip]
        map_parallel(self.store, lambda name: self._move_file(f"{source}/{name}", f"{target}/{name}"), names)

    def _move_file(self, source: str, target: str) -> None:
        if not self.store.move(source, target):
            # A bucket copies and then removes, and a crash in between leaves both.
            self.store.remove(source)

    def _write(self, location: str, content: bytes) -> None:
        if not self.store.create(location, content) and self.store.read(location) != content:
            self.store.replace(location, content)

    def read_job(self) -> RenderJobSpec:
        """Return the job as it was accepted.

        Raises:
            FileNotFoundError: It was not accepted here.
        """
        return RenderJobSpec.from_json(self.store.read(self.job_file))

    def sidecar(self, key: str) -> Sidecar | None:
        """Return the record of a finished chunk or film; one that cannot be read is set aside."""
        sidecar = self.read_sidecar(key)
        if sidecar is None and find_film_number(key) is None:
            found = self.read_segments().find(int(key))
            return found.record if found is not None and found.is_placed else None
        return sidecar

    def read_sidecar(self, key: str) -> Sidecar | None:
        """Return the sidecar of a chunk or a film, whatever segments say; one that cannot be read is set aside."""
        return self._read_own(self.sidecar_path(key), f"{key}.json")

    def finished_sidecars(self) -> Iterator[Sidecar]:
        """Yield the records of the finished chunks, those of sidecars first; by listings, and each file read once."""
        chunks, seen = map(chunk_key, self.list_sidecars()), RangeSet()
        while batch := list(islice(chunks, _BATCH)):
            for sidecar in map_parallel(self.store, self.read_sidecar, batch):
                if sidecar is not None:
                    seen.add(int(sidecar.key), int(sidecar.key) + 1)
                    yield sidecar
        for found in self.read_segments().finished():
            if (chunk := int(found.record.key)) not in seen:
                seen.add(chunk, chunk + 1)
                yield found.record

    def read_segments(self) -> SegmentRecords[Sidecar]:
        """Return the records in the segments of the job, as a listing made now shows them."""
        return SegmentRecords(self.store, self.segments_dir, self.revoked_dir, self._decode_line)

    def take_over_segments(
        self, start: int, stop: int, *, by: str, own: SegmentName | None = None
    ) -> dict[str, FoundRecord[Sidecar]]:
        """Seal the segments of others that may hold one of these chunks, and return what they say of them.

        Args:
            start: First chunk.
            stop: Chunk after the last one.
            by: Who does so, for people.
            own: Segment that is left as it is.
        """
        segments = self.read_segments()
        found: dict[str, FoundRecord[Sidecar]] = {}
        for segment in segments.overlapping(start, stop):
            if segment.name == own:
                continue
            for each in segments.decode(segment, seal_segment(self.store, segment, by)):
                if start <= int(each.record.key) < stop and (each.is_placed or each.record.key not in found):
                    found[each.record.key] = each
        return found

    def _decode_line(self, line: bytes) -> Sidecar | None:
        try:
            return Sidecar.model_validate_json(line)
        except ValidationError as error:
            _log.error(
                "job %s: a line of a segment cannot be read (%s), and its chunk counts as unfinished",
                *(self.job_id, describe_invalid(error)),
            )
        return None

    def claim(self, key: str) -> Sidecar | None:
        """Return the claim on a chunk or a film, if there is one; one that cannot be read is set aside."""
        return self._read_own(self.claim_path(key), f"{key}.claim.json")

    def _read_own(self, location: str, name: str) -> Sidecar | None:
        try:
            return Sidecar.model_validate_json(self.store.read(location))
        except FileNotFoundError:
            return None
        except (ValidationError, OversizedFileError) as error:
            problem = describe_invalid(error) if isinstance(error, ValidationError) else error.sentence
        # In the way of the next record of this name it would keep its chunk from ever being finished.
        with suppress(FileNotFoundError):
            aside = self.set_aside(location, name)
            if read_sidecar(self.store, aside) is not None and self.store.move(aside, location):
                # Another worker was quicker, and what was moved is the record that it has written since.
                return read_sidecar(self.store, location)
            _log.error(
                "job %s: the record %s cannot be read (%s), and its chunk counts as unfinished: moved to %s",
                *(self.job_id, location, problem, aside),
            )
        return None

    def forget(self, record: Sidecar) -> None:
        """Take back what a segment says of a chunk, for ever."""
        self.store.create(self.revoked_path(record.key, record.attempt), encode_record(record))

    def adopt(self, sidecar: Sidecar) -> None:
        """Make what another job has proven a finished chunk or film of this job, unless it is finished already."""
        self.store.create(self.sidecar_path(sidecar.key), encode_record(sidecar))

    def set_aside(self, location: str, name: str) -> str:
        """Move a file to the job's `aside` folder, never over another one, and return its new location.

        Raises:
            FileNotFoundError: The file is gone.
        """
        number = 0
        while not self.store.move(location, target := f"{self.aside_dir}/{name}.{number}"):
            number += 1
        return target


def encode_record(record: Sidecar) -> bytes:
    """Return the bytes of a sidecar or a claim."""
    return record.model_dump_json(exclude_defaults=True, indent=1).encode()


def encode_line(record: Sidecar) -> bytes:
    """Return the line of a segment that holds a record."""
    return record.model_dump_json(exclude_defaults=True).encode() + b"\n"


def encode_job(job: RenderJobSpec) -> bytes:
    """Return the bytes of job.json."""
    return job.model_dump_json(exclude_defaults=True, indent=2).encode()


class OpenJob:
    """An accepted job with its chunks and its folder.

    Args:
        folder: The folder of the job.
        ref: Name of the job on the wire.
        job: The job as accepted.
        chunk_list: The bytes of its chunk list, when that is a file.
    """

    def __init__(self, folder: JobFolder, ref: JobRef, job: RenderJobSpec, chunk_list: bytes | None) -> None:
        self.folder = folder
        self.ref = ref
        self.job = job
        values = find_job_values(ref.id, job.started_at)
        listed = read_chunk_list(chunk_list, LIST_FILE, values) if chunk_list is not None else ()
        # Which is the one that the job tells, where it was accepted.
        self.listed_count = len(listed)
        self.chunks = ChunkPlan(job, listed)
        # Key of the records of the film, where `job` is that of one film alone.
        self.film_key = FILM
        self.film_label = ""

    @cached_property
    def films(self) -> dict[str, "OpenJob"]:
        """This job with each of its films alone, by the keys of their records."""
        films = {}
        for number, job in enumerate(self.job.films):
            alone = copy(self)
            alone.job, alone.film_key = job, film_key(number)
            if isinstance(self.job.film, tuple) and len(self.job.film) > 1:
                alone.film_label = f"film[{number}] ({alone.film_path})"
            films[alone.film_key] = alone
        return films

    @cached_property
    def listed_segments(self) -> SegmentRecords[Sidecar]:
        """The segments of this job as they were when this was asked for first: for jobs that have ended."""
        return self.folder.read_segments()

    @cached_property
    def listed_sidecars(self) -> RangeSet:
        """The chunks of this job that had a sidecar when this was asked for first: for jobs that have ended."""
        return self.folder.list_sidecars()

    @property
    def film_digest(self) -> str:
        """Digest of the one film of this job; empty where that is the digest of the job."""
        digest = self.job.digest()
        return "" if digest == self.ref.digest else digest

    @staticmethod
    def read(ref: JobRef, *, scratch: Path) -> "OpenJob":
        """Read an accepted job, once a worker, because jobs never change.

        Args:
            ref: Name of the job on the wire.
            scratch: Folder where this host works for buckets.

        Raises:
            StoreNotSharedError: This worker does not see the job's folder.
        """
        return _read(ref, scratch)

    def compute_digest(self, key: str) -> str:
        """Return the digest of what decides the outputs of a chunk, or a film; empty if there is no such chunk or film.

        A film is decided by all of the job but other films, each chunk by its own command alone.
        """
        if find_film_number(key) is not None:
            film = self.films.get(key)
            return "" if film is None else film.job.digest()
        chunk = int(key)
        return self.chunks.compute_digest(chunk) if chunk < len(self.chunks) else ""

    def check_record(self) -> None:
        """Read the job's record again, in any kind of store, before work on it counts as done; blocking.

        Raises:
            StoreError: The store is away, or it is another one; temporary.
            RefusedError: Somebody has changed the record since the job was accepted.
        """
        self.folder.check_store()
        try:
            self.folder.read_accepted(self.ref.integrity)
        except FileNotFoundError as error:
            what = "the record of the job is gone, and maybe its store; put it back, or cancel the job"
            raise StoreError(what, self.folder.job_file, is_temporary=True) from error
        except (ChangedJobError, ValidationError) as error:
            raise RefusedError(f"job {self.ref.id} is not done: {error}") from error

    @property
    def film_path(self) -> str:
        """The film's path as the job names it."""
        return expand_template(self.job.output or "", {})

    def target(self, path: str) -> str:
        """Return the location of a path as the job names it."""
        return self.folder.store.locate(path)

    def place_output(self, path: str) -> str:
        """Return an output's path inside the place of an attempt: the job's own, unless that leads out of the store."""
        target, base = self.target(path), f"{self.folder.store.url}/"
        return target.removeprefix(base) if target.startswith(base) else target.rpartition("/")[2]


@lru_cache(maxsize=16)
def _read(ref: JobRef, scratch: Path) -> OpenJob:
    folder = JobFolder(open_store(ref.store_url, scratch=scratch), ref.id)
    # Before it is read: what is exchanged meanwhile is found by the first check.
    folder.remember_store()
    try:
        accepted = folder.read_accepted(ref.integrity)
    except ChangedJobError as error:
        raise StoreNotSharedError(str(error)) from error
    except FileNotFoundError as error:
        raise StoreNotSharedError(
            f"this worker does not see {folder.path}; share {ref.store_url} with all hosts that render"
        ) from error
    if accepted.job.digest() != ref.digest:
        raise StoreNotSharedError(f"{folder.path} holds another job than {ref.id}; share one store with all hosts")
    return OpenJob(folder, ref, accepted.job, accepted.chunk_list)


def read_sidecar(store: Store, location: str) -> Sidecar | None:
    """Return a sidecar or a claim, which are alike; None where there is none that can be read."""
    try:
        return Sidecar.model_validate_json(store.read(location))
    except (FileNotFoundError, ValidationError, OversizedFileError):
        return None

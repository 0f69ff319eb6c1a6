"""Locate and read the records of one job in its store: the layout of `.longtake/<job>/` is written here only."""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice

from pydantic import Field, ValidationError

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError, LongtakeError
from longtake.jobfile.chunk_list import read_chunk_list
from longtake.models.fields import Contract
from longtake.models.frames import ChunkSpec
from longtake.models.inputs import INPUTS, check_input_path
from longtake.models.job import RenderJobSpec
from longtake.names import find_job_values, job_folder_name
from longtake.paths import BOOKKEEPING_FOLDER, is_bookkeeping
from longtake.ranges import RangeSet
from longtake.stores.segments import RecordKey, SegmentRecords, decode_key
from longtake.stores.store import OversizedFileError, Store, StoredFile, map_parallel
from longtake.templates import expand_template

# Key of the film's records, or the first film's; those of chunks have the number of the chunk as key.
FILM = "film"
_FILM_KEY = re.compile(rf"{FILM}(?:-([1-9]\d{{0,8}}))?", re.ASCII)
_TRY_NAME = re.compile(r"(?P<key>\d{6,9})\.(?P<attempt>.+)\.json", re.ASCII)
_PICTURE_NAME = re.compile(r"(\d{6,7})-(-?\d{1,10})\.(?:jpg|webp)", re.ASCII)
# Folders below that of the job: logs, files that were in the way or damaged, and small pictures of chunks.
LOGS = "logs"
ASIDE = "aside"
PICTURES = "pictures"
# Folder below that one: files that renderers made besides their outputs. They go with the job.
OTHERS = "others"
JOB_FILE = "job.json"
LIST_FILE = "list.json"

# What versions before accepted; new lists are shorter, see `check_list_size`.
_LARGEST_LIST_BYTES = 512 * 2**20

# Records that are read at once and held in memory.
_BATCH = 500


class PublishedFile(Contract):
    """A file that an attempt made and that was published under its final name."""

    path: str = Field(description="final location: an absolute path, or an s3:// URL")
    size_bytes: int
    sha256: str
    modified_ns: int = Field(default=0, description="when it was written; a file of another time is read to be proven")
    attempt_path: str = Field(description="location where the attempt wrote it; gone once it is published")


class RenderRecord(Contract):
    """What a sidecar tells of the attempt that has rendered its chunk: read alone where there are a million of them."""

    key: str = ""
    attempt: str = ""
    host: str = ""
    render_seconds: float = 0
    cpu_seconds: float = Field(default=0, description="CPU time of the attempt's processes")
    peak_memory_bytes: int = Field(default=0, description="most memory that they had at once")
    log: str = Field(default="", description="path of the attempt's log")
    published_at: datetime | None = None


class Publication(RenderRecord):
    """The part of a sidecar or a claim that clients read; workers write more, see `activities.stores.job_folder`."""

    frames: int = 0
    files: tuple[PublishedFile, ...] = ()
    unproven: str = Field(default="", description="what could not be proven of its files, and why")
    duration_seconds: float | None = Field(default=None, description="of the film")
    proof: str = Field(default="", description="which pictures of the film were decoded and compared")
    notes: tuple[str, ...] = Field(default=(), description="what of the film could not be proven, or was lost")


class ChangedJobError(LongtakeError):
    """Raised for a job whose record in the store is not the one that was accepted."""


@dataclass(frozen=True)
class AcceptedJob:
    """A job as its record in the store has it, its chunk list held against the digest in the job.

    Args:
        job: The job.
        chunk_list: Bytes of its chunk list; None if the list is no file.
    """

    job: RenderJobSpec
    chunk_list: bytes | None


def compute_integrity(job: bytes, chunk_list: bytes | None) -> str:
    """Return the digest of the whole record of a job: all of job.json, and of list.json where there is one.

    `RenderJobSpec.digest` is another one: it covers what decides the outputs, and so which of them may be used again.
    """
    return hashlib.sha256(b"%d\n%s%s" % (len(job), job, chunk_list or b"")).hexdigest()


@dataclass(frozen=True)
class Record:
    """A sidecar or a claim of a job, or a line of a segment that is one or the other, as found in the store.

    Args:
        key: Key of the chunk or the film.
        location: Location of the file that holds the record.
        publication: Content of the record; None if unreadable.
    """

    key: str
    location: str
    publication: Publication | None

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """Published files of the record."""
        return self.publication.files if self.publication else ()


def chunk_key(chunk: int) -> str:
    """Return the key of a chunk in the names of its records, as in `000012`."""
    return f"{chunk:06}"


def film_key(number: int) -> str:
    """Return the key of the records of a film, counted from 0 in the job."""
    return f"{FILM}-{number}" if number else FILM


def find_film_number(key: str) -> int | None:
    """Return which film a key is of, counted from 0; None for that of a chunk."""
    match = _FILM_KEY.fullmatch(key)
    return int(match[1] or 0) if match else None


def parse_picture_name(name: str) -> tuple[int, int] | None:
    """Return which chunk and which frame the name of a small picture is of; None for other names."""
    match = _PICTURE_NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def describe_key(key: str) -> str:
    """Return what a key is of, for sentences: `chunk 12`, `the film`, `film[1]`."""
    number = find_film_number(key)
    if number is None:
        return f"chunk {int(key)}"
    return f"film[{number}]" if number else "the film"


class JobRecords:
    """Locate and read the records of one job in its store.

    ```
    .longtake/<job>/job.json           the job as accepted
                    list.json          its chunk list, when that is a file of its own
                    film.json          sidecar of the film; of the second of several: film-1.json
                    chunks/<chunk>.json  sidecars: a chunk is finished when its own is there
                    claims/<chunk>.json  winners that are being published
                    segments/<first>-<last>.<attempt>.jsonl  sidecars of the chunks that one attempt at a span finished
                             <first>-<last>.<attempt>.<number>.part  the same while it goes on; see `segments`
                    revoked/<chunk>.<attempt>.json  sidecars of segments that were taken back
                    attempts/<chunk>/<attempt>/  what attempts write
                    attempts/film/parts/  finished parts of a film of thousands of chunks
                    frames/<chunk>/    finished frames of chunks that are not finished
                    rerender/<request>.json  what a request to render frames anew takes back
                    tries/<chunk>.<attempt>.json  tries that failed, the newest of each chunk; see `try_records`
                    remote/<chunk>/    calls of services that render, see `activities.remote.protocol`
                    logs/<chunk>.<attempt>.log
                    pictures/<chunk>-<frame>.jpg  small pictures of finished chunks
                    report.html        report of a job that asks for one, written at its end
                    aside/             files that were in the way, or damaged
                    aside/others/      files that renderers made besides their outputs
    ```

    Args:
        store: Store of the job; all locations are of that store.
        job_id: Id of the job.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        self.store = store
        self.job_id = job_id
        self.path = job_folder_path(store.url, job_id)

    @property
    def job_file(self) -> str:
        """Location of the accepted job."""
        return f"{self.path}/{JOB_FILE}"

    @property
    def list_file(self) -> str:
        """Location of the chunk list that came as a file."""
        return f"{self.path}/{LIST_FILE}"

    @property
    def logs_dir(self) -> str:
        """Location of the folder for the logs of all attempts."""
        return f"{self.path}/{LOGS}"

    @property
    def aside_dir(self) -> str:
        """Location of the folder for files that were in the way or damaged."""
        return f"{self.path}/{ASIDE}"

    @property
    def others_dir(self) -> str:
        """Location of the folder for files that renderers made besides their outputs."""
        return f"{self.aside_dir}/{OTHERS}"

    @property
    def pictures_dir(self) -> str:
        """Location of the folder for small pictures of finished chunks."""
        return f"{self.path}/{PICTURES}"

    def picture_path(self, key: str, frame: int, suffix: str) -> str:
        """Return the location of the small picture of a frame of a chunk."""
        return f"{self.pictures_dir}/{key}-{frame}{suffix}"

    def sidecar_path(self, key: str) -> str:
        """Return the location of the sidecar of a chunk or a film."""
        return f"{self.path}/{key}.json" if find_film_number(key) is not None else f"{self.path}/chunks/{key}.json"

    def claim_path(self, key: str) -> str:
        """Return the location of the record that names the winner of a chunk or the film before publication."""
        return f"{self.path}/claims/{key}.json"

    @property
    def segments_dir(self) -> str:
        """Location of the folder of the segments."""
        return f"{self.path}/segments"

    @property
    def revoked_dir(self) -> str:
        """Location of the folder for records of segments that were taken back."""
        return f"{self.path}/revoked"

    def revoked_path(self, key: str, attempt: str) -> str:
        """Return the location of the record that takes back what an attempt has written of a chunk into a segment."""
        return f"{self.revoked_dir}/{key}.{attempt}.json"

    @property
    def attempts_root(self) -> str:
        """Location of the folder of the attempts at all chunks."""
        return f"{self.path}/attempts"

    def attempts_dir(self, key: str) -> str:
        """Return the folder of all attempts at a chunk."""
        return f"{self.attempts_root}/{key}"

    def attempt_dir(self, key: str, attempt: str) -> str:
        """Return the folder of one attempt at a chunk."""
        return f"{self.attempts_dir(key)}/{attempt}"

    def frames_dir(self, key: str) -> str:
        """Return the folder of the kept frames of an unfinished chunk."""
        return f"{self.path}/frames/{key}"

    def remote_dir(self, key: str) -> str:
        """Return the folder for the records of calls to services that render a chunk."""
        return f"{self.path}/remote/{key}"

    @property
    def rerenders_dir(self) -> str:
        """Location of the folder of the requests to render frames anew."""
        return f"{self.path}/rerender"

    def rerender_path(self, request: str) -> str:
        """Return the location of the record of a request to render frames anew."""
        return f"{self.rerenders_dir}/{request}.json"

    @property
    def tries_dir(self) -> str:
        """Location of the folder of the tries that failed."""
        return f"{self.path}/tries"

    def try_path(self, key: str, attempt: str) -> str:
        """Return the location of the record of a try that failed."""
        return f"{self.tries_dir}/{key}.{attempt}.json"

    def list_tries(self) -> list[tuple[int, str]]:
        """Return the chunks and the attempts of the tries that failed, by one listing."""
        found = map(_TRY_NAME.fullmatch, self.store.names(self.tries_dir))
        return [(int(match["key"]), match["attempt"]) for match in found if match is not None]

    def log_path(self, key: str, attempt: str) -> str:
        """Return the location of the log that an attempt's renderer writes."""
        return f"{self.logs_dir}/{key}.{attempt}.log"

    @property
    def report_file(self) -> str:
        """Location of the report that workers write at the end of a job that asks for one."""
        return f"{self.path}/report.html"

    def find_job(self) -> RenderJobSpec | None:
        """Return the job as it was accepted; None if its record is missing, unreadable or changed."""
        accepted = self.find_accepted()
        return accepted.job if accepted is not None else None

    def read_accepted(self, integrity: str = "") -> AcceptedJob:
        """Return the job as it was accepted, with its chunk list. All that read a job's record read it by this.

        Args:
            integrity: What `compute_integrity` gave when the job was accepted; empty where the reader does not know.

        Raises:
            FileNotFoundError: No job was accepted here.
            ValidationError: The record is no job that this version knows.
            ChangedJobError: The record was changed since the job was accepted.
        """
        raw = self.store.read(self.job_file)
        job = RenderJobSpec.from_json(raw)
        chunk_list = None
        if job.chunk_list is not None:
            chunk_list = self.store.read(self.list_file, most_bytes=_LARGEST_LIST_BYTES)
            if hashlib.sha256(chunk_list).hexdigest() != job.chunk_list.sha256:
                raise ChangedJobError(self._describe_changed(self.list_file))
        if integrity and compute_integrity(raw, chunk_list) != integrity:
            raise ChangedJobError(self._describe_changed(self.job_file))
        return AcceptedJob(job, chunk_list)

    def _describe_changed(self, location: str) -> str:
        return (
            f"{location} is not what was accepted as job {self.job_id}: somebody has changed it since; cancel the job, "
            "find out who may write there, and submit it again"
        )

    def find_accepted(self) -> AcceptedJob | None:
        """Return the job with its chunk list; None if a record of them is missing, unreadable or changed."""
        try:
            return self.read_accepted()
        except (FileNotFoundError, ValidationError, ChangedJobError, OversizedFileError):
            return None

    def published_films(self) -> list[str]:
        """Return the keys of the films that are published, by one listing."""
        keys = (name.removesuffix(".json") for name in self.store.names(self.path) if name.endswith(".json"))
        numbers = (find_film_number(key) for key in keys)
        return [film_key(number) for number in sorted(number for number in numbers if number is not None)]

    def film_records(self) -> Iterator[Record]:
        """Yield the sidecars of the films that are published."""
        yield from self._read_records((key, self.sidecar_path(key)) for key in self.published_films())

    def finished_records(self) -> Iterator[Record]:
        """Yield the records of the finished chunks, sidecars first, then those of the films."""
        yield from self._read_chunks(RangeSet(), [])
        yield from self.film_records()

    def all_records(self) -> Iterator[Record]:
        """Yield what `finished_records` does, then the claims on what is not finished.

        Of those a worker is publishing the files, or has died meanwhile.
        """
        finished = RangeSet()
        claimed: list[Record] = []
        yield from self._read_chunks(finished, claimed)
        films = self.published_films()
        yield from self._read_records((key, self.sidecar_path(key)) for key in films)
        yield from (record for record in claimed if int(record.key) not in finished)
        claims = self._list_records("claims")
        yield from self._read_records(each for each in claims if not is_among(each[0], finished, films))

    def _read_chunks(self, finished: RangeSet, claimed: list[Record]) -> Iterator[Record]:
        """Yield the records of the finished chunks, sidecars first.

        Args:
            finished: Takes the chunks.
            claimed: Takes what segments say of chunks whose files are being placed.
        """
        yield from self._read_records(_note_chunks(self._list_records("chunks"), finished))
        for found in self._read_segments():
            record, chunk = Record(found.record.key, found.location, found.record), int(found.record.key)
            if not found.is_placed:
                claimed.append(record)
            elif chunk not in finished:
                finished.add(chunk, chunk + 1)
                yield record

    def finished_chunks(self, names: Iterable[str] | None = None) -> RangeSet:
        """Return the chunks that are finished, by listings and one read of each segment.

        Args:
            names: Names of the files of `sidecars_dir`, where they are known.
        """
        finished = self.list_sidecars(names)
        for found in self.read_segment_keys().finished():
            finished.add(int(found.record.key), int(found.record.key) + 1)
        return finished

    def list_sidecars(self, names: Iterable[str] | None = None) -> RangeSet:
        """Return the chunks that have a sidecar, by one listing.

        Args:
            names: Names of the files of `sidecars_dir`, where they are known.
        """
        finished = RangeSet()
        for name in self.store.names(self.sidecars_dir) if names is None else names:
            if name.endswith(".json") and name[:-5].isdigit():
                finished.add(int(name[:-5]), int(name[:-5]) + 1)
        return finished

    def read_segment_keys(self) -> SegmentRecords[RecordKey]:
        """Return what the segments say of which chunks are finished, and no more of them."""
        return SegmentRecords(self.store, self.segments_dir, self.revoked_dir, decode_key)

    def _read_segments(self) -> SegmentRecords[Publication]:
        return SegmentRecords(self.store, self.segments_dir, self.revoked_dir, _decode_publication)

    def read_render_records(self) -> SegmentRecords[RenderRecord]:
        """Return what the segments say of the attempts that have rendered their chunks, and no more of them."""
        return SegmentRecords(self.store, self.segments_dir, self.revoked_dir, _decode_render_record)

    def find_render_record(self, chunk: int) -> RenderRecord | None:
        """Return what the sidecar of a chunk tells of its attempt; None where there is none that can be read."""
        with suppress(FileNotFoundError, ValidationError, OversizedFileError):
            return RenderRecord.model_validate_json(self.store.read(self.sidecar_path(chunk_key(chunk))))
        return None

    @property
    def sidecars_dir(self) -> str:
        """Location of the folder of the sidecars of chunks."""
        return f"{self.path}/chunks"

    def claimed_keys(self) -> set[str]:
        """Return the keys of chunks and films that were claimed."""
        in_segments = {found.record.key for found in self.read_segment_keys() if not found.is_placed}
        return in_segments.union(key for key, _ in self._list_records("claims"))

    def find_publication(self, key: str) -> Publication | None:
        """Return the record of a finished chunk or film; None where it is not finished, or its record is unreadable."""
        record = self._read_record((key, self.sidecar_path(key))).publication
        if record is None and find_film_number(key) is None:
            found = self._read_segments().find(int(key))
            return found.record if found is not None and found.is_placed else None
        return record

    def read_plan(self, job: RenderJobSpec) -> ChunkPlan:
        """Return the chunks of a job; none where its list of chunks is a file that is gone or changed."""
        return ChunkPlan(job, self._read_chunk_list() if job.chunk_list is not None else ())

    def output_locations(self, job: RenderJobSpec) -> Iterator[str]:
        """Yield the locations that the fields of a job name for its outputs."""
        plan = self.read_plan(job)
        paths = (path for chunk in plan for path in chunk.iter_outputs())
        for path in chain(paths, (expand_template(path, {}) for _, path in job.film_outputs)):
            try:
                yield self.store.locate(path)
            except ValueError:
                # A job with an output outside of its store was never accepted.
                continue

    def _read_chunk_list(self) -> Sequence[ChunkSpec]:
        accepted = self.find_accepted()
        try:
            if accepted is None or accepted.chunk_list is None:
                return ()
            values = find_job_values(self.job_id, accepted.job.started_at)
            return read_chunk_list(accepted.chunk_list, LIST_FILE, values)
        except BadJobError:
            return ()

    def _list_records(self, folder_name: str) -> Iterator[tuple[str, str]]:
        folder = f"{self.path}/{folder_name}"
        for file in self.store.names(folder):
            if file.endswith(".json"):
                yield file.removesuffix(".json"), f"{folder}/{file}"

    def _read_records(self, found: Iterable[tuple[str, str]]) -> Iterator[Record]:
        rest = iter(found)
        while batch := list(islice(rest, _BATCH)):
            yield from map_parallel(self.store, self._read_record, batch)

    def _read_record(self, found: tuple[str, str]) -> Record:
        key, location = found
        try:
            return Record(key, location, Publication.model_validate_json(self.store.read(location)))
        except (FileNotFoundError, ValidationError, OversizedFileError):
            return Record(key, location, None)


def _decode_publication(line: bytes) -> Publication | None:
    with suppress(ValidationError):
        record = Publication.model_validate_json(line)
        return record if record.key.isdigit() else None
    return None


def _decode_render_record(line: bytes) -> RenderRecord | None:
    with suppress(ValidationError):
        record = RenderRecord.model_validate_json(line)
        return record if record.key.isdigit() else None
    return None


def _note_chunks(found: Iterable[tuple[str, str]], chunks: RangeSet) -> Iterator[tuple[str, str]]:
    """Yield what is given, and add the chunks among it to a set."""
    for key, location in found:
        if key.isdigit():
            chunks.add(int(key), int(key) + 1)
        yield key, location


def is_among(key: str, chunks: RangeSet, films: Collection[str]) -> bool:
    """Tell whether a key is that of one of these chunks or films."""
    return int(key) in chunks if key.isdigit() else key in films


def job_folder_path(store_url: str, job_id: str) -> str:
    """Return the location of the folder of a job in its store."""
    return f"{store_url}/{BOOKKEEPING_FOLDER}/{job_folder_name(job_id)}"


def list_jobs(store: Store, *, exclude: str | None = None) -> Iterator[JobRecords]:
    """Yield the records of each job in a store.

    Args:
        store: The store.
        exclude: Id of a job to leave out.
    """
    excluded = None if exclude is None else job_folder_name(exclude)
    for name in store.folders(f"{store.url}/{BOOKKEEPING_FOLDER}"):
        # Folders of other programs have names that no job's has.
        if name not in (excluded, INPUTS) and job_folder_name(name) == name:
            yield JobRecords(store, name)


def find_publishers(locations: Collection[str], store: Store, *, exclude: str | None = None) -> dict[str, str]:
    """Find the jobs that have published files, or are publishing them; return one job id for each such file.

    Args:
        locations: Locations of the files.
        store: Store whose jobs are searched.
        exclude: Id of a job to leave out.
    """
    wanted = frozenset(locations)
    publishers: dict[str, str] = {}
    for records in list_jobs(store, exclude=exclude):
        job = records.find_job()
        # Most jobs write elsewhere, which their job file alone tells, without thousands of records.
        tells_all = job is not None and job.chunk_list is None and not job.also
        if job is not None and tells_all and wanted.isdisjoint(records.output_locations(job)):
            continue
        for record in records.all_records():
            for file in record.files:
                if file.path in wanted:
                    publishers.setdefault(file.path, records.job_id)
    return publishers


def is_as_published(store: Store, there: StoredFile, file: PublishedFile, *, trust_time: bool = True) -> bool:
    """Tell whether a file still has the content that was published.

    The size must be the same; then the SHA-256 that the store keeps decides. Without one, a file with the time of its
    publication counts as unchanged, and any other file, restored or exchanged, is read.

    Args:
        store: The store.
        there: Metadata of the file now.
        file: Record of the published file.
        trust_time: Whether the time counts; False for files that a renderer may have given all the same time.

    Raises:
        OSError: The file cannot be read.
    """
    if there.size_bytes != file.size_bytes:
        return False
    if there.sha256 is not None:
        return there.sha256 == file.sha256
    if trust_time and file.modified_ns and file.modified_ns == there.modified_ns:
        return True
    with suppress(FileNotFoundError):
        return store.digest(there.location) == file.sha256
    return False


def path_in_store(store: Store, location: str) -> str | None:
    """Return the path of a published file below its store; None if the location is not a file of jobs there.

    Other programs can write records too. So locations outside of the store and in Longtake's own folder are refused.
    """
    inside = location.removeprefix(f"{store.url.rstrip('/')}/")
    if inside == location or any(map(is_bookkeeping, inside.split("/"))):
        return None
    try:
        check_input_path(inside)
    except ValueError:
        return None
    return inside


def is_plain_path(location: str) -> bool:
    """Tell whether a location is an absolute path without `..`, `.` or doubled slashes."""
    return location.startswith("/") and os.path.normpath(location) == location

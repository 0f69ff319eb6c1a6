"""Read the records of jobs in a store: what was accepted, and what is finished, claimed or published."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice

from pydantic import ValidationError

from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError, LongtakeError
from longtake.jobfile.chunk_list import read_chunk_list
from longtake.models.frames import ChunkSpec
from longtake.models.inputs import INPUTS
from longtake.models.job import RenderJobSpec
from longtake.names import find_job_values, job_folder_name
from longtake.paths import BOOKKEEPING_FOLDER
from longtake.ranges import RangeSet
from longtake.stores.job_layout import LIST_FILE, JobLayout, chunk_key, film_key, find_film_number
from longtake.stores.publications import Publication, Record, RenderRecord, decode_publication, decode_render_record
from longtake.stores.segments import RecordKey, SegmentRecords, decode_key
from longtake.stores.store import OversizedFileError, Store, map_parallel
from longtake.templates import expand_template

# What versions before accepted; new lists are shorter, see `check_list_size`.
_LARGEST_LIST_BYTES = 512 * 2**20

# Records that are read at once and held in memory.
_BATCH = 500


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


class JobRecords(JobLayout):
    """Read the records of one job in its store.

    Args:
        store: Store of the job; all locations are of that store.
        job_id: Id of the job.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        super().__init__(store.url, job_id)
        self.store = store

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
        claims = self._list_records(self.claims_dir)
        yield from self._read_records(each for each in claims if not is_among(each[0], finished, films))

    def _read_chunks(self, finished: RangeSet, claimed: list[Record]) -> Iterator[Record]:
        """Yield the records of the finished chunks, sidecars first.

        Args:
            finished: Takes the chunks.
            claimed: Takes what segments say of chunks whose files are being placed.
        """
        yield from self._read_records(_note_chunks(self._list_records(self.sidecars_dir), finished))
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
        return SegmentRecords(self.store, self.segments_dir, self.revoked_dir, decode_publication)

    def read_render_records(self) -> SegmentRecords[RenderRecord]:
        """Return what the segments say of the attempts that have rendered their chunks, and no more of them."""
        return SegmentRecords(self.store, self.segments_dir, self.revoked_dir, decode_render_record)

    def find_render_record(self, chunk: int) -> RenderRecord | None:
        """Return what the sidecar of a chunk tells of its attempt; None where there is none that can be read."""
        with suppress(FileNotFoundError, ValidationError, OversizedFileError):
            return RenderRecord.model_validate_json(self.store.read(self.sidecar_path(chunk_key(chunk))))
        return None

    def claimed_keys(self) -> set[str]:
        """Return the keys of chunks and films that were claimed."""
        in_segments = {found.record.key for found in self.read_segment_keys() if not found.is_placed}
        return in_segments.union(key for key, _ in self._list_records(self.claims_dir))

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

    def _list_records(self, folder: str) -> Iterator[tuple[str, str]]:
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


def _note_chunks(found: Iterable[tuple[str, str]], chunks: RangeSet) -> Iterator[tuple[str, str]]:
    """Yield what is given, and add the chunks among it to a set."""
    for key, location in found:
        if key.isdigit():
            chunks.add(int(key), int(key) + 1)
        yield key, location


def is_among(key: str, chunks: RangeSet, films: Collection[str]) -> bool:
    """Tell whether a key is that of one of these chunks or films."""
    return int(key) in chunks if key.isdigit() else key in films


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

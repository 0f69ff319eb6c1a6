"""Finished chunks and films of other jobs in the store that are those of this one."""

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile

from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, encode_line, read_sidecar
from longtake.errors import BadJobError
from longtake.ranges import RangeSet
from longtake.stores.job_layout import find_film_number
from longtake.stores.job_records import JobRecords, list_jobs
from longtake.stores.segments import SegmentName, decode_key
from longtake.stores.store import map_parallel

# Chunks and bytes of a file of adopted records, so that what is read at once stays small.
_MOST_CHUNKS = 2000
_MOST_BYTES = 8 * 2**20


def find_same_chunks(job: OpenJob) -> list[OpenJob]:
    """Return the other jobs of the store that may have rendered chunks of this one; by one call for each job there."""
    others = list(list_jobs(job.folder.store, exclude=job.ref.id))
    work = job.job.dump_chunk_work()
    found = []
    for other, accepted in zip(others, map_parallel(job.folder.store, JobRecords.find_accepted, others), strict=True):
        if accepted is None:
            continue
        # One digest of the whole job makes one work, whatever a version before said of its inputs.
        if accepted.job.digest() == job.ref.digest or accepted.job.dump_chunk_work() == work:
            folder = JobFolder(other.store, other.job_id)
            ref = job.ref.model_copy(update={"id": other.job_id, "digest": accepted.job.digest(), "integrity": ""})
            with suppress(BadJobError):
                found.append(OpenJob(folder, ref, accepted.job, accepted.chunk_list))
    return found


def find_reusable(
    job: OpenJob, others: Iterable[OpenJob], key: str, is_undamaged: Callable[[Sidecar, str], bool]
) -> Sidecar | None:
    """Return another job's sidecar of the same chunk, or of the same film, whose files are undamaged.

    It is returned as the sidecar of this job: its digests are this job's.

    Args:
        job: The job that has the chunk, too.
        others: The jobs that may have made it; see `find_same_chunks`.
        key: Key of the chunk or the film.
        is_undamaged: Called with a sidecar and its location; tells whether all of its files are as published.
    """
    digest = job.compute_digest(key)
    is_film = find_film_number(key) is not None
    for other in others:
        # Another job may count its films in another order.
        for there in other.films if is_film else (key,):
            made_of = other.compute_digest(there)
            if made_of != digest and (is_film or other.ref.digest != job.ref.digest):
                continue
            location, sidecar = other.folder.sidecar_path(there), None
            # By a listing: a call for a sidecar that is not there would take 10 ms of each chunk in a bucket.
            if is_film or int(there) in other.listed_sidecars:
                sidecar = read_sidecar(other.folder.store, location)
            if sidecar is None and not is_film:
                found = other.listed_segments.find(int(there))
                if found is not None and found.is_placed:
                    sidecar, location = found.record, found.location
            if sidecar is None or not _is_made_of(sidecar, made_of, other.ref.digest):
                continue
            if is_undamaged(sidecar, location):
                own = "" if is_film and digest == job.ref.digest else digest
                return sidecar.model_copy(update={"key": key, "digest": job.ref.digest, "chunk_digest": own})
    return None


class AdoptedChunks:
    """Proven chunks of other jobs that become finished chunks of this one, once all checks of it have passed.

    Until then their records are in a file without a name: those of a million chunks would take 5 GB of memory. Then
    they are segments: a sidecar a chunk took two syncs of the disk each, and left a million files.

    Args:
        folder: Folder of the job that has the chunks, too.
        scratch: Folder where this host works.

    Attributes:
        chunks: The chunks.
    """

    def __init__(self, folder: JobFolder, scratch: Path) -> None:
        self.chunks = RangeSet()
        self._folder = folder
        self._lines = SpooledTemporaryFile(max_size=_MOST_BYTES, dir=str(scratch))  # noqa: SIM115  # see `close`

    def close(self) -> None:
        """Forget what was not written."""
        self._lines.close()

    def add(self, record: Sidecar) -> None:
        """Add the record of a chunk; of one after all others."""
        self._lines.write(encode_line(record))
        self.chunks.add(int(record.key), int(record.key) + 1)

    def write(self) -> None:
        """Make them finished chunks of the job.

        Raises:
            StoreError: The store is away; those that were written stay.
        """
        revoked = self._folder.read_segments().revoked
        attempt = f"adopted-{secrets.token_hex(8)}"
        for lines in self._group_lines():
            known = [key for key in map(decode_key, lines) if key is not None]
            name = SegmentName(self._folder.segments_dir, int(known[0].key), int(known[-1].key), attempt)
            self._folder.store.create(name.closed, b"".join(lines))
            for key, line in zip(known, lines, strict=True):
                # What was taken back of a segment counts in none any more.
                if (key.key, key.attempt) in revoked:
                    self._folder.adopt(Sidecar.model_validate_json(line))

    def _group_lines(self) -> Iterator[list[bytes]]:
        lines: list[bytes] = []
        size = 0
        self._lines.seek(0)
        for line in self._lines:
            if lines and (len(lines) == _MOST_CHUNKS or size + len(line) > _MOST_BYTES):
                yield lines
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield lines


def _is_made_of(sidecar: Sidecar, digest: str, job_digest: str) -> bool:
    """Tell whether a sidecar is of the work that the record of its job tells, which may be that of another start."""
    # The only film of a job has no digest but the job's, and chunks of versions before had none.
    return sidecar.chunk_digest == digest if sidecar.chunk_digest else sidecar.digest == job_digest

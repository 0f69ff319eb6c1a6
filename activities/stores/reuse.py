"""Finished chunks and films of other jobs in the store that are those of this one."""

from collections.abc import Callable, Iterable
from contextlib import suppress

from activities.stores.job_folder import JobFolder, OpenJob, Sidecar, read_sidecar
from longtake.errors import BadJobError
from longtake.stores.job_layout import find_film_number
from longtake.stores.job_records import JobRecords, list_jobs
from longtake.stores.store import map_parallel


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
            location = other.folder.sidecar_path(there)
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


def _is_made_of(sidecar: Sidecar, digest: str, job_digest: str) -> bool:
    """Tell whether a sidecar is of the work that the record of its job tells, which may be that of another start."""
    # The only film of a job has no digest but the job's, and chunks of versions before had none.
    return sidecar.chunk_digest == digest if sidecar.chunk_digest else sidecar.digest == job_digest

"""Know what became of each chunk of the jobs that somebody looks at: read again only what has changed."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from longtake.chunk_history import ChunkHistory, HistoryReader
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobStatus
from longtake.stores.job_records import ChangedJobError, JobRecords
from longtake.web.problems import ProblemError

# Of a million chunks each takes 33 MB.
_MOST_READERS = 8

# A person waits; what is not read by then comes with the next look.
_MOST_SECONDS = 2.0


@dataclass
class _Reader:
    """What is known of one job."""

    job: RenderJobSpec
    reader: HistoryReader
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class JobHistory:
    """A job, and what became of its chunks.

    Args:
        job: The job as it was accepted.
        chunks: What became of its chunks.
    """

    job: RenderJobSpec
    chunks: ChunkHistory


class JobHistories:
    """Read histories of jobs, and keep what was read of the last few."""

    def __init__(self) -> None:
        self._readers: OrderedDict[tuple[object, ...], _Reader] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, records: JobRecords, status: JobStatus) -> JobHistory:
        """Return what became of each chunk of a job. Blocking.

        Raises:
            ProblemError: The job has no record that can be read.
            OSError: The store cannot be read.
        """
        # A job that is submitted anew under its id, or whose store is another, has another history.
        key = (records.path, status.started_at or status.created_at, status.total_chunks)
        with self._lock:
            known = self._readers.get(key)
        if known is None:
            job = _read_job(records)
            known = _Reader(job, HistoryReader(records, job))
            with self._lock:
                known = self._readers.setdefault(key, known)
                self._readers.move_to_end(key)
                if len(self._readers) > _MOST_READERS:
                    self._readers.popitem(last=False)
        with known.lock:
            return JobHistory(known.job, known.reader.refresh(status, most_seconds=_MOST_SECONDS))


def _read_job(records: JobRecords) -> RenderJobSpec:
    try:
        job = records.find_job()
    except ChangedJobError as error:
        raise ProblemError(409, str(error), kind="changed-job") from error
    if job is None:
        raise ProblemError(404, f"{records.job_id} has no record in its store that can be read", kind="no-record")
    return job

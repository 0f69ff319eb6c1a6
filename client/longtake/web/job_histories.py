"""Know what became of each chunk of the jobs that somebody looks at: read again only what has changed."""

import threading
import time
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

# Who reads all of it lets others in after this long.
_TURN_SECONDS = 0.5
_PAUSE_SECONDS = 0.01


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
        """Return what became of each chunk of a job, as far as a person waits for it. Blocking.

        Raises:
            ProblemError: The job has no record that can be read.
            OSError: The store cannot be read.
        """
        known = self._find(records, status)
        with known.lock:
            return JobHistory(known.job, known.reader.refresh(status, most_seconds=_MOST_SECONDS))

    def read_whole(self, records: JobRecords, status: JobStatus) -> JobHistory:
        """Return all that became of each chunk of a job, however long it takes; others may look meanwhile. Blocking.

        Raises:
            ProblemError: The job has no record that can be read.
            OSError: The store cannot be read.
        """
        known = self._find(records, status)
        while True:
            with known.lock:
                chunks = known.reader.refresh(status, most_seconds=_TURN_SECONDS)
            if not chunks.unread:
                return JobHistory(known.job, chunks)
            # A lock that is taken again at once is not given to those who wait for it.
            time.sleep(_PAUSE_SECONDS)

    def _find(self, records: JobRecords, status: JobStatus) -> _Reader:
        """Return what is known of a job, and keep it among the last few."""
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
        return known


def _read_job(records: JobRecords) -> RenderJobSpec:
    try:
        job = records.find_job()
    except ChangedJobError as error:
        raise ProblemError(409, str(error), kind="changed-job") from error
    if job is None:
        raise ProblemError(404, f"{records.job_id} has no record in its store that can be read", kind="no-record")
    return job

"""Write down the tries of chunks that fail, for people who ask later what went wrong where."""

import logging
from datetime import UTC, datetime
from functools import partial

from activities.backends.backend import Progress
from activities.errors import AttemptError
from longtake.concurrency import run_with_timeout
from longtake.models.messages import Heartbeat
from longtake.stores.job_records import JobRecords
from longtake.stores.try_records import FailedTry, write_try
from longtake.text import cut_middle

_log = logging.getLogger(__name__)

# The next try waits a second at least. A store that is away costs this record, and the chunk no more than this.
_MOST_SECONDS = 2.0
_LONGEST_ERROR = 3000


class TryJournal:
    """The record of each try of a span that fails; nothing depends on it.

    Args:
        records: Records of the job.
        host: Name of this host.
    """

    def __init__(self, records: JobRecords, host: str) -> None:
        self._records = records
        self._host = host
        self._began: datetime | None = None
        self._progress = Progress(frames_done=0)

    def begin(self) -> None:
        """Note that a try begins now."""
        self._began, self._progress = datetime.now(UTC), Progress(frames_done=0)

    def note_progress(self, progress: Progress) -> None:
        """Note how far the try is and what it uses."""
        self._progress = progress

    async def write(
        self,
        chunk: int,
        attempt: str,
        error: Exception | str,
        *,
        number: int,
        log: str,
        lost: bool = False,
        last: bool = False,
    ) -> None:
        """Write the record of the try that has just failed; a failure of that is logged, and no more.

        Args:
            chunk: Number of the chunk.
            attempt: Name of the attempt.
            error: What ended the try.
            number: Which try of the chunk it was, from 1.
            log: Location of its log.
            lost: Whether it was lost, and does not count.
            last: Whether the chunk is given up.
        """
        usage = self._progress.usage
        await self._write(
            FailedTry(
                chunk=chunk,
                attempt=attempt,
                number=number,
                host=self._host,
                began=self._began,
                ended=datetime.now(UTC),
                error=cut_middle(f"{error}", _LONGEST_ERROR),
                exit=error.exit_code if isinstance(error, AttemptError) else None,
                frames_done=self._progress.frames_done,
                cpu_seconds=round(usage.cpu_seconds, 3),
                peak_memory_bytes=usage.peak_memory_bytes,
                log=log,
                lost=lost,
                last=last,
            )
        )

    async def write_lost_worker(self, before: Heartbeat, attempt: str) -> None:
        """Write the record of a try whose worker was lost, by the last heartbeat of that worker.

        Args:
            before: The heartbeat.
            attempt: Name of the attempt that takes over; no more is known of the one before than its host.
        """
        await self._write(
            FailedTry(
                chunk=before.chunk,
                attempt=f"before-{attempt}",
                number=before.attempt,
                host=before.host,
                ended=datetime.now(UTC),
                error="its worker was lost while it rendered the chunk; look into its log and the memory of its host",
                frames_done=before.frames_done,
                cpu_seconds=before.cpu_seconds,
                peak_memory_bytes=before.memory_bytes,
                lost=True,
            )
        )

    async def _write(self, failed: FailedTry) -> None:
        try:
            await run_with_timeout(_MOST_SECONDS, partial(write_try, self._records, failed))
        except Exception:
            _log.exception("the record of a failed try of chunk %d cannot be written", failed.chunk)

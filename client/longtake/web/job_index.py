"""Know all jobs of a farm for lists: read Temporal's list once for all who ask, and only what has changed since."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from longtake.describe import build_query, is_job, read_listed_status
from longtake.models.status import JobState, JobStatus
from longtake.wait_reasons import find_queue_reason
from longtake.web.single_flight import SharedRead

# A list that is read again within a second is the same.
_FRESH_SECONDS = 1.0

# Jobs that have gone from Temporal, and ends that its list told late, are found by reading all of it anew.
_ALL_SECONDS = 60.0

# Temporal's list lags behind, and its clock is another one.
_OVERLAP = timedelta(seconds=30)

# What is written of a job that has ended: it changes no more.
_ENDED = b"ended"

# Jobs that are looked for at once where a list lacks them, and jobs that were deleted and are remembered.
_LOOKS_AT_ONCE = 20
_MOST_GONE = 1000

# Jobs that a page of a farm is for; the oldest beyond are found by their ids.
MOST_JOBS = 20_000


@dataclass(frozen=True)
class ListedJob:
    """A job as a list shows it.

    Args:
        status: What the job last wrote down.
        changed_at: When this process saw it change, in seconds since 1970.
        run_id: Its latest run.
        started: When that run was started.
        written: What its status was read from.
    """

    status: JobStatus
    changed_at: float
    run_id: str
    started: datetime
    written: bytes


class JobIndex:
    """Keep the jobs of a farm as Temporal lists them.

    Args:
        client: The client.
        task_queue: Queue of the workers.
    """

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._jobs: dict[str, ListedJob] = {}
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._read_all = SharedRead(self._refresh, fresh_seconds=_FRESH_SECONDS)
        self._all_at = float("-inf")
        self._closed_since = datetime.fromtimestamp(0, UTC)

    async def jobs(self) -> dict[str, ListedJob]:
        """Return all jobs by id, as they were at most a second ago.

        Raises:
            RPCError: Temporal does not list them.
        """
        return await self._read_all.get()

    @property
    def gone(self) -> Mapping[str, float]:
        """When this process saw that a job was deleted from Temporal, by id, in seconds since 1970; the last thousand.

        Of one that had not ended it sees it within seconds, of others within a minute.
        """
        return self._gone

    def forget(self) -> None:
        """Let the next who asks read the list anew, after a request has changed a job."""
        self._read_all.forget()

    async def _refresh(self) -> dict[str, ListedJob]:
        began, now = time.monotonic(), datetime.now(UTC)
        is_all = began - self._all_at >= _ALL_SECONDS
        query = build_query(None)
        if not is_all:
            query += f' AND (ExecutionStatus="Running" OR CloseTime >= "{self._closed_since:%Y-%m-%dT%H:%M:%SZ}")'
        found: dict[str, WorkflowExecution] = {}
        async for run in self._client.list_workflows(query):
            # A job that was retried has several runs, and may be listed in any order.
            earlier = found.get(run.id)
            is_latest = earlier is None or run.start_time > earlier.start_time
            if is_latest and await is_job(run, self._task_queue):
                found[run.id] = run
            if len(found) >= MOST_JOBS:
                break
        jobs = {} if is_all else dict(self._jobs)
        if len(found) < MOST_JOBS:
            await self._find_gone(jobs, found, is_all=is_all)
        for run in found.values():
            known = self._jobs.get(run.id)
            if known is None or run.start_time >= known.started:
                jobs[run.id] = await self._read(run, known)
            else:
                jobs[run.id] = known
        self._jobs = await self._add_reasons(jobs, found.values())
        self._closed_since = now - _OVERLAP
        if is_all:
            self._all_at = began
        return self._jobs

    async def _find_gone(
        self, jobs: dict[str, ListedJob], found: Mapping[str, WorkflowExecution], *, is_all: bool
    ) -> None:
        """Tell jobs that were deleted from those that a list lacks because it lags behind, and keep the latter."""
        lacking = [
            job_id for job_id, job in self._jobs.items() if job_id not in found and (is_all or job.written != _ENDED)
        ]
        for first in range(0, len(lacking), _LOOKS_AT_ONCE):
            some = lacking[first : first + _LOOKS_AT_ONCE]
            for job_id, is_gone in zip(some, await asyncio.gather(*map(self._is_gone, some)), strict=True):
                if is_gone:
                    jobs.pop(job_id, None)
                    self._gone[job_id] = time.time()
                else:
                    jobs[job_id] = self._jobs[job_id]
        for job_id in found:
            # Another job may have the id by now.
            self._gone.pop(job_id, None)
        while len(self._gone) > _MOST_GONE:
            self._gone.popitem(last=False)

    async def _is_gone(self, job_id: str) -> bool:
        try:
            await self._client.get_workflow_handle(job_id).describe()
        except RPCError as error:
            return error.status is RPCStatusCode.NOT_FOUND
        return False

    async def _read(self, run: WorkflowExecution, known: ListedJob | None) -> ListedJob:
        written = _written(run)
        if known is not None and known.run_id == run.run_id and known.written == written:
            return known
        status = await read_listed_status(run)
        # A process that has just started knows no better than what jobs say themselves.
        told = status.updated_at or status.created_at
        changed_at = time.time() if known is not None or told is None else told.timestamp()
        return ListedJob(status, changed_at, run.run_id, run.start_time, written)

    async def _add_reasons(self, jobs: dict[str, ListedJob], runs: Iterable[WorkflowExecution]) -> dict[str, ListedJob]:
        """Say of jobs that have not begun whether no worker serves their queue."""
        reasons: dict[str, str | None] = {}
        for run in runs:
            job = jobs[run.id]
            if job.status.state is not JobState.PENDING or job.status.waiting_for is not None:
                continue
            if run.task_queue not in reasons:
                reasons[run.task_queue] = await find_queue_reason(self._client, run.task_queue)
            if reason := reasons[run.task_queue]:
                status = job.status.model_copy(update={"waiting_for": reason})
                # Without what it was read from: the reason may go.
                jobs[run.id] = ListedJob(status, job.changed_at, job.run_id, job.started, b"")
        return jobs


def _written(run: WorkflowExecution) -> bytes:
    """Return all of a run in a list that its status is made of."""
    if run.status is not WorkflowExecutionStatus.RUNNING:
        return _ENDED
    return run.raw_info.SerializeToString(deterministic=True)

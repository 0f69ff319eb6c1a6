"""Start, find and list render jobs from Python: `RenderClient`."""

import threading
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from longtake.chunks import ChunkPlan
from longtake.concurrency import run_in_thread
from longtake.connection import connect
from longtake.describe import (
    build_query,
    build_runs_query,
    describe_rpc_error,
    is_job,
    is_queryable,
    read_listed_status,
    read_memo,
    read_status,
)
from longtake.errors import BadJobError, JobEndedError, JobExistsError, NoSuchJobError, NotReachableError
from longtake.handle import JobHandle, user_identity
from longtake.jobfile.loader import read_job
from longtake.models.job import RenderJobSpec
from longtake.models.job_fields import LARGEST_INLINE_JOB_BYTES
from longtake.models.status import JobState, JobStatus
from longtake.names import (
    DEFAULT_TASK_QUEUE,
    MEMO_DIGEST,
    MEMO_SUBMITTED_BY,
    RENDER_JOB_WORKFLOW,
    check_job_id,
    find_job_values,
    make_job_id,
)
from longtake.other_film import build_film_job
from longtake.pattern_check import check_patterns
from longtake.ranges import Range, format_ranges
from longtake.text import escape_markdown
from longtake.transfer.progress import OnProgress
from longtake.transfer.upload_inputs import needs_upload, upload_inputs
from longtake.wait_reasons import find_queue_reason

# Runs whose latest ones are found by one list: as many ids fit a query.
_RUNS_AT_ONCE = 100


class RenderClient:
    """Start, find and list the render jobs of a Temporal server, without a worker or renderer on this host.

    ```python
    async with RenderClient.connect() as farm:
        job = await farm.submit(RenderJobSpec(...))
        result = await job.result()
    ```

    Args:
        client: Connected Temporal client.
        task_queue: Task queue of the workers that run the jobs.
        identity: On whose behalf jobs are submitted and steered where a call does not say it; default: user and host.
    """

    def __init__(self, client: Client, *, task_queue: str = DEFAULT_TASK_QUEUE, identity: str | None = None) -> None:
        self._client = client
        self._task_queue = task_queue
        self._identity = identity

    @classmethod
    def connect(
        cls,
        *,
        address: str | None = None,
        namespace: str | None = None,
        profile: str | None = None,
        task_queue: str = DEFAULT_TASK_QUEUE,
    ) -> "PendingClient":
        """Connect to Temporal; the result is awaited, or entered with `async with`.

        Arguments that are not given come from `temporal.toml` and `TEMPORAL_*` variables, as for the Temporal CLI.

        Args:
            address: Host and port of the server.
            namespace: Namespace of the jobs.
            profile: Profile of `temporal.toml`.
            task_queue: Task queue of the workers that run the jobs.

        Raises:
            NotReachableError: No Temporal server answers.
        """
        return PendingClient(address=address, namespace=namespace, profile=profile, task_queue=task_queue)

    @property
    def temporal(self) -> Client:
        """Temporal client that all calls use."""
        return self._client

    async def submit(
        self,
        job: RenderJobSpec,
        *,
        id: str | None = None,
        on_progress: OnProgress = lambda _: None,
        by: str | None = None,
    ) -> JobHandle:
        """Start a job and return its handle; the same job under the same id is started only once.

        If the store of the job is a bucket, its inputs are uploaded there first, each content once.

        Args:
            job: The job; set `base_dir`, because relative paths start from it.
            id: Id of the job; default: made from the job's name.
            on_progress: Called with each new total of the upload, from another thread.
            by: Person or program that submits the job; default: the identity of this client.

        Returns:
            The handle; its `is_new` tells whether this call has started the job.

        Raises:
            BadJobError: The id or the job cannot be accepted; nothing was started.
            StoreUnusableError: The inputs cannot be uploaded to the store; nothing was started.
            JobExistsError: A different job has the id.
            JobEndedError: The same job has the id, and has failed or was cancelled; `retry` is for that.
            NotReachableError: Temporal does not take the job.
        """
        name = job.fill_name({**find_job_values("", datetime.now(UTC)), "job": id or ""})
        job_id = check_job_id(id) if id is not None else make_job_id(name)
        _check_size(job)
        await run_in_thread(partial(check_patterns, job))
        if needs_upload(job):
            stop = threading.Event()
            job = await run_in_thread(partial(upload_inputs, job, on_progress=on_progress, stop=stop), stop)
        submitter = self._name_asker(by)
        try:
            # A repeated submit must not start a failed or cancelled job again: that is what `retry` is for.
            await self._start(
                job.to_wire(),
                job_id,
                name,
                WorkflowIDReusePolicy.REJECT_DUPLICATE,
                memo={MEMO_DIGEST: job.digest(), MEMO_SUBMITTED_BY: submitter},
                details=_describe_origin(job, submitter),
            )
        except WorkflowAlreadyStartedError as error:
            status = await self._check_same(job_id, job)
            if status.state in (JobState.FAILED, JobState.CANCELLED):
                how = "has failed" if status.state is JobState.FAILED else "was cancelled"
                raise JobEndedError(
                    f"{job_id} {how}, and nothing was started; `longtake retry {job_id}` renders what is missing"
                ) from error
            return self.job(job_id)
        except RPCError as error:
            raise NotReachableError(f"Temporal does not take job {job_id}: {describe_rpc_error(error)}") from error
        return JobHandle(self._client, job_id, is_new=True, identity=self._identity)

    def job(self, id: str) -> JobHandle:
        """Return the handle of a job, without checking that the job exists: methods of the handle raise then."""
        return JobHandle(self._client, check_job_id(id), identity=self._identity)

    def _name_asker(self, by: str | None) -> str:
        given = self._identity if by is None else by
        return user_identity() if given is None else given

    async def list(self, *, state: JobState | None = None, limit: int = 100) -> list[JobStatus]:
        """Return the status of jobs, the youngest first, as each job last wrote it down.

        Args:
            state: State of the jobs to list; None lists all.
            limit: Largest number of jobs.

        Raises:
            NotReachableError: Temporal does not answer.
        """
        found: dict[str, JobStatus] = {}
        queues: dict[str, str] = {}
        try:
            async for batch in self._list_runs(state):
                # A run that has not ended is the latest of its job.
                has_earlier = state is not None and state.has_ended
                for execution in await self._find_latest(batch) if has_earlier else batch:
                    status = await read_listed_status(execution)
                    # The list of Temporal lags behind, so that the status in the job's memo decides.
                    if execution.id not in found and (state is None or status.state is state):
                        found[execution.id], queues[execution.id] = status, execution.task_queue
                if len(found) >= limit:
                    break
        except RPCError as error:
            raise NotReachableError(f"Temporal does not list jobs: {describe_rpc_error(error)}") from error
        return await _add_reasons(self._client, list(found.values())[:limit], queues)

    async def _list_runs(self, state: JobState | None) -> AsyncIterator[Sequence[WorkflowExecution]]:
        """Yield batches of runs of jobs, the youngest first."""
        batch: list[WorkflowExecution] = []
        async for execution in self._client.list_workflows(build_query(state)):
            if await is_job(execution, self._task_queue):
                batch.append(execution)
            if len(batch) == _RUNS_AT_ONCE:
                yield batch
                batch = []
        yield batch

    async def retry(
        self,
        id: str,
        *,
        chunks: Iterable[Range] = (),
        frames: str | Iterable[int | str] | None = None,
        by: str | None = None,
    ) -> JobHandle:
        """Retry the failed chunks of a job, or render some frames of a job that has ended anew.

        A failed or cancelled job is started again under its id and renders only what is missing; of that only the
        chunks that are named, and then it fails again where others are missing. A job that has not ended renders its
        failed chunks again. A job that has ended is started again for frames that are named, renders these, and makes
        its film again; their old files and the old film are moved aside.

        Args:
            id: Id of the job.
            chunks: Ranges `[start, stop)` of failed chunks, or of missing ones of a job that has failed or was
                cancelled; none means all of them.
            frames: Frames of a job that has ended, as in "12-15,20", or as a list; of video whole chunks are rendered.
                None names none.
            by: Person or program that asks; default: the identity of this client.

        Raises:
            NoSuchJobError: There is no such job.
            JobEndedError: The job has completed, and there is nothing to retry.
            JobExistsError: The job was started again meanwhile.
            BadJobError: None of the chunks has failed, or frames were named for a job that has not ended, or frames or
                chunks that the job does not have; nothing was started.
        """
        handle, wanted = self.job(id), tuple(chunks)
        anew = None if frames is None else frames if isinstance(frames, str) else ",".join(map(str, frames))
        if wanted and anew is not None:
            raise BadJobError("frames: stand beside chunks; name one of the two")
        status = await handle.status()
        if anew is not None and not status.state.has_ended:
            raise BadJobError(
                f"frames: {id} is {status.state}, and frames are rendered anew when a job has ended; wait for its end"
            )
        if status.state is JobState.COMPLETED and anew is None:
            raise JobEndedError(f"{id} has completed; there is nothing to retry")
        if not status.state.has_ended:
            await handle.retry_failed(wanted, by=by)
            return handle
        document = await handle.document()
        # Who retries a job wants it to render, also where it was first started paused.
        document.pop("start_paused", None)
        document.pop("only", None)
        if wanted:
            document["only"] = _check_chunks(wanted, read_job(dict(document)).chunk_count)
        if status.started_at is not None:
            # Its outputs are named after the first start, and its finished chunks are those of that start.
            document["started_at"] = status.started_at.isoformat()
        reuse, asker = WorkflowIDReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY, self._name_asker(by)
        # It stays the job of who has submitted it.
        memo = {MEMO_SUBMITTED_BY: status.submitted_by} if status.submitted_by else None
        if anew is not None:
            document["rerender"] = ChunkPlan(read_job(dict(document))).request_rerender(anew).model_dump()
            reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        try:
            details = f"- retried by: {escape_markdown(asker)}"
            await self._start(document, id, status.name, reuse, memo=memo, details=details)
        except WorkflowAlreadyStartedError as error:
            raise JobExistsError(f"{id} is at work again already; watch it with `longtake watch {id}`") from error
        return self.job(id)

    async def film(
        self, id: str, values: Mapping[str, Any], *, new_id: str | None = None, on_progress: OnProgress = lambda _: None
    ) -> JobHandle:
        """Make another film of what a job has rendered, and return the handle of the job that makes it.

        Nothing is rendered: each chunk must be there. A film of the same path makes way for the new one, and is kept
        in the folder of the new job (`aside`).

        Args:
            id: Id of the job whose chunks are there; it has ended.
            values: What is other than in that job, by key: output, film, encode, colour, audio, merge_command, drop,
                verify, and fps of image files; dots reach into sections.
            new_id: Id of the job that makes the film; default: made from the job's name.
            on_progress: Called with each new total of an upload, from another thread.

        Raises:
            NoSuchJobError: There is no such job.
            BadJobError: The job has not ended, or a value is none or decides the chunks; nothing was started.
            JobExistsError: A different job has the new id.
            NotReachableError: Temporal does not answer.
        """
        handle = self.job(id)
        status = await handle.status()
        job = build_film_job(await handle.document(), status, values)
        return await self.submit(job, id=new_id, on_progress=on_progress)

    async def _start(
        self,
        document: Mapping[str, Any],
        job_id: str,
        name: str,
        reuse: WorkflowIDReusePolicy,
        memo: Mapping[str, Any] | None = None,
        details: str | None = None,
    ) -> None:
        await self._client.start_workflow(
            RENDER_JOB_WORKFLOW,
            document,
            id=job_id,
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=reuse,
            memo=memo,
            # The Temporal UI shows it as Markdown.
            static_summary=escape_markdown(name) or None,
            static_details=details,
        )

    async def _find_latest(self, executions: Sequence[WorkflowExecution]) -> Iterable[WorkflowExecution]:
        """Return those of some runs that are the latest of their jobs: a job that is retried has several.

        One list tells that of all of them; a request for each would take minutes for thousands of jobs.
        """
        latest: dict[str, WorkflowExecution] = {execution.id: execution for execution in executions}
        if listed := [job_id for job_id in latest if is_queryable(job_id)]:
            async for run in self._client.list_workflows(build_runs_query(listed)):
                if run.start_time > latest[run.id].start_time:
                    latest[run.id] = run
        for job_id in latest.keys() - set(listed):
            with suppress(RPCError):
                latest[job_id] = await self._client.get_workflow_handle(job_id).describe()
        known = {execution.run_id for execution in executions}
        return [execution for execution in latest.values() if execution.run_id in known]

    async def _check_same(self, job_id: str, job: RenderJobSpec) -> JobStatus:
        """Return the status of the job that has an id; raise unless that is the same job."""
        handle = self._client.get_workflow_handle(job_id)
        try:
            description: WorkflowExecutionDescription = await handle.describe()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NoSuchJobError(f"{job_id} ended and was removed just now; submit it again") from error
            raise NotReachableError(f"Temporal does not answer for {job_id}: {describe_rpc_error(error)}") from error
        if await read_memo(description, MEMO_DIGEST, str) != job.digest():
            raise JobExistsError(f"id: {job_id} is taken by a different job; choose another id")
        return await read_status(description)


def _check_chunks(chunks: Sequence[Range], count: int) -> list[Range]:
    """Return ranges of chunks as a job has them; raise for others."""
    for start, stop in chunks:
        if not 0 <= start < stop <= count:
            raise BadJobError(
                f"chunks: {format_ranges([(start, stop)])} lies outside the {count:,} of the job, which count from 0"
            )
    return [*chunks]


async def _add_reasons(client: Client, jobs: Sequence[JobStatus], queues: Mapping[str, str]) -> list[JobStatus]:
    """Add to jobs why they do not go on, as far as a look at each of their queues tells that."""
    reasons: dict[str, str | None] = {}
    listed = []
    for job in jobs:
        queue = queues[job.id]
        if not job.state.has_ended and job.waiting_for is None:
            if queue not in reasons:
                reasons[queue] = await find_queue_reason(client, queue)
            job = job.model_copy(update={"waiting_for": reasons[queue]})
        listed.append(job)
    return listed


class PendingClient:
    """Connect a `RenderClient` when awaited, or when entered with `async with`."""

    def __init__(self, *, address: str | None, namespace: str | None, profile: str | None, task_queue: str) -> None:
        self._address = address
        self._namespace = namespace
        self._profile = profile
        self._task_queue = task_queue

    async def __aenter__(self) -> RenderClient:
        client = await connect(address=self._address, namespace=self._namespace, profile=self._profile)
        return RenderClient(client, task_queue=self._task_queue)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The SDK closes its connection when the client is no longer used.
        return None

    def __await__(self) -> Generator[Any, None, RenderClient]:
        return self.__aenter__().__await__()


def _describe_origin(job: RenderJobSpec, submitter: str) -> str:
    """Return who has submitted a job, its store and its film, as Markdown for the Temporal UI."""
    facts = {
        "submitted by": submitter,
        "store": job.store or job.base_dir or "the first folder of the workers",
        "film": ", ".join(path for _, path in job.film_outputs) or "none: the chunks stay as they are",
    }
    return "\n".join(f"- {name}: {escape_markdown(text)}" for name, text in facts.items())


def _check_size(job: RenderJobSpec) -> None:
    size = job.wire_size_bytes()
    if size > LARGEST_INLINE_JOB_BYTES:
        raise BadJobError(
            f"chunks: the list takes {size:,} bytes, and {LARGEST_INLINE_JOB_BYTES:,} can travel; write it to a "
            "job file and give its path, sha256 and count, or use frames"
        )

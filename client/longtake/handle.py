"""Watch and control one job from Python."""

import asyncio
import getpass
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError
from temporalio.api.enums.v1 import EventType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from longtake.describe import (
    add_batches,
    add_running_chunks,
    describe_rpc_error,
    read_batches,
    read_document,
    read_running_chunks,
    read_status,
    reveal_failures,
)
from longtake.errors import (
    BadJobError,
    JobCancelledError,
    JobEndedError,
    JobFailedError,
    LongtakeError,
    NoSuchJobError,
    NotReachableError,
)
from longtake.models.status import (
    MOST_BY,
    JobRequest,
    JobState,
    JobStatus,
    PauseMode,
    PauseRequest,
    RenderJobResult,
    ResumeRequest,
    RetryFailed,
    RunningChunk,
    SetMaxParallel,
    SignalledRequest,
    SkipChunks,
)
from longtake.names import CANCELLED_BY
from longtake.ranges import Range
from longtake.stored_job import StoredJob
from longtake.text import describe_invalid, shorten_line
from longtake.wait_reasons import WaitReason, find_activity_reason, find_query_reason, find_workflow_reason

Answer = TypeVar("Answer")
Asked = TypeVar("Asked", bound=JobRequest)

# What a job answers whose worker is of before requests had a `by`.
_UNKNOWN_BY = "by: is not a key of this request"

# An update needs a worker. A worker that must replay a long history first answers well within this.
_UPDATE_PATIENCE_SECONDS = 30.0

# A pause need not wait for an answer: it can be left as a signal.
_REQUEST_PATIENCE_SECONDS = 3.0

# A query needs a worker too. Without an answer by then, the status that the job wrote down last is shown.
_QUERY_TIMEOUT = timedelta(seconds=3)

# Time between two readings of the status by `watch`.
_WATCH_SECONDS = 0.5


async def await_update(
    job_id: str, update: Coroutine[Any, Any, Answer], *, patience_seconds: float = _UPDATE_PATIENCE_SECONDS
) -> Answer:
    """Wait for what a job answers an update with.

    Args:
        job_id: Id of the job, for errors.
        update: The update, as `WorkflowHandle.execute_update` returns it.
        patience_seconds: Longest time to wait.

    Raises:
        BadJobError: The job refuses the update; nothing was changed.
        NotReachableError: No worker answers for the job. Temporal keeps the update for the next one, until it restarts.
        RPCError: Temporal refuses the update: there is no such job, or the job has ended.
    """
    try:
        async with asyncio.timeout(patience_seconds):
            return await _restore_cancel(update)
    except TimeoutError as error:
        raise NotReachableError(
            f"no worker answers for {job_id}; `longtake doctor` shows which workers run. The next one may still follow "
            f"this request: `longtake status {job_id}` lists those that were followed"
        ) from error
    except WorkflowUpdateFailedError as error:
        raise BadJobError(f"{job_id}: {_message(error.cause)}") from error


async def _restore_cancel(update: Coroutine[Any, Any, Answer]) -> Answer:
    """Raise a cancel as `CancelledError` again: the SDK wraps it, and neither a timeout nor a Ctrl-C would know it."""
    try:
        return await update
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        if isinstance(error.__cause__, asyncio.CancelledError):
            raise error.__cause__ from None
        raise TimeoutError from error


class JobHandle:
    """Watch and control one job.

    Every method raises `NoSuchJobError` when Temporal knows no job of this id.

    Args:
        client: Connected Temporal client.
        job_id: Id of the job.
        is_new: Whether `submit` has just started the job; False for one that was there already.
        identity: On whose behalf requests are sent, where they name nobody else; default: user and host.
    """

    def __init__(self, client: Client, job_id: str, *, is_new: bool = False, identity: str | None = None) -> None:
        self.id = job_id
        self.is_new = is_new
        self._identity = identity
        self._client = client
        self._workflow = client.get_workflow_handle(job_id)

    @property
    def stored(self) -> StoredJob:
        """The published files of the job, to be fetched or deleted."""
        return self.stored_in(None)

    def stored_in(self, store: str | None) -> StoredJob:
        """Return the published files of a job that Temporal may have forgotten.

        Args:
            store: The store of the job, a folder or `s3://bucket/prefix`; None where Temporal knows it.
        """
        return StoredJob(self.id, self.status, self.document, store=store)

    async def status(self) -> JobStatus:
        """Return the status of the job, with the chunks that run now."""
        description = await self._describe()
        status = await read_status(description)
        if status.state.has_ended:
            return await self._with_error(description, status)
        reason = await self._find_reason(find_workflow_reason(self._client, description))
        # Without an answer of a worker, the status that the job wrote down last stays.
        if reason is None:
            try:
                told = await self._workflow.query("status", result_type=JobStatus, rpc_timeout=_QUERY_TIMEOUT)
                status = told.model_copy(update={"submitted_by": status.submitted_by})
            except (RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
                reason = await self._find_reason(find_query_reason(self._client, description, error))
        if status.state.has_ended:
            # The job has ended since the description was read: its activities there are no longer true.
            return status
        if status.state is JobState.PAUSED and not status.frozen_chunks:
            return status.model_copy(update={"running_chunks": 0, "waiting_for": reason})
        # Not of the older description: chunks that have ended since would count twice.
        description = await self._describe()
        batches = await read_batches(self._client, status.batches)
        if reason is None:
            look = find_activity_reason(self._client, batches[0] if batches else description, status.backend)
            reason = await self._find_reason(look)
        running = [chunk for each in (description, *batches) for chunk in await self._running(each)]
        status = await add_batches(status, batches)
        return self._add_running(status, tuple(sorted(running, key=lambda chunk: chunk.chunk)), reason)

    def _add_running(self, status: JobStatus, chunks: tuple[RunningChunk, ...], reason: str | None) -> JobStatus:
        status = status.model_copy(update={"waiting_for": reason})
        if status.state is not JobState.PAUSED:
            return add_running_chunks(status, chunks, datetime.now(UTC))
        frozen = tuple(chunk for chunk in chunks if chunk.frozen)
        counted = add_running_chunks(status, frozen, datetime.now(UTC))
        return counted.model_copy(update={"frozen_chunks": status.frozen_chunks})

    async def watch(self, *, interval_seconds: float = _WATCH_SECONDS) -> AsyncIterator[JobStatus]:
        """Yield the status of the job at an interval until the job has ended; the last one is its final status."""
        while True:
            status = await self.status()
            yield status
            if status.state.has_ended:
                return
            await asyncio.sleep(interval_seconds)

    async def pause(self, *, mode: PauseMode = PauseMode.DRAIN, wait: bool = False, by: str | None = None) -> JobStatus:
        """Pause the job: start no further chunk, and treat running chunks by the mode.

        Of two pauses the harder one holds (`drain`, `freeze`, `now`), until the job is resumed.

        Args:
            mode: `drain` lets running chunks finish. `freeze` stops their processes, which later continue exactly where
                they were; they keep their slots and their memory. `now` ends them: whole frames are kept, the rest is
                rendered again.
            wait: Return only when no chunk of the job runs.
            by: Person or program that asks, for the status of the job; default: the identity of the handle.

        Raises:
            JobEndedError: The job has ended.
        """
        await self._request("pause", self._build_request(PauseRequest, by, mode=mode))
        return await self._watch_until(lambda status: status.state is JobState.PAUSED, wait=wait)

    async def resume(self, *, wait: bool = False, by: str | None = None) -> JobStatus:
        """Resume a paused job; leave any other job as it is.

        Args:
            wait: Return only when the job is no longer paused.
            by: Person or program that asks, as in `pause`.

        Raises:
            JobEndedError: The job has ended.
        """
        await self._request("resume", self._build_request(ResumeRequest, by))
        return await self._watch_until(lambda status: status.state is not JobState.PAUSED, wait=wait)

    async def cancel(self, *, wait: bool = False, by: str | None = None) -> JobStatus:
        """Cancel the job: the job ends when none of its processes is left.

        Args:
            wait: Return only when the job has ended.
            by: Person or program that asks, as in `pause`.

        Raises:
            JobEndedError: The job has ended.
        """
        await self._refuse_ended("cancel")
        try:
            # A cancel of a workflow has no argument, but a reason, which the workflow reads.
            await self._workflow.cancel(reason=f"{CANCELLED_BY}{self._name_asker(by)}")
        except RPCError as error:
            raise self._explain(error) from error
        return await self._watch_until(lambda status: status.state.has_ended, wait=wait)

    async def set_max_parallel(self, max_parallel: int, *, by: str | None = None) -> int:
        """Change how many chunks render at once; return the number in force.

        Args:
            max_parallel: The number.
            by: Person or program that asks, as in `pause`.

        Raises:
            BadJobError: The job refuses the change; the text says why.
            JobEndedError: The job has ended.
            NotReachableError: No worker answers for the job.
        """
        request = self._build_request(SetMaxParallel, by, max_parallel=max_parallel)
        return await self._update("set_max_parallel", request, "change its max_parallel")

    async def retry_failed(self, chunks: Iterable[Range] = (), *, by: str | None = None) -> int:
        """Retry chunks that have used up their attempts; return their number.

        Args:
            chunks: Ranges `[start, stop)` of failed or skipped chunks; none means all that failed.
            by: Person or program that asks, as in `pause`.

        Raises:
            BadJobError: The job refuses the retry; the text says why.
            JobEndedError: The job has ended.
            NotReachableError: No worker answers for the job.
        """
        request = self._build_request(RetryFailed, by, chunks=tuple(chunks))
        return await self._update("retry_failed", request, "retry single chunks")

    async def skip_chunks(self, chunks: Iterable[Range], *, allow_gaps: bool = False, by: str | None = None) -> int:
        """Leave chunks out of the job; return the number of those that were not left out before.

        Args:
            chunks: Ranges `[start, stop)` of unfinished chunks.
            allow_gaps: Make the film without these chunks; a job that makes a film refuses to skip without it.
            by: Person or program that asks, as in `pause`.

        Raises:
            BadJobError: The job refuses to skip them; the text says why.
            JobEndedError: The job has ended.
            NotReachableError: No worker answers for the job.
        """
        request = self._build_request(SkipChunks, by, chunks=tuple(chunks), allow_gaps=allow_gaps)
        return await self._update("skip_chunks", request, "skip chunks")

    async def result(self) -> RenderJobResult:
        """Wait until the job has completed and return its result; follow the job through resets in Temporal.

        Raises:
            JobFailedError: The job failed; the text says why.
            JobCancelledError: The job was cancelled.
        """
        terminated: str | None = None
        while True:
            run_id = (await self._describe()).run_id
            try:
                return await self._result_of_run(run_id)
            except JobFailedError as error:
                # A reset in Temporal terminates one run, and the job goes on in another.
                cause = error.__cause__
                was_terminated = isinstance(cause, WorkflowFailureError) and isinstance(cause.cause, TerminatedError)
                if not was_terminated or run_id == terminated:
                    raise
                terminated = run_id

    async def _result_of_run(self, run_id: str | None) -> RenderJobResult:
        """Wait for the result of one run of the job."""
        handle = self._client.get_workflow_handle(self.id, run_id=run_id, result_type=RenderJobResult)
        try:
            result: RenderJobResult = await handle.result()
            return result
        except WorkflowFailureError as error:
            if isinstance(error.cause, CancelledError):
                raise JobCancelledError(f"{self.id} was cancelled") from error
            raise JobFailedError(_message(error.cause)) from error
        except RPCError as error:
            raise self._explain(error) from error

    async def document(self) -> dict[str, Any]:
        """Return the job as plain values, as it was submitted.

        Raises:
            NoSuchJobError: Temporal has forgotten the start of the job.
            BadJobError: It was started with what is no job.
            UndecodedPayloadError: The job needs another codec or key.
        """
        async for event in self._workflow.fetch_history_events(page_size=1):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                return await read_document(payloads, self._client.data_converter, job_id=self.id)
        raise NoSuchJobError(f"{self.id} has no history; submit its job file again")

    async def _describe(self) -> WorkflowExecutionDescription:
        try:
            description = await self._workflow.describe()
        except RPCError as error:
            raise self._explain(error) from error
        await reveal_failures(description, self._client.data_converter)
        return description

    async def _running(self, description: WorkflowExecutionDescription) -> tuple[RunningChunk, ...]:
        pending = description.raw_description.pending_activities
        return await read_running_chunks(pending, self._client.data_converter, job_id=description.id)

    async def _find_reason(self, look: Coroutine[Any, Any, WaitReason | None]) -> str | None:
        # Who may describe workflows may not always describe task queues.
        with suppress(RPCError):
            reason = await look
            return reason.sentence if reason is not None else None
        return None

    def _name_asker(self, by: str | None) -> str:
        given = self._identity if by is None else by
        return shorten_line(user_identity() if given is None else given, MOST_BY)

    def _build_request(self, kind: type[Asked], by: str | None, **fields: object) -> Asked:
        """Return the argument of a request; refuse one that the job would refuse, in the same sentence."""
        try:
            return kind.model_validate({**fields, "by": self._name_asker(by)})
        except ValidationError as error:
            raise BadJobError(describe_invalid(error)) from error

    async def _request(self, name: str, request: SignalledRequest) -> None:
        """Send an update, which is answered when the job has taken it up; where no worker answers, a signal.

        Both may wait for the next worker, which gets signals first: a resume that was given up here undid a pause that
        was sent after it. So the signal names the update, and the job follows one of the two.
        """
        update_id = uuid.uuid4().hex
        try:
            await self._execute(name, request, patience_seconds=_REQUEST_PATIENCE_SECONDS, update_id=update_id)
            return
        except BadJobError:
            # An older worker, whose job knows the signal alone and ignores one with keys that it does not know; or a
            # history that has no room for updates just now, and names in its events who sent the signal.
            request = request.model_copy(update={"by": ""})
        except (NotReachableError, RPCError):
            # No worker is there; and what else Temporal has against an update, such as the end of the job, it has
            # against the signal.
            request = request.model_copy(update={"update_id": update_id})
        async with self._explain_refusal(name):
            await self._workflow.signal(name, _to_wire(request))

    async def _execute(
        self,
        name: str,
        request: JobRequest,
        *,
        patience_seconds: float = _UPDATE_PATIENCE_SECONDS,
        update_id: str | None = None,
    ) -> Any:
        """Send an update and return its answer; without `by` to a job whose worker is of before there was one."""
        try:
            update = self._workflow.execute_update(name, _to_wire(request), id=update_id)
            return await await_update(self.id, update, patience_seconds=patience_seconds)
        except BadJobError as error:
            if not request.by or _UNKNOWN_BY not in str(error):
                raise
        return await self._execute(name, request.model_copy(update={"by": ""}), patience_seconds=patience_seconds)

    @asynccontextmanager
    async def _explain_refusal(self, action: str) -> AsyncIterator[None]:
        """Raise what Temporal answers to a request as the errors of this class."""
        try:
            yield
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                await self._refuse_ended(action)
            raise self._explain(error) from error

    async def _update(self, name: str, request: JobRequest, action: str) -> int:
        async with self._explain_refusal(action):
            return int(await self._execute(name, request))

    async def _refuse_ended(self, action: str) -> None:
        """Raise `JobEndedError` if the job has ended."""
        status = await read_status(await self._describe())
        if status.state.has_ended:
            hint = "" if status.state is JobState.COMPLETED else f"; `longtake retry {self.id}` starts it again"
            raise JobEndedError(f"{self.id} is {status.state} and cannot {action} any more{hint}")

    async def _watch_until(self, is_reached: Callable[[JobStatus], bool], *, wait: bool) -> JobStatus:
        """Return the first status that is reached or final; without `wait` the status of now."""
        async for status in self.watch(interval_seconds=0.1):
            if not wait or is_reached(status) or status.state.has_ended:
                return status
        raise AssertionError("watch ends with a status")

    async def _with_error(self, description: WorkflowExecutionDescription, status: JobStatus) -> JobStatus:
        """Add the error of a job that failed before it could write its error down."""
        if status.error or description.status is not WorkflowExecutionStatus.FAILED:
            return status
        try:
            await self._result_of_run(description.run_id)
        except JobFailedError as error:
            return status.model_copy(update={"error": str(error)})
        return status

    def _explain(self, error: RPCError) -> LongtakeError:
        if error.status is RPCStatusCode.NOT_FOUND and not _lacks_namespace(error):
            return NoSuchJobError(f"there is no job {self.id}; `longtake list` shows those there are")
        return NotReachableError(f"Temporal does not answer for {self.id}: {describe_rpc_error(error)}")


def _to_wire(request: JobRequest) -> dict[str, Any]:
    """Return the argument of a request as older workers read it too: they refuse keys that they do not know."""
    later = {key for key in SignalledRequest.model_fields if not getattr(request, key, None)}
    return request.model_dump(mode="json", exclude=later)


def user_identity() -> str:
    """Return the user and the host of this process, on whose behalf it asks."""
    user = "somebody"
    # A container may have no user of its number.
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def _lacks_namespace(error: RPCError) -> bool:
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _message(cause: BaseException | None) -> str:
    return cause.message if isinstance(cause, ApplicationError) else f"{cause}"

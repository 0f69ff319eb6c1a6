"""Watch and control one job from Python: `JobHandle`."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

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
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from longtake.describe import read_running_chunks, read_status
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
    JobState,
    JobStatus,
    PauseMode,
    PauseRequest,
    RenderJobResult,
    RetryFailed,
    RunningChunk,
    SetMaxParallel,
    SkipChunks,
)
from longtake.ranges import Range
from longtake.transfer.stored_job import StoredJob

# An update needs a worker; one that replays a long history first answers well within this.
_PATIENCE_SECONDS = 30.0


class Updated(Protocol):
    """What is needed of a `WorkflowHandle`."""

    @property
    def id(self) -> str:
        """Id of the job."""

    async def execute_update(self, update: str, arg: object, *, result_type: type) -> Any:
        """Return the answer of the job's handler."""


async def request_number(
    workflow: Updated, name: str, request: object, *, patience_seconds: float = _PATIENCE_SECONDS
) -> int:
    """Return the number that the job answers with.

    Raises:
        BadJobError: The job refuses the request; nothing was changed.
        NotReachableError: No worker answers for the job.
        RPCError: Temporal refuses the request: there is no such job, or it has ended.
    """
    try:
        async with asyncio.timeout(patience_seconds):
            return await _answer(workflow, name, request)
    except TimeoutError as error:
        raise NotReachableError(
            f"no worker answers for {workflow.id}; `longtake doctor` shows which workers run, and then ask again"
        ) from error
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise BadJobError(
            f"{workflow.id}: {cause.message if isinstance(cause, ApplicationError) else cause}"
        ) from error


async def _answer(workflow: Updated, name: str, request: object) -> int:
    try:
        answer: int = await workflow.execute_update(name, request, result_type=int)
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        # The SDK makes an error of a cancel, by which neither a timeout nor a Ctrl-C would know it again.
        if isinstance(error.__cause__, asyncio.CancelledError):
            raise error.__cause__ from None
        raise TimeoutError from error
    return answer


# A query needs a worker; without one the job's own last words serve.
_QUERY_TIMEOUT = timedelta(seconds=3)

_LOOK_SECONDS = 0.5


class JobHandle:
    """One job; every method raises `NoSuchJobError` when there is none of this id."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client
        self._workflow = client.get_workflow_handle(job_id)

    @property
    def stored(self) -> StoredJob:
        """What it has published, to be fetched or deleted."""
        return StoredJob(self)

    async def status(self) -> JobStatus:
        """Return where the job stands, with the chunks that run now."""
        description = await self._describe()
        status = await read_status(description)
        if status.state.ended:
            return await self._with_error(description, status)
        # Where no worker answers, what the job wrote down last is the best there is.
        with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
            status = await self._workflow.query("status", result_type=JobStatus, rpc_timeout=_QUERY_TIMEOUT)
        if status.state.ended:
            # What ran in the description has ended since.
            return status
        if status.state is JobState.PAUSED:
            # What ran in the description has ended or was frozen before the job called itself paused.
            frozen = await self._running(await self._describe()) if status.frozen_chunks else ()
            stand = tuple(chunk for chunk in frozen if chunk.frozen)
            return status.model_copy(update={"running": stand, "running_chunks": 0})
        chunks = await self._running(description)
        frozen_chunks = sum(chunk.frozen for chunk in chunks)
        running_chunks = sum(not chunk.waiting for chunk in chunks) - frozen_chunks
        return status.model_copy(
            update={"running": chunks, "running_chunks": running_chunks, "frozen_chunks": frozen_chunks}
        )

    async def watch(self, *, interval_seconds: float = _LOOK_SECONDS) -> AsyncIterator[JobStatus]:
        """Yield the status again and again, and last the one the job ended with."""
        while True:
            status = await self.status()
            yield status
            if status.state.ended:
                return
            await asyncio.sleep(interval_seconds)

    async def pause(self, *, mode: PauseMode = PauseMode.DRAIN, wait: bool = False) -> JobStatus:
        """Ask the job to pause: no further chunk starts, and the mode says what becomes of those that run.

        Of two pauses the harder one holds (`drain`, `freeze`, `now`), until the job is resumed.

        Args:
            mode: `drain` lets running chunks finish. `freeze` stops their processes where they stand, to go on bit for
                bit; they keep their slots and their memory. `now` ends them: whole frames are kept, the rest is
                rendered again.
            wait: Return only when nothing of the job runs.

        Raises:
            JobEndedError: The job has ended.
        """
        await self._signal("pause", PauseRequest(mode=mode))
        return await self._until(lambda status: status.state is JobState.PAUSED, wait=wait)

    async def resume(self, *, wait: bool = False) -> JobStatus:
        """Let a paused job go on; one that is not paused stays as it is.

        Args:
            wait: Return only when the job is no longer paused.

        Raises:
            JobEndedError: The job has ended.
        """
        await self._signal("resume")
        return await self._until(lambda status: status.state is not JobState.PAUSED, wait=wait)

    async def cancel(self, *, wait: bool = False) -> JobStatus:
        """Cancel the job: it ends when no process of it is left.

        Args:
            wait: Return only when it has ended.

        Raises:
            JobEndedError: The job has ended.
        """
        await self._refuse_ended("cancel")
        try:
            await self._workflow.cancel()
        except RPCError as error:
            raise self._explained(error) from error
        return await self._until(lambda status: status.state.ended, wait=wait)

    async def set_max_parallel(self, max_parallel: int) -> int:
        """Change how many chunks render at once; return the number in force.

        Raises:
            BadJobError: The job refuses it; the text says why. So for every request below.
            JobEndedError: The job has ended.
            NotReachableError: No worker answers for the job.
        """
        request = SetMaxParallel(max_parallel=max_parallel)
        return await self._update("set_max_parallel", request, "change its max_parallel")

    async def retry_failed(self, chunks: Iterable[Range] = ()) -> int:
        """Take up chunks that have used up their attempts; return how many.

        Args:
            chunks: Ranges `[start, stop)` of failed or skipped chunks; none means all that failed.
        """
        return await self._update("retry_failed", RetryFailed(chunks=tuple(chunks)), "retry single chunks")

    async def skip_chunks(self, chunks: Iterable[Range], *, allow_gaps: bool = False) -> int:
        """Render these chunks no more; return how many were not left out before.

        Args:
            chunks: Ranges `[start, stop)` of unfinished chunks.
            allow_gaps: The film may lack them; a job that makes a film refuses without this.
        """
        request = SkipChunks(chunks=tuple(chunks), allow_gaps=allow_gaps)
        return await self._update("skip_chunks", request, "skip chunks")

    async def result(self) -> RenderJobResult:
        """Return what the job made, when it has completed.

        Raises:
            JobFailedError: It failed; the text says why.
            JobCancelledError: It was cancelled.
        """
        handle = self._client.get_workflow_handle(self.id, result_type=RenderJobResult)
        try:
            made: RenderJobResult = await handle.result()
            return made
        except WorkflowFailureError as error:
            if isinstance(error.cause, CancelledError):
                raise JobCancelledError(f"{self.id} was cancelled") from error
            raise JobFailedError(_sentence(error.cause)) from error
        except RPCError as error:
            raise self._explained(error) from error

    async def document(self) -> dict[str, Any]:
        """Return the job as it was submitted."""
        async for event in self._workflow.fetch_history_events(page_size=1):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                payloads = event.workflow_execution_started_event_attributes.input.payloads
                (document,) = await self._client.data_converter.decode(list(payloads))
                return dict(document)
        raise NoSuchJobError(f"{self.id} has no history; submit its job file again")

    async def _describe(self) -> WorkflowExecutionDescription:
        try:
            return await self._workflow.describe()
        except RPCError as error:
            raise self._explained(error) from error

    async def _running(self, description: WorkflowExecutionDescription) -> tuple[RunningChunk, ...]:
        pending = description.raw_description.pending_activities
        return await read_running_chunks(pending, self._client.data_converter, job_id=self.id)

    async def _signal(self, name: str, *arguments: object) -> None:
        try:
            await self._workflow.signal(name, args=arguments)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                await self._refuse_ended(name)
            raise self._explained(error) from error

    async def _update(self, name: str, request: object, doing: str) -> int:
        try:
            return await request_number(self._workflow, name, request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                await self._refuse_ended(doing)
            raise self._explained(error) from error

    async def _refuse_ended(self, request: str) -> None:
        status = await read_status(await self._describe())
        if status.state.ended:
            hint = "" if status.state is JobState.COMPLETED else f"; `longtake retry {self.id}` starts it again"
            raise JobEndedError(f"{self.id} is {status.state} and cannot {request} any more{hint}")

    async def _until(self, reached: Any, *, wait: bool) -> JobStatus:
        async for status in self.watch(interval_seconds=0.1):
            if not wait or reached(status) or status.state.ended:
                return status
        raise AssertionError("watch ends with a status")

    async def _with_error(self, description: WorkflowExecutionDescription, status: JobStatus) -> JobStatus:
        """Add the sentence of a job that failed before it could write one down."""
        if status.error or description.status is not WorkflowExecutionStatus.FAILED:
            return status
        try:
            await self.result()
        except JobFailedError as error:
            return status.model_copy(update={"error": str(error)})
        return status

    def _explained(self, error: RPCError) -> LongtakeError:
        if error.status is RPCStatusCode.NOT_FOUND and not _lacks_namespace(error):
            return NoSuchJobError(f"there is no job {self.id}; `longtake list` shows those there are")
        return NotReachableError(f"Temporal does not answer for {self.id}: {error.message}")


def _lacks_namespace(error: RPCError) -> bool:
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _sentence(cause: BaseException | None) -> str:
    return cause.message if isinstance(cause, ApplicationError) else f"{cause}"

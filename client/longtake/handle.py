"""JobHandle: one job, watched and steered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType, PendingActivityState, TimeoutType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError, RPCStatusCode

from longtake.errors import (
    JobCancelledError,
    JobEndedError,
    JobFailedError,
    LongtakeError,
    NoSuchJobError,
    NotReachableError,
)
from longtake.requests import PauseMode, PauseRequest, SetMaxParallel
from longtake.status import JobState, JobStatus, RenderJobResult, RunningChunk
from longtake.summaries import status_of
from longtake.work import Heartbeat

# A query needs a worker; without one the job's own last words serve.
_QUERY_TIMEOUT = timedelta(seconds=3)

_LOOK_SECONDS = 0.5


class JobHandle:
    """One job; every method raises `NoSuchJobError` when there is none of this id."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client
        self._workflow = client.get_workflow_handle(job_id)

    async def status(self) -> JobStatus:
        """Return where the job stands, with the chunks that run now."""
        description = await self._describe()
        status = await status_of(description)
        if status.state.ended:
            return await self._with_error(description, status)
        # Where no worker answers, what the job wrote down last is the best there is.
        with suppress(RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
            status = await self._workflow.query("status", result_type=JobStatus, rpc_timeout=_QUERY_TIMEOUT)
        if status.state is JobState.PAUSED:
            # The description is older than the answer: what still ran in it had ended before the job called itself
            # paused.
            return status
        running = [await self._running(pending) for pending in description.raw_description.pending_activities]
        chunks = tuple(chunk for chunk in running if chunk is not None)
        return status.model_copy(
            update={"running": chunks, "running_chunks": sum(not chunk.waiting for chunk in chunks)}
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
        """Ask the job to pause: running chunks finish, no other starts.

        Args:
            mode: How what runs is treated.
            wait: Return only when the job is idle.

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
        """Change how many chunks render at once; return the number in force."""
        request = SetMaxParallel(max_parallel=max_parallel)
        try:
            in_force: int = await self._workflow.execute_update("set_max_parallel", request, result_type=int)
            return in_force
        except WorkflowUpdateFailedError as error:
            raise LongtakeError(f"{self.id}: {error.cause}") from error
        except RPCError as error:
            raise self._explained(error) from error

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

    async def _signal(self, name: str, *arguments: object) -> None:
        try:
            await self._workflow.signal(name, args=arguments)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                await self._refuse_ended(name)
            raise self._explained(error) from error

    async def _refuse_ended(self, request: str) -> None:
        status = await status_of(await self._describe())
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

    async def _running(self, pending: PendingActivityInfo) -> RunningChunk | None:
        if pending.activity_type.name != "render_span":
            return None
        waiting = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        error = _why(pending.last_failure) if pending.HasField("last_failure") else ""
        beat = Heartbeat(chunk=_first_chunk(pending.activity_id))
        if pending.HasField("heartbeat_details"):
            payloads = list(pending.heartbeat_details.payloads)
            (beat,) = await self._client.data_converter.decode(payloads, [Heartbeat])
        return RunningChunk(
            chunk=beat.chunk,
            frames=beat.frames,
            frames_done=0 if waiting else beat.frames_done,
            attempt=beat.failures + 1,
            host=beat.host,
            waiting=waiting,
            error=error,
        )

    def _explained(self, error: RPCError) -> LongtakeError:
        if error.status is RPCStatusCode.NOT_FOUND and not _lacks_namespace(error):
            return NoSuchJobError(f"there is no job {self.id}; `longtake list` shows those there are")
        return NotReachableError(f"Temporal does not answer for {self.id}: {error.message}")


def _lacks_namespace(error: RPCError) -> bool:
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def _why(failure: Failure) -> str:
    # Temporal's own words, "activity Heartbeat timeout", tell nobody that a worker died.
    if failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT:
        return "its worker was lost, and another one takes it"
    return failure.message


def _first_chunk(activity_id: str) -> int:
    """Return the first chunk in an activity's id, such as `chunks-8-15.3`."""
    digits = activity_id.split(".")[0].split("-")[1:2]
    return int(digits[0]) if digits and digits[0].isdigit() else 0


def _sentence(cause: BaseException | None) -> str:
    return cause.message if isinstance(cause, ApplicationError) else f"{cause}"

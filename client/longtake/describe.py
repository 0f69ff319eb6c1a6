"""Read a job's status and its running chunks from Temporal's own description of the workflow; no worker is needed."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import PendingActivityState, TimeoutType
from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.failure.v1 import Failure
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import RawValue
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from longtake.codec import require_decoded
from longtake.data_converter import reveal_message
from longtake.errors import BadJobError, UndecodedPayloadError
from longtake.models.continuation import CONTINUES
from longtake.models.messages import Heartbeat
from longtake.models.status import MOST_BATCHES, MOST_BY, JobPhase, JobState, JobStatus, RunningChunk
from longtake.names import (
    MEMO_DONE,
    MEMO_PREFIX,
    MEMO_STATUS,
    MEMO_SUBMITTED_BY,
    NAME,
    PROGRESS,
    RENDER_JOB_WORKFLOW,
    RENDER_SPAN,
    SEARCH_ATTRIBUTES,
    STATE,
    job_folder_name,
)
from longtake.text import escape_text, shorten_line

T = TypeVar("T")

# Set by servers from 1.30 on for a workflow whose tasks keep failing, and taken away when one succeeds.
_PROBLEMS = "TemporalReportedProblems"

# States of an activity that a person paused in Temporal's UI or CLI. Its attempt ends once its worker learns of it.
_PAUSED = (
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)


def describe_rpc_error(error: RPCError) -> str:
    """Return what Temporal's service says of a request, with the fix where a setting of the client is wrong."""
    lacking = NamespaceNotFoundFailure()
    for detail in error.grpc_status.details:
        if detail.Unpack(lacking):
            name = escape_text(lacking.namespace)
            return (
                f"there is no namespace {name}; create it (`temporal operator namespace create {name}`), or set "
                "TEMPORAL_NAMESPACE"
            )
    if error.status in (RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED):
        return f"{error.message}; mend TEMPORAL_API_KEY, or the client certificate"
    return error.message


async def read_running_chunks(
    activities: Iterable[PendingActivityInfo], converter: DataConverter, *, job_id: str
) -> tuple[RunningChunk, ...]:
    """Return the chunks that are rendered, are frozen, or wait for their next try, by their numbers.

    Args:
        activities: Pending activities of the job, as Temporal describes them, with failures that are revealed.
        converter: Decoder of heartbeats.
        job_id: Id of the job, for commands in error texts.
    """
    renders = [activity for activity in activities if activity.activity_type.name == RENDER_SPAN]
    chunks = [_chunk(activity, await read_last_heartbeat(activity, converter), job_id) for activity in renders]
    # Sorted, because Temporal lists activities in changing order.
    return tuple(sorted(chunks, key=lambda chunk: chunk.chunk))


def add_running_chunks(status: JobStatus, chunks: tuple[RunningChunk, ...], at: datetime) -> JobStatus:
    """Return a status with the chunks that run, and with their frames in its progress.

    Args:
        status: The status as the job counts it: frames of finished spans.
        chunks: What the heartbeats say.
        at: Time of the heartbeats.
    """
    frozen = sum(chunk.frozen for chunk in chunks)
    running = sum(not chunk.waiting for chunk in chunks) - frozen
    frames = status.completed_frames + sum(chunk.span_frames + chunk.frames_done for chunk in chunks)
    if len(status.batches) == MOST_BATCHES:
        # There may be more, and the job counts what runs in all of them.
        running = max(0, status.running_chunks - status.frozen_chunks)
    # 100 % means a proven film; and a chunk that fails takes its frames back, but none of the finished ones.
    progress = max(status.progress, min(99.0, round(100 * frames / (status.total_frames or 1), 1)))
    return status.model_copy(
        update={
            "running": chunks,
            "running_chunks": running,
            "frozen_chunks": frozen,
            "progress": progress,
            "progress_at": at,
        }
    )


async def read_batches(client: Client, ids: Sequence[str]) -> list[WorkflowExecutionDescription]:
    """Return the batches of a job as Temporal describes them; one that it has forgotten is left out."""

    async def read(batch_id: str) -> WorkflowExecutionDescription | None:
        with suppress(RPCError):
            description = await client.get_workflow_handle(batch_id).describe()
            await reveal_failures(description, client.data_converter)
            return description
        return None

    return [each for each in await asyncio.gather(*map(read, ids)) if each is not None]


async def add_batches(status: JobStatus, batches: Sequence[WorkflowExecution]) -> JobStatus:
    """Return a status with the chunks that batches have finished; their frames count as equally many in each.

    Args:
        status: The status as the job counts it: chunks of batches that have ended.
        batches: The others, as Temporal describes them.
    """
    more = sum([await read_memo(each, MEMO_DONE, int) or 0 for each in batches])
    frames = status.total_frames * more // max(1, status.total_chunks)
    return status.model_copy(
        update={
            "completed_chunks": status.completed_chunks + more,
            "completed_frames": min(status.total_frames, status.completed_frames + frames),
        }
    )


async def read_last_heartbeat(activity: PendingActivityInfo, converter: DataConverter) -> Heartbeat | None:
    """Return the last heartbeat of an activity that renders; None if there was none yet."""
    if not activity.HasField("heartbeat_details"):
        return None
    beat: Heartbeat
    (beat,) = await converter.decode(list(activity.heartbeat_details.payloads), [Heartbeat])
    return beat


async def read_document(payloads: Iterable[Payload], converter: DataConverter, *, job_id: str) -> dict[str, Any]:
    """Return a job as plain values from the input that it was started with.

    Args:
        payloads: The input, as the history of the job has it.
        converter: Decoder of the input.
        job_id: Id of the job, for errors.

    Raises:
        UndecodedPayloadError: The input needs another codec or key.
        BadJobError: It is no job.
    """
    inputs = await converter.decode(list(payloads))
    for given in inputs:
        if isinstance(given, RawValue):
            require_decoded(given.payload, f"the input of {job_id}")
    if len(inputs) == 1 and isinstance(inputs[0], dict) and isinstance(inputs[0].get(CONTINUES), dict):
        # A later run of the job: its input has that of the first one.
        inputs = [inputs[0][CONTINUES].get("job")]
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadJobError(f"{job_id} was started with what is no job; submit a job file under another id")
    return inputs[0]


def _chunk(activity: PendingActivityInfo, beat: Heartbeat | None, job_id: str) -> RunningChunk:
    beat = beat or Heartbeat(chunk=_first_chunk(activity.activity_id))
    error = explain_failure(activity.last_failure) if activity.HasField("last_failure") else ""
    told = RunningChunk(
        chunk=beat.chunk,
        frames=beat.frames,
        span_frames=beat.span_frames,
        attempt=beat.failures + 1,
        host=beat.host,
        waiting=True,
        error=error,
    )
    if activity.state in _PAUSED:
        return told.model_copy(update={"error": _how_to_unpause(activity, job_id)})
    if activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
        # The rest of the heartbeat is about the try before.
        return told
    return told.model_copy(
        update={
            "waiting": False,
            "frames_done": beat.frames_done,
            "frozen": beat.frozen != 0,
            "message": beat.message,
            "cpu_seconds": beat.cpu_seconds,
            "memory_bytes": beat.memory_bytes,
            "io_bytes": beat.io_bytes,
            "began": activity.last_started_time.ToDatetime(UTC) if activity.HasField("last_started_time") else None,
        }
    )


def _how_to_unpause(activity: PendingActivityInfo, job_id: str) -> str:
    who = activity.pause_info.manual
    by = f" by {who.identity}" if who.identity else ""
    reason = f" ({who.reason})" if who.reason else ""
    return (
        f"paused in Temporal{by}{reason}; unpause it in the Temporal UI, or with "
        f"`temporal activity unpause --workflow-id {job_id} --activity-id {activity.activity_id}`"
    )


async def reveal_failures(description: WorkflowExecutionDescription, converter: DataConverter) -> None:
    """Put the messages of a job's failed tries, which a codec may have encoded, back in their place."""
    for activity in description.raw_description.pending_activities:
        if activity.HasField("last_failure"):
            await reveal_message(activity.last_failure, converter)


def explain_failure(failure: Failure) -> str:
    """Return why an activity failed, in a sentence."""
    # The server replaces a failure of more than 4,096 bytes, stack trace included, by one of its own around the cause.
    if failure.HasField("server_failure_info") and failure.HasField("cause"):
        failure = failure.cause
    # Temporal's own text, "activity Heartbeat timeout", does not say that a worker died.
    if failure.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_HEARTBEAT:
        return "its worker was lost, and another one takes it"
    return failure.message


def _first_chunk(activity_id: str) -> int:
    """Return the first chunk in an activity's id, such as `chunks-8-15.3`."""
    digits = activity_id.split(".")[0].split("-")[1:2]
    return int(digits[0]) if digits and digits[0].isdigit() else 0


_ENDED = {
    WorkflowExecutionStatus.COMPLETED: JobState.COMPLETED,
    WorkflowExecutionStatus.CANCELED: JobState.CANCELLED,
    WorkflowExecutionStatus.FAILED: JobState.FAILED,
    # Ended from outside: renders may have continued for a moment, but the job has ended.
    WorkflowExecutionStatus.TERMINATED: JobState.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: JobState.FAILED,
}

# Ended jobs are found by Temporal's own status: bad and terminated jobs never wrote their state down.
_QUERIES = {
    JobState.PENDING: 'ExecutionStatus="Running"',
    JobState.RUNNING: f'ExecutionStatus="Running" AND {STATE.name}="running"',
    JobState.PAUSED: f'ExecutionStatus="Running" AND {STATE.name}="paused"',
    JobState.COMPLETED: 'ExecutionStatus="Completed"',
    JobState.FAILED: '(ExecutionStatus="Failed" OR ExecutionStatus="Terminated" OR ExecutionStatus="TimedOut")',
    JobState.CANCELLED: 'ExecutionStatus="Canceled"',
}


def build_query(state: JobState | None) -> str:
    """Build the visibility query for jobs in a state; None means all jobs."""
    query = f'WorkflowType="{RENDER_JOB_WORKFLOW}"'
    return query if state is None else f"{query} AND {_QUERIES[state]}"


def build_runs_query(job_ids: Iterable[str]) -> str:
    """Build the visibility query for all runs of some jobs."""
    return f"{build_query(None)} AND WorkflowId IN ({', '.join(map(_quote, job_ids))})"


def build_open_query(task_queue: str) -> str:
    """Build the visibility query for the jobs of a task queue that have not ended."""
    return f'{build_query(None)} AND ExecutionStatus="Running" AND TaskQueue={_quote(task_queue)}'


def is_queryable(text: str) -> bool:
    """Tell whether a visibility query can hold a text: servers do not undo the escapes of these characters."""
    return not set(text) & set("\\\"'")


def _quote(text: str) -> str:
    return f'"{text}"'


async def is_job(execution: WorkflowExecution, task_queue: str) -> bool:
    """Tell whether a workflow is a job of Longtake: another application may have workflows of the same type.

    Jobs are on the task queue, have our search attributes, or have a memo of ours: the memo is what tells a job that
    no worker has taken and that was submitted for another queue.
    """
    return (
        execution.task_queue == task_queue
        or not {key.name for key in SEARCH_ATTRIBUTES}.isdisjoint(execution.search_attributes)
        or any(name.startswith(MEMO_PREFIX) for name in execution.raw_info.memo.fields)
        or await read_memo(execution, MEMO_STATUS, JobStatus) is not None
    )


async def read_memo(execution: WorkflowExecution, key: str, kind: type[T]) -> T | None:
    """Read a value that Longtake wrote into the memo of a job; None without one, or if the value is of another kind.

    Args:
        execution: The job, as Temporal describes or lists it.
        key: One of the `MEMO_*` names.
        kind: Type of the value.

    Raises:
        UndecodedPayloadError: The value needs another codec or key.
    """
    for name in (key, key.removeprefix(MEMO_PREFIX)):
        written: object = None
        # Anybody may have put anything there, in any encoding, and it must not hide the jobs of all others.
        with suppress(Exception):
            written = await execution.memo_value(name, None)
            if written is not None and not isinstance(written, RawValue):
                return TypeAdapter(kind).validate_python(written, strict=kind in (int, str))
        # Before 0.2, when names had no prefix, there was no codec.
        if isinstance(written, RawValue) and name == key:
            require_decoded(written.payload, f"the memo {name} of {execution.id}")
    return None


async def read_status(execution: WorkflowExecution) -> JobStatus:
    """Read the status that a job last wrote into its memo, corrected if Temporal says that the job has ended.

    Raises:
        UndecodedPayloadError: The status needs another codec or key.
    """
    status = await read_memo(execution, MEMO_STATUS, JobStatus) or JobStatus(id=execution.id)
    # Written by who starts the job, and no business of its workflow.
    submitted_by = await read_memo(execution, MEMO_SUBMITTED_BY, str) or ""
    return _correct(execution, status.model_copy(update={"submitted_by": shorten_line(submitted_by, MOST_BY)}))


async def read_listed_status(execution: WorkflowExecution) -> JobStatus:
    """Read the status of a job in a list; where it cannot be decoded, what Temporal knows of it, with the reason."""
    try:
        return await read_status(execution)
    except UndecodedPayloadError as error:
        known = execution.typed_search_attributes
        state = known.get(STATE)
        status = JobStatus(
            id=execution.id,
            name=known.get(NAME) or "",
            state=JobState(state) if state in list(JobState) else JobState.PENDING,
            progress=known.get(PROGRESS) or 0.0,
        )
        return _correct(execution, status).model_copy(update={"error": str(error)})


def _correct(execution: WorkflowExecution, status: JobStatus) -> JobStatus:
    # A job that goes on in a new run was created when its first one was, as its memo says.
    created_at = status.created_at or execution.start_time
    known = {"id": execution.id, "folder": job_folder_name(execution.id), "created_at": created_at}
    status = status.model_copy(update=known)
    ended = _ENDED.get(execution.status) if execution.status is not None else None
    if ended is None and execution.search_attributes.get(_PROBLEMS):
        reason = f"no worker can run this job's workflow; `longtake status {execution.id}` tells why"
        status = status.model_copy(update={"waiting_for": reason})
    if ended is None or status.state is ended:
        return status
    error = status.error
    if execution.status in (WorkflowExecutionStatus.TERMINATED, WorkflowExecutionStatus.TIMED_OUT):
        how = "terminated" if execution.status is WorkflowExecutionStatus.TERMINATED else "timed out"
        error = f"the workflow was {how} in Temporal; `longtake retry {execution.id}` renders what is missing"
    return status.model_copy(
        update={
            "state": ended,
            "phase": JobPhase.ENDED,
            "updated_at": execution.close_time,
            "error": error,
            "running_chunks": 0,
            "frozen_chunks": 0,
        }
    )

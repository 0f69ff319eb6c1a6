"""Find out why a job does not go on: no worker serves its queue, all are busy, or none can run its workflow."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.common.v1 import WorkflowExecution as ExecutionName
from temporalio.api.enums.v1 import EventType, PendingActivityState, TaskQueueType, WorkflowTaskFailedCause
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo, PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowQueryFailedError
from temporalio.service import RPCError

from longtake.data_converter import reveal_message
from longtake.describe import explain_failure
from longtake.errors import ErrorType
from longtake.models.backends import BackendKind
from longtake.names import PLAN_JOB, RENDER_SPAN, STITCH_JOB, render_queue
from longtake.text import escape_text, list_first, shorten_line

# A worker polls at least once a minute; the server lists workers for five minutes after their last poll.
_POLL_SECONDS = 75.0

# A worker with room takes a task within milliseconds.
_PICKUP_SECONDS = 3.0

# The server gives a task to the worker that had the last one, and waits this long for a worker that is gone.
_STICKY_SECONDS = 15.0

# Events before the end of a history among which a failed workflow task is.
_LAST_EVENTS = 5

_LONGEST_REASON = 300

# The server's own reasons to begin a task anew: something arrived meanwhile, or somebody has reset the workflow.
_NO_FAULTS = (
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_STICKY_TASK_QUEUE,
)

_WORKFLOWS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
_ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY

# What a worker of a backend is started with.
_STARTS = {
    BackendKind.LOCAL: "start `python worker.py`",
    BackendKind.LAMBDA: "start `python worker.py` with LONGTAKE_LAMBDA_FUNCTIONS",
    BackendKind.CLOUD_RUN: "start `python worker.py` with LONGTAKE_CLOUD_RUN_URLS",
}

_STEPS = {PLAN_JOB: "planning", STITCH_JOB: "making the film"}


@dataclass(frozen=True)
class WaitReason:
    """Why a job does not go on.

    Args:
        sentence: The reason and the fix.
        is_fault: Whether somebody must act; without it the job only waits for its turn.
    """

    sentence: str
    is_fault: bool = True


async def find_workers(client: Client, queue: str, kind: "TaskQueueType.ValueType") -> list[str]:
    """Return the identities of the workers that poll a task queue now."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
    )
    alive = (
        poller for poller in answer.pollers if _seconds_since(poller.last_access_time.ToDatetime(UTC)) < _POLL_SECONDS
    )
    return sorted({poller.identity for poller in alive})


def explain_no_worker(queue: str, backend: BackendKind = BackendKind.LOCAL) -> str:
    """Return the sentence for a task queue without workers.

    Args:
        queue: Name of the queue.
        backend: The backend whose chunks are in the queue; local for all other work.
    """
    return (
        f"no worker serves the queue {escape_text(queue)}; {_STARTS[backend]}, or name the queue of your workers "
        "(LONGTAKE_TASK_QUEUE)"
    )


async def find_queue_reason(client: Client, queue: str) -> str | None:
    """Return the sentence for jobs on a task queue that no worker serves; None where one does, or none can tell."""
    with suppress(RPCError):
        return None if await find_workers(client, queue, _WORKFLOWS) else explain_no_worker(queue)
    return None


async def find_workflow_reason(client: Client, job: WorkflowExecutionDescription) -> WaitReason | None:
    """Find out why no worker runs the workflow of a job; None where one does, or will in a moment."""
    if not job.raw_description.HasField("pending_workflow_task"):
        return None
    task = job.raw_description.pending_workflow_task
    if task.attempt > 1 and (said := await _find_task_failure(client, job)):
        return WaitReason(
            f"no worker can run this job's workflow ({said}; try {task.attempt}); the logs of the workers say more: "
            "mend or upgrade them, and the job goes on"
        )
    workers = await find_workers(client, job.task_queue, _WORKFLOWS)
    if not workers:
        return WaitReason(explain_no_worker(job.task_queue))
    if _seconds_since(task.original_scheduled_time.ToDatetime(UTC)) < _STICKY_SECONDS:
        return None
    return _explain_busy(task, job.task_queue, workers)


def _explain_busy(task: PendingWorkflowTaskInfo, queue: str, workers: Sequence[str]) -> WaitReason:
    has_started = task.HasField("started_time") and task.started_time.seconds > 0
    what = "a worker has had it" if has_started else "no worker has taken it"
    since = f"{task.original_scheduled_time.ToDatetime(UTC):%H:%M:%S} UTC"
    return WaitReason(
        f"{what} since {since}, and {_list_names(workers)} serve the queue {escape_text(queue)}: they are busy or "
        "hang, and their logs say more"
    )


async def _find_task_failure(client: Client, job: WorkflowExecutionDescription) -> str | None:
    """Return why the last workflow task failed; None if it did not fail but was lost with its worker."""
    answer = await client.workflow_service.get_workflow_execution_history_reverse(
        GetWorkflowExecutionHistoryReverseRequest(
            namespace=client.namespace,
            execution=ExecutionName(workflow_id=job.id, run_id=job.run_id),
            maximum_page_size=_LAST_EVENTS,
        )
    )
    for event in answer.history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            failed = event.workflow_task_failed_event_attributes
            await reveal_message(failed.failure, client.data_converter)
            said = shorten_line(failed.failure.message, _LONGEST_REASON) or "without a reason"
            return None if failed.cause in _NO_FAULTS else said
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return None
    return None


async def find_query_reason(client: Client, job: WorkflowExecutionDescription, error: Exception) -> WaitReason | None:
    """Find out why a job has not answered a query; None where a worker may only be slow."""
    if isinstance(error, WorkflowQueryFailedError):
        said = shorten_line(f"{error}", _LONGEST_REASON)
        return WaitReason(f"a worker cannot answer for this job ({said}); mend or upgrade it")
    if await find_workers(client, job.task_queue, _WORKFLOWS):
        return None
    return WaitReason(explain_no_worker(job.task_queue))


async def find_activity_reason(
    client: Client, job: WorkflowExecutionDescription, backend: BackendKind
) -> WaitReason | None:
    """Find out why nothing of a job is at work: no worker serves the queue, all are busy, or a step fails again.

    Args:
        client: The client.
        job: The job.
        backend: Its backend.
    """
    pending = job.raw_description.pending_activities
    waiting = [each for each in pending if each.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED]
    if not pending or len(waiting) < len(pending):
        return None
    for step in waiting:
        if step.activity_type.name in _STEPS and step.HasField("last_failure"):
            what = _STEPS[step.activity_type.name]
            said = shorten_line(explain_failure(step.last_failure), _LONGEST_REASON)
            return WaitReason(f"{what} is tried again (try {step.attempt}): {said}")
    renders = any(each.activity_type.name == RENDER_SPAN for each in waiting)
    queue = render_queue(job.task_queue, backend) if renders else job.task_queue
    workers = await find_workers(client, queue, _ACTIVITIES)
    if not workers:
        return WaitReason(explain_no_worker(queue, backend if renders else BackendKind.LOCAL))
    # Between two tries of a chunk, both or one of these is in the future.
    times = ((each.scheduled_time, each.next_attempt_schedule_time) for each in waiting)
    waited = max(min(_seconds_since(time.ToDatetime(UTC)) for time in both) for both in times)
    if waited < _PICKUP_SECONDS:
        return None
    return WaitReason(
        f"it waits for its turn: {_list_names(workers)} serve the queue {escape_text(queue)} and have no room; start "
        "more workers, or raise their slots (LONGTAKE_SLOTS)",
        is_fault=False,
    )


async def find_wait_reason(
    client: Client, job: WorkflowExecutionDescription, backend: BackendKind
) -> WaitReason | None:
    """Find out why a job that has not ended does not go on; None where it does."""
    return await find_workflow_reason(client, job) or await find_activity_reason(client, job, backend)


def find_blind_workers(activities: Iterable[PendingActivityInfo]) -> list[str]:
    """Return what workers say that do not see a job's store, or may not use it, and leave its chunks to others."""
    said = {
        shorten_line(explain_failure(each.last_failure), _LONGEST_REASON)
        for each in activities
        if each.last_failure.application_failure_info.type == ErrorType.STORE_NOT_SHARED
    }
    return sorted(said)


def _list_names(workers: Sequence[str]) -> str:
    return list_first([escape_text(name) for name in workers], 3)


def _seconds_since(when: datetime) -> float:
    return (datetime.now(UTC) - when).total_seconds()

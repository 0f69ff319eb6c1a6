"""What Temporal itself knows of a job, as a `JobStatus`: no worker needs to run for it."""

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from longtake.models.status import JobPhase, JobState, JobStatus
from longtake.names import MEMO_STATUS, RENDER_JOB_WORKFLOW, STATE

_ENDED = {
    WorkflowExecutionStatus.COMPLETED: JobState.COMPLETED,
    WorkflowExecutionStatus.CANCELED: JobState.CANCELLED,
    WorkflowExecutionStatus.FAILED: JobState.FAILED,
    # Killed from outside, not by us: work may have gone on for a moment, but the job is over.
    WorkflowExecutionStatus.TERMINATED: JobState.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: JobState.FAILED,
}

# A list must find jobs that ended before they could write their state down: bad ones, terminated ones.
_QUERIES = {
    JobState.PENDING: 'ExecutionStatus="Running"',
    JobState.RUNNING: f'ExecutionStatus="Running" AND {STATE.name}="running"',
    JobState.PAUSED: f'ExecutionStatus="Running" AND {STATE.name}="paused"',
    JobState.COMPLETED: 'ExecutionStatus="Completed"',
    JobState.FAILED: '(ExecutionStatus="Failed" OR ExecutionStatus="Terminated" OR ExecutionStatus="TimedOut")',
    JobState.CANCELLED: 'ExecutionStatus="Canceled"',
}


def query_for(state: JobState | None) -> str:
    """Return the visibility query for jobs in a state."""
    query = f'WorkflowType="{RENDER_JOB_WORKFLOW}"'
    return query if state is None else f"{query} AND {_QUERIES[state]}"


async def status_of(execution: WorkflowExecution) -> JobStatus:
    """Return the status that the job last wrote into its memo, corrected by how Temporal says it ended."""
    written = await execution.memo_value(MEMO_STATUS, None)
    status = JobStatus.model_validate(written) if written else JobStatus(id=execution.id)
    status = status.model_copy(update={"created_at": execution.start_time})
    ended = _ENDED.get(execution.status) if execution.status is not None else None
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

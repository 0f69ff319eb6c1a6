"""How a job fails: in one sentence that names the chunks and the reason."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.ranges import shown
    from workflows.spans import SpanRunner


def why_failed(spans: SpanRunner) -> str:
    """Return one sentence that names the chunks, and the reason of one of them."""
    chunks = spans.scheduler
    told = next(iter(spans.told_failures), None)
    if told is None:
        return f"{chunks.failed_count} chunks failed ({shown(chunks.failed)})"
    tries = "try" if told.attempts == 1 else "tries"
    reason = f"chunk {told.chunk} failed after {told.attempts} {tries}: {told.error}"
    if chunks.failed_count == 1:
        return reason
    return f"{chunks.failed_count} chunks failed ({shown(chunks.failed)}); {reason}"


def failure_of(error: FailureError) -> ApplicationError:
    """Return the error that ends the job: the sentence of an activity's, not "Activity task failed"."""
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    if isinstance(cause, ApplicationError):
        return ApplicationError(cause.message, type=cause.type, non_retryable=True)
    return ApplicationError(f"{cause}", type=ErrorType.JOB_FAILED, non_retryable=True)

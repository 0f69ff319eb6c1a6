"""Read the report of a span from how its activity has ended."""

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.messages import Heartbeat, SpanReport
    from longtake.models.status import ChunkFailure
    from longtake.ranges import RangeSet
    from workflows.chunk_states import Span
    from workflows.requests import read_result


def read_span_report(
    handle: workflow.ActivityHandle[RawValue],
    span: Span,
    *,
    is_stopped: bool,
    last_heartbeat: Heartbeat | None,
) -> SpanReport:
    """Return the report of a span whose activity has ended, however it ended.

    Args:
        handle: The ended activity.
        span: The span as it was assigned.
        is_stopped: Whether the activity was told to stop.
        last_heartbeat: Last heartbeat of an activity that was cancelled while no worker had it; else None.

    Raises:
        BadResultError: The activity was completed by hand with a result that is no report.
    """
    error = None if handle.cancelled() else handle.exception()
    if handle.cancelled() or (error is not None and is_cancelled_exception(error)):
        return report_interrupted_span(span, last_heartbeat)
    if error is None:
        return read_result(SpanReport, handle.result())
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    # Temporal does not retry an activity that was cancelled: a try that failed, or a worker that was lost before the
    # cancel reached it, ends the activity, and does not mean that a chunk has failed.
    if isinstance(cause, ApplicationError) and cause.details and (is_stopped or cause.type == ErrorType.CHUNK_FAILED):
        return read_result(SpanReport, cause.details[0])
    if is_stopped:
        return report_interrupted_span(span, last_heartbeat)
    # Somebody failed it by hand. Chunks of the span may be published: a film must not lack them, so that only the first
    # chunk counts as failed, and those after it are looked at again.
    reason = ChunkFailure(chunk=span.start, error=f"{cause}"[:800])
    return SpanReport(failed=((span.start, span.start + 1),), failures=(reason,))


def report_interrupted_span(span: Span, last_heartbeat: Heartbeat | None) -> SpanReport:
    """Return the report of a span that was stopped: chunks render in order, so that the last heartbeat tells all."""
    if last_heartbeat is None:
        return SpanReport(left_failures=span.tries.failures, left_losses=span.tries.losses)
    given_up = RangeSet(last_heartbeat.given_up)
    return SpanReport(
        done=given_up.gaps(span.start, last_heartbeat.chunk).ranges,
        failed=given_up.ranges,
        failures=last_heartbeat.reasons,
        left_failures=last_heartbeat.failures,
        left_losses=last_heartbeat.losses + (not last_heartbeat.ended and last_heartbeat.number > 0),
        rendered=last_heartbeat.rendered,
        render_seconds=last_heartbeat.render_seconds,
        billed_seconds=last_heartbeat.billed_seconds,
        cost_usd=last_heartbeat.cost_usd,
    )

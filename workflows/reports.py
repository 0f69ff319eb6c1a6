"""What a span came to, told from how its activity ended."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.messages import Heartbeat, SpanReport
    from longtake.models.status import ChunkFailure
    from longtake.ranges import RangeSet
    from workflows.scheduling import Span


def report_of(
    handle: workflow.ActivityHandle[SpanReport],
    span: Span,
    *,
    stopped: bool,
    beat: Heartbeat | None,
) -> SpanReport:
    """Return what a span came to.

    Args:
        handle: Of its activity, which has ended.
        span: As it was handed out.
        stopped: Whether the activity was told to stop.
        beat: Its last word, where it was taken back while no worker had it.
    """
    error = None if handle.cancelled() else handle.exception()
    if handle.cancelled() or (error is not None and is_cancelled_exception(error)):
        return _as_left(span, beat)
    if error is None:
        return handle.result()
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    # Temporal retries nothing of what it was told to cancel: a try that failed, or a worker that was lost before it
    # heard of the stop, ends the activity, and means no more than that.
    if isinstance(cause, ApplicationError) and cause.details and (stopped or cause.type == ErrorType.CHUNK_FAILED):
        return SpanReport.model_validate(cause.details[0])
    if stopped:
        return _as_left(span, beat)
    # Workers were lost with it again and again, or it met an error that nobody foresaw.
    reason = ChunkFailure(chunk=span.start, error=f"{cause}"[:800])
    return SpanReport(failed=((span.start, span.stop),), failures=(reason,))


def _as_left(span: Span, beat: Heartbeat | None) -> SpanReport:
    """Return where a span stood that was stopped: its chunks are taken one after the other, so one word tells all."""
    if beat is None:
        return SpanReport(left_failures=span.failures)
    given_up = RangeSet(beat.given_up)
    return SpanReport(
        done=given_up.gaps(span.start, beat.chunk).ranges,
        failed=given_up.ranges,
        failures=beat.reasons,
        left_failures=beat.failures,
        billed_seconds=beat.billed_seconds,
        cost_usd=beat.cost_usd,
    )

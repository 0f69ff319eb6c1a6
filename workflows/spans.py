"""The render activities of one job: starting them, hearing of their ends, taking them back."""

from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.drain import DrainActivities
    from activities.render import RenderActivities
    from longtake.errors import ErrorType
    from longtake.job import RenderJobSpec
    from longtake.ranges import RangeSet
    from longtake.status import ChunkFailure
    from longtake.work import DrainOrder, DrainReport, Heartbeat, JobPlan, SpanOrder, SpanReport
    from workflows import options
    from workflows.scheduling import Scheduler, Span

# A status that lists every failure of a large job would not fit a payload.
MOST_FAILURES = 20


class SpanRunner:
    """Keeps as many spans running as the job allows.

    Args:
        job: The job as accepted.
        plan: The job as planned.
        changed: Called whenever something ended that the workflow's loop must look at.
    """

    def __init__(self, job: RenderJobSpec, plan: JobPlan, changed: Callable[[], None]) -> None:
        self.scheduler = Scheduler(
            plan.chunk_count, limit=job.max_parallel, done=plan.done, passes=job.retry.job_attempts
        )
        self.failures: list[ChunkFailure] = []
        self.render_seconds = 0.0
        self._job = job
        self._plan = plan
        self._changed = changed
        self._handles: dict[str, workflow.ActivityHandle[SpanReport]] = {}
        self._drain: workflow.ActivityHandle[DrainReport] | None = None
        self._taken_back: dict[str, Heartbeat | None] = {}
        self._started = 0

    @property
    def idle(self) -> bool:
        """Whether no attempt of the job runs or can begin."""
        return not self._handles

    def start_next(self) -> None:
        """Start what may run now."""
        self._end_drain()
        for span in self.scheduler.take():
            self._started += 1
            chunks = f"chunk {span.start}" if span.stop == span.start + 1 else f"chunks {span.start}-{span.stop - 1}"
            activity_id = f"{chunks.replace(' ', '-')}.{self._started}"
            handle = workflow.start_activity_method(
                RenderActivities.render_span,
                SpanOrder(ref=self._plan.ref, start=span.start, stop=span.stop, failures=span.failures),
                activity_id=activity_id,
                summary=chunks,
                **options.rendering(self._job, span.stop - span.start),
            )
            self._handles[activity_id] = handle
            handle.add_done_callback(lambda done, span=span, key=activity_id: self._ended(key, span, done))  # type: ignore[misc]

    def drain(self) -> None:
        """Take back what waits in a queue or for its next try; what runs goes on to its end."""
        if self._handles and self._drain is None:
            self._drain = workflow.start_activity_method(
                DrainActivities.find_waiting, DrainOrder(ref=self._plan.ref), **options.orchestration()
            )
            self._drain.add_done_callback(self._drained)

    def cancel(self) -> None:
        """Ask everything to stop; `idle` tells when it has."""
        self._end_drain()
        for handle in self._handles.values():
            handle.cancel()

    def _drained(self, handle: workflow.ActivityHandle[DrainReport]) -> None:
        # A drain that was taken back may still answer: what waits then belongs to a job that runs.
        if handle is not self._drain:
            return
        self._drain = None
        if not handle.cancelled() and handle.exception() is None:
            for waiting in handle.result().waiting:
                if waiting.activity_id in self._handles:
                    self._taken_back[waiting.activity_id] = waiting.beat
                    self._handles[waiting.activity_id].cancel()
        self._changed()

    def _end_drain(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None

    def _ended(self, activity_id: str, span: Span, handle: workflow.ActivityHandle[SpanReport]) -> None:
        del self._handles[activity_id]
        beat = self._taken_back.pop(activity_id, None)
        report = _report_of(handle, span) or _as_left(span, beat)
        self.failures = [*self.failures, *report.failures][:MOST_FAILURES]
        self.render_seconds += report.render_seconds
        self.scheduler.report(
            span,
            done=report.done,
            failed=report.failed,
            tries=report.left_failures,
            rendered=report.rendered,
            seconds=report.render_seconds,
        )
        self._changed()


def _report_of(handle: workflow.ActivityHandle[SpanReport], span: Span) -> SpanReport | None:
    """Return what a span came to, or None when it was stopped before it could say so."""
    error = None if handle.cancelled() else handle.exception()
    if handle.cancelled() or (error is not None and is_cancelled_exception(error)):
        return None
    if error is None:
        return handle.result()
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    if isinstance(cause, ApplicationError) and cause.type == ErrorType.CHUNK_FAILED and cause.details:
        return SpanReport.model_validate(cause.details[0])
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
    )

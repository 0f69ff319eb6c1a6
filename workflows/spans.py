"""The render activities of one job: starting them, hearing of their ends, taking them back."""

from collections.abc import Callable, Iterable, Sequence

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.drain import DrainActivities
    from activities.render import RenderActivities
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import DrainOrder, DrainReport, Heartbeat, JobPlan, SpanOrder, SpanReport
    from longtake.models.policies import FailurePolicy
    from longtake.models.status import ChunkFailure, RemoteStop
    from longtake.ranges import Range
    from longtake.requests import PauseMode, SkipChunks
    from workflows import options
    from workflows.leftovers import Leftovers
    from workflows.orders import Orders
    from workflows.reports import report_of
    from workflows.scheduling import Scheduler, Span
    from workflows.totals import Totals

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
        self.totals = Totals()
        self.closed = False
        self._held = False
        self.allow_gaps = job.allow_gaps
        self._failures: tuple[ChunkFailure, ...] = ()
        self._job = job
        self._plan = plan
        self._changed = changed
        self._handles: dict[str, workflow.ActivityHandle[SpanReport]] = {}
        self._spans: dict[str, Span] = {}
        self._drain: workflow.ActivityHandle[DrainReport] | None = None
        self._taken_back: dict[str, Heartbeat | None] = {}
        self._frozen: frozenset[str] = frozenset()
        self._asked_to_stop: set[str] = set()
        self._drained_for = 0
        self._started = 0
        self._leftovers = Leftovers(plan.ref, self._heard_of_stops)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to render, and nothing holds the job."""
        return self.scheduler.finished and not self.holding

    @property
    def holding(self) -> bool:
        """Whether failed chunks hold the job until somebody has mended the cause.

        Whoever takes single chunks up again lets the job go on; it holds for the others when all else is done.
        """
        if self._job.on_chunk_failure is not FailurePolicy.HOLD or not self.scheduler.failed_for_good:
            return False
        return self._held or self.scheduler.finished

    @property
    def hopeless(self) -> bool:
        """Whether so much has failed that the job is to fail at once."""
        if not self.scheduler.failed_for_good or self._job.on_chunk_failure is FailurePolicy.HOLD:
            return False
        if self._job.on_chunk_failure is FailurePolicy.FAIL:
            return True
        limit = self._job.failure_limit(self.scheduler.chunk_count)
        return limit is not None and self.scheduler.failed_count > limit

    @property
    def makes_film(self) -> bool:
        """Whether gaps would show."""
        return self._job.output is not None or self._job.merge_command is not None

    @property
    def idle(self) -> bool:
        """Whether no attempt of the job runs or can begin, here or elsewhere."""
        return not self._handles and self._leftovers.idle

    @property
    def resting(self) -> bool:
        """Whether nothing of the job renders: what has not ended stands frozen."""
        return self._handles.keys() <= self._frozen and self._leftovers.idle

    @property
    def frozen_count(self) -> int:
        """How many attempts stand frozen."""
        return len(self._frozen)

    @property
    def told_failures(self) -> tuple[ChunkFailure, ...]:
        """The reasons of chunks that stand as failed, as far as they are kept."""
        told = [failure for failure in self._failures if self.scheduler.has_failed(failure.chunk)]
        return tuple(sorted(told, key=lambda failure: failure.chunk))

    def start_next(self) -> None:
        """Start what may run now."""
        self._end_drain()
        self._frozen = frozenset()
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
            self._spans[activity_id] = span
            handle.add_done_callback(lambda done, span=span, key=activity_id: self._ended(key, span, done))  # type: ignore[misc]

    def rest(self, orders: Orders) -> None:
        """Come to rest as the pause in force says; `resting` tells when."""
        if orders.pause_mode is PauseMode.NOW:
            self.cancel()
        else:
            self._drain_for(orders.freeze)

    def close(self) -> None:
        """Take no requests any more: what is rendered is decided."""
        self.closed = True

    def resume(self, *, paused: bool) -> None:
        """Go on after a pause, if there was one, and take up what holds the job."""
        if paused:
            self.totals.forget_stops()
            self._leftovers.forget()
        if self.holding and not self.closed:
            self.retry()

    def retry(self, chunks: Iterable[Range] = ()) -> int:
        """Take up failed chunks again, and named ones that were left out; return how many."""
        self._held = False
        return self.scheduler.retry(chunks)

    def leave_out(self, request: SkipChunks) -> int:
        """Render these chunks no more; return how many that changes."""
        self.allow_gaps = self.allow_gaps or request.allow_gaps
        count = self.scheduler.leave_out(request.chunks)
        for activity_id, span in self._spans.items():
            # A span that holds others too goes on: their work would be lost.
            if not self.scheduler.wants(span):
                self._cancel(activity_id)
        return count

    def _drain_for(self, freeze: int) -> None:
        """Take back what waits in a queue or for its next try; what runs goes on to its end, or is frozen."""
        if self._drain is not None and freeze != self._drained_for:
            self._end_drain()
        if self._handles and not self.resting and self._drain is None:
            self._drained_for = freeze
            self._drain = workflow.start_activity_method(
                DrainActivities.find_waiting, DrainOrder(ref=self._plan.ref, freeze=freeze), **options.orchestration()
            )
            self._drain.add_done_callback(self._drained)

    def cancel(self) -> None:
        """Ask everything to stop; `idle` tells when it has."""
        self._end_drain()
        for activity_id in self._handles:
            self._cancel(activity_id)

    def _drained(self, handle: workflow.ActivityHandle[DrainReport]) -> None:
        # Asked for in any case: an exception that nobody has seen is reported as lost.
        answered = not handle.cancelled() and handle.exception() is None
        # A drain that was taken back may still answer: what waits then belongs to a job that runs.
        if handle is not self._drain:
            return
        self._drain = None
        if answered:
            report = handle.result()
            self._frozen = frozenset(report.frozen)
            for waiting in report.waiting:
                if waiting.activity_id in self._handles:
                    self._taken_back[waiting.activity_id] = waiting.beat
                    self._cancel(waiting.activity_id)
        self._changed()

    def _cancel(self, activity_id: str) -> None:
        if activity_id not in self._asked_to_stop:
            self._asked_to_stop.add(activity_id)
            self._handles[activity_id].cancel()

    def _heard_of_stops(self, stops: Sequence[RemoteStop]) -> None:
        self.totals.add(SpanReport(stops=tuple(stops)))
        self._changed()

    def _end_drain(self) -> None:
        if self._drain is not None:
            drain, self._drain = self._drain, None
            drain.cancel()

    def _ended(self, activity_id: str, span: Span, handle: workflow.ActivityHandle[SpanReport]) -> None:
        del self._handles[activity_id], self._spans[activity_id]
        self._frozen -= {activity_id}
        stopped = activity_id in self._asked_to_stop
        self._asked_to_stop.discard(activity_id)
        beat = self._taken_back.pop(activity_id, None)
        report = report_of(handle, span, stopped=stopped, beat=beat)
        if self._job.remote is not None and (handle.cancelled() or handle.exception() is not None):
            self._leftovers.add(span.start, span.stop)
        self._held = self._held or bool(report.failed)
        told = {failure.chunk: failure for failure in (*self.told_failures, *report.failures)}
        self._failures = tuple(told.values())[:MOST_FAILURES]
        self.totals.add(report)
        self.scheduler.report(
            span,
            done=report.done,
            failed=report.failed,
            tries=report.left_failures,
            rendered=report.rendered,
            seconds=report.render_seconds,
        )
        self._changed()

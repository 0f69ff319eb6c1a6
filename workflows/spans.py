"""The render activities of one job: starting them, hearing of their ends, taking them back."""

from collections.abc import Callable, Iterable, Sequence

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.drain import DrainActivities
    from activities.render import RenderActivities
    from activities.stop_agents import StopActivities
    from longtake.errors import ErrorType
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import (
        DrainOrder,
        DrainReport,
        Heartbeat,
        JobPlan,
        JobRef,
        SpanOrder,
        SpanReport,
        StopAgentsOrder,
        StopAgentsReport,
    )
    from longtake.models.policies import FailurePolicy
    from longtake.models.status import ChunkFailure, PauseMode, RemoteStop, SkipChunks
    from longtake.ranges import Range, RangeSet
    from workflows import options
    from workflows.scheduling import Span

    pass  # MOVED
    from workflows.scheduling import PauseOrders

    pass  # MOVED
    from longtake.models.status import RetryFailed
    from longtake.ranges import shown
    from workflows.scheduling import Scheduler, Totals

    pass  # MOVED


def span_report(
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


# Each is a look into the store, and an order that is waited for.
_MOST_AT_ONCE = 500


class LostAgents:
    """Looks after chunks whose activities ended without a word of their agents, one activity at a time.

    Args:
        ref: The job.
        heard: Called with what became of agents that were told to stop.
    """

    def __init__(self, ref: JobRef, heard: Callable[[Sequence[RemoteStop]], None]) -> None:
        self._ref = ref
        self._heard = heard
        self._unsure = RangeSet()
        self._looking: workflow.ActivityHandle[StopAgentsReport] | None = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to be looked after."""
        return self._looking is None and not self._unsure

    def add(self, start: int, stop: int) -> None:
        """Look after the chunks `[start, stop)`: their agents are told to stop, if there are any."""
        self._unsure.add(start, stop)
        self._look()

    def forget(self) -> None:
        """Leave all of them to the attempts that come next, which join what is at work."""
        self._unsure = RangeSet()
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        if self._looking is not None or not self._unsure:
            return
        chunks = RangeSet()
        while self._unsure and len(chunks) < _MOST_AT_ONCE:
            chunks.add(*self._unsure.take(_MOST_AT_ONCE - len(chunks)))
        self._looking = workflow.start_activity_method(
            StopActivities.stop_agents,
            StopAgentsOrder(ref=self._ref, chunks=chunks.ranges),
            **options.orchestration(),
        )
        self._looking.add_done_callback(self._looked)

    def _looked(self, handle: workflow.ActivityHandle[StopAgentsReport]) -> None:
        self._looking = None
        # Asked for in any case: an exception that nobody has seen is reported as lost.
        answered = not handle.cancelled() and handle.exception() is None
        self._look()
        self._heard(handle.result().stops if answered else ())


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
        self._leftovers = LostAgents(plan.ref, self._heard_of_stops)

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

    def rest(self, orders: PauseOrders) -> None:
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
        report = span_report(handle, span, stopped=stopped, beat=beat)
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


def check_rendering(spans: SpanRunner | None) -> SpanRunner:
    """Return the spans of a job that renders.

    Raises:
        ValueError: It does not.
    """
    if spans is None:
        raise ValueError("the job is not rendering yet; try again in a moment")
    if spans.closed:
        raise ValueError("the job has come to the end of its rendering; `longtake retry` is for when it has ended")
    return spans


def check_retry(request: RetryFailed, spans: SpanRunner | None) -> None:
    """Pass when all chunks that are named can be taken up again.

    Raises:
        ValueError: One cannot, or no chunk has failed.
    """
    chunks = check_rendering(spans).scheduler
    if not request.chunks and not chunks.failed:
        raise ValueError("no chunk has failed; there is nothing to retry")
    there = RangeSet((*chunks.failed, *chunks.left_out))
    _check_within(request.chunks, there, "neither failed nor skipped; only such chunks can be retried")


def check_skip(request: SkipChunks, spans: SpanRunner | None) -> None:
    """Pass when all chunks that are named can be left out.

    Raises:
        ValueError: One is published or not of this job, or the film must not have gaps.
    """
    running = check_rendering(spans)
    chunks = running.scheduler
    _check_within(request.chunks, RangeSet([(0, chunks.chunk_count)]), f"not among the job's {chunks.chunk_count}")
    unfinished = RangeSet(chunks.done).gaps(0, chunks.chunk_count)
    _check_within(request.chunks, unfinished, "finished already; only others can be skipped")
    if running.makes_film and not (request.allow_gaps or running.allow_gaps):
        raise ValueError("the film would have gaps; say that it may (allow_gaps, or `longtake skip --allow-gaps`)")


def _check_within(asked: tuple[tuple[int, int], ...], there: RangeSet, problem: str) -> None:
    for start, stop in asked:
        if start >= stop:
            raise ValueError(f"chunks: [{start}, {stop}) is empty; give the first chunk and the one after the last")
        if lacking := there.gaps(start, stop).ranges:
            one = sum(high - low for low, high in lacking) == 1
            raise ValueError(
                f"chunk {shown(lacking)} is {problem}" if one else f"chunks {shown(lacking)} are {problem}"
            )

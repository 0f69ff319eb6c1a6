"""Run the render activities of a job: start them, read their reports, drain and cancel them."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from temporalio import workflow
from temporalio.common import RawValue

with workflow.unsafe.imports_passed_through():
    from longtake.models.batches import BatchReport, BatchRest
    from longtake.models.continuation import SavedSpans
    from longtake.models.job_fields import JobFields
    from longtake.models.messages import (
        DrainOrder,
        DrainReport,
        JobPlan,
        SpanOrder,
        SpanReport,
        WaitingAttempt,
    )
    from longtake.models.policies import FailurePolicy
    from longtake.models.status import MOST_BATCHES, ChunkFailure, PauseMode, SkipChunks
    from longtake.names import FIND_WAITING, MEMO_SPLIT, RENDER_SPAN
    from longtake.ranges import Range, RangeSet
    from workflows import options
    from workflows.batches import BatchRunner
    from workflows.chunk_states import Span, Tries
    from workflows.farm_control import FarmTeller
    from workflows.lost_agents import LostAgents
    from workflows.requests import BadResultError, find_result
    from workflows.scheduling import SPANS_A_BATCH, FlooredScheduler, PauseState, Scheduler
    from workflows.span_reports import Totals, read_span_report, report_interrupted_span

# A status that listed every failure of a large job would not fit a payload.
MOST_FAILURES = 20


class SpanRunner:
    """Keeps the render activities of a job running, as many at once as the job allows.

    Args:
        job: The job as accepted.
        plan: The job as planned.
        farm: Tells the workers when there is an order in the memo.
        on_change: Called whenever an activity has ended, so that the workflow wakes and settles it.
        on_notice: Called with a sentence for the status about what was ignored.
        is_bounded: Whether a run of the job ends before its history is long; False for jobs that began before.
        saved: What the run of the job before has handed over.

    Attributes:
        plan: The job as planned.
        scheduler: State of the job's chunks.
        totals: Sums of the reports so far.
        allow_gaps: Whether the film may lack chunks; a skip can allow that later.
        is_closed: Whether requests come too late: what is rendered is decided.
    """

    def __init__(
        self,
        job: JobFields,
        plan: JobPlan,
        *,
        farm: FarmTeller,
        on_change: Callable[[], None],
        on_notice: Callable[[str], None],
        is_bounded: bool,
        saved: SavedSpans | None = None,
    ) -> None:
        kind = Scheduler if is_bounded else FlooredScheduler
        self.scheduler = kind(
            plan.chunk_count,
            limit=job.max_parallel,
            done=plan.done,
            passes=job.retry.job_attempts,
            saved=saved.chunks if saved else None,
            has_sessions=job.session is not None,
        )
        self.scheduler.leave_out(plan.left_out)
        if job.only and saved is None:
            self.scheduler.leave_out(RangeSet(job.only).gaps(0, plan.chunk_count).ranges)
        self.totals = Totals(saved.totals if saved else None)
        self.is_closed = False
        self._is_ending = False
        self._is_held = saved.is_held if saved else False
        self.allow_gaps = saved.allow_gaps if saved else job.allow_gaps
        self._failures: tuple[ChunkFailure, ...] = saved.failures if saved else ()
        self._job = job
        self.plan = plan
        self._farm = farm
        self._on_change = on_change
        self._on_notice = on_notice
        self._ended: deque[Callable[[], None]] = deque()
        self._handles: dict[str, workflow.ActivityHandle[RawValue]] = {}
        self._spans: dict[str, Span] = {}
        self._drain: workflow.ActivityHandle[RawValue] | None = None
        self._taken_back: dict[str, WaitingAttempt] = {}
        self._frozen: frozenset[str] = frozenset()
        self._cancelled: set[str] = set()
        self._drain_freeze = 0
        # Those that were cancelled and have not ended are among them.
        self._looks = 0
        self._queue_look: workflow.ActivityHandle[RawValue] | None = None
        self._started = saved.started if saved else 0
        self._begun: dict[str, datetime] = {}
        self._lost_agents = LostAgents(plan.ref, self.totals, self._note_end)
        self._batches = BatchRunner(job, self.plan, self.scheduler, self._note_end, self._settle_batch)

    def save(self, *, film_is_tried: bool) -> SavedSpans:
        """Return all that the next run of the job must know, while no activity runs."""
        return SavedSpans(
            plan=self.plan.model_copy(update={"done": (), "left_out": ()}),
            chunks=self.scheduler.save(),
            totals=self.totals.save(),
            failures=self.failures[:MOST_FAILURES],
            is_held=self._is_held,
            allow_gaps=self.allow_gaps,
            started=self._started,
            film_is_tried=film_is_tried,
        )

    @property
    def activity_count(self) -> int:
        """Number of activities that have not ended, looks for waiting ones included."""
        return len(self._handles) + self._looks + SPANS_A_BATCH * self._batches.count

    @property
    def lacks_others(self) -> bool:
        """Whether the job was started again for some of its chunks alone, and others are missing."""
        return bool(self._job.only) and bool(self.scheduler.left_out)

    @property
    def is_finished(self) -> bool:
        """Whether no chunk is left to render, and no failed chunk holds the job."""
        return self.scheduler.is_finished and not self.is_holding

    @property
    def is_holding(self) -> bool:
        """Whether failed chunks hold the job until their cause is mended.

        A retry of single chunks lets the job go on; it holds for the others again when all else is done.
        """
        if self._job.on_chunk_failure is not FailurePolicy.HOLD or not self.scheduler.has_failed_for_good:
            return False
        return self._is_held or self.scheduler.is_finished

    @property
    def has_too_many_failures(self) -> bool:
        """Whether more chunks have failed than the job allows, so that it fails at once."""
        if not self.scheduler.has_failed_for_good or self._job.on_chunk_failure is FailurePolicy.HOLD:
            return False
        if self._job.on_chunk_failure is FailurePolicy.FAIL:
            return True
        limit = self._job.failure_limit(self.scheduler.chunk_count)
        return limit is not None and self.scheduler.failed_count > limit

    @property
    def has_film(self) -> bool:
        """Whether the job makes a film, in which missing chunks would show."""
        return bool(self._job.films)

    @property
    def is_idle(self) -> bool:
        """Whether no attempt of the job runs or can begin, on workers or in agents."""
        return not self._handles and not self._batches.count and self._lost_agents.is_idle

    @property
    def is_at_rest(self) -> bool:
        """Whether no chunk of the job renders: all attempts have ended, or are frozen and stay so."""
        if not self._is_standing:
            return False
        # What is frozen and is told to end gets SIGCONT with its SIGTERM, and cleans up.
        ends_frozen = bool(self._frozen & self._cancelled) or self._batches.ends_some
        return not (ends_frozen and workflow.patched("frozen-chunks-that-end"))

    @property
    def _is_standing(self) -> bool:
        return self._handles.keys() <= self._frozen and self._batches.is_at_rest and self._lost_agents.is_idle

    @property
    def batches(self) -> tuple[str, ...]:
        """Ids of the first batches that have not ended; they tell for themselves how far they are."""
        return self._batches.ids[:MOST_BATCHES]

    @property
    def frozen_count(self) -> int:
        """Number of frozen attempts that stay so."""
        return len(self._frozen - self._cancelled) + self._batches.frozen_count

    @property
    def failures(self) -> tuple[ChunkFailure, ...]:
        """Reasons of the failed chunks, sorted by chunk, 20 at most."""
        failures = [failure for failure in self._failures if self.scheduler.has_failed(failure.chunk)]
        return tuple(sorted(failures, key=lambda failure: failure.chunk))

    def set_limit(self, limit: int) -> None:
        """Set how many spans run at once; where more do, take those back that no worker has."""
        self.scheduler.limit = limit
        self._batches.recall(self.scheduler.excess)
        if self.scheduler.excess > 0 and workflow.patched("take-queued-spans-back"):
            self._look_into_queue()

    def start_spans(self, most: int) -> None:
        """Start an activity for each span that may run now.

        Args:
            most: How many spans the history has room for.
        """
        self._cancel_drain()
        self._frozen = frozenset()
        self._batches.go_on()
        for span in self.scheduler.assign_spans(most):
            self._started += 1
            if span.is_batch:
                self._batches.start(span, self._started)
            else:
                self._start_span(span)
        if self.scheduler.needs_split:
            workflow.upsert_memo({MEMO_SPLIT: self.scheduler.order_split()})
            self._farm.tell_of_split()
            self._batches.split()

    def _start_span(self, span: Span) -> None:
        chunks = f"chunk {span.start}" if span.stop == span.start + 1 else f"chunks {span.start}-{span.stop - 1}"
        activity_id = f"{chunks.replace(' ', '-')}.{self._started}"
        order = SpanOrder(
            ref=self.plan.ref,
            start=span.start,
            stop=span.stop,
            failures=span.tries.failures,
            losses=span.tries.losses,
            published=self.scheduler.published_within(span),
            split=span.split,
            wait_seconds=max(0.0, span.tries.next_try_at - workflow.now().timestamp()),
        )
        handle = workflow.start_activity(
            RENDER_SPAN,
            order,
            result_type=RawValue,
            activity_id=activity_id,
            summary=chunks,
            **options.render_options(self._job, span.stop - span.start),
        )
        self._handles[activity_id] = handle
        self._spans[activity_id] = span
        self._begun[activity_id] = workflow.now()
        settle = partial(self._settle_span, activity_id, span)
        handle.add_done_callback(lambda handle: self._note_end(partial(settle, handle)))

    def settle(self) -> None:
        """Settle what has ended since the last call: read reports, and count and start what follows from them.

        Called by the workflow's main coroutine and not by the callbacks of activities: the SDK only logs an exception
        there, so that the chunk would run for ever, and a mended workflow could not replay. Here a bug fails the
        workflow task, which is retried until it is mended.
        """
        while self._ended:
            self._ended.popleft()()

    def _note_end(self, settle: Callable[[], None]) -> None:
        self._ended.append(settle)
        self._on_change()

    def apply_pause(self, pause: PauseState) -> None:
        """Begin to finish, freeze or end what runs, as the pause says; `is_at_rest` becomes true when that is done."""
        if pause.mode is PauseMode.NOW:
            self.cancel()
        else:
            self._start_drain(pause.freeze_number)

    def close(self) -> None:
        """Refuse requests from now on: what is rendered is decided."""
        self.is_closed = True

    def resume(self, *, paused: bool) -> None:
        """Go on after a pause, if there was one, and retry the failed chunks that hold the job."""
        if paused:
            self.scheduler.end_waits()
            self.totals.reset_stops()
            self._lost_agents.leave_running()
        if self.is_holding and not self.is_closed:
            self.retry()

    def retry(self, chunks: Iterable[Range] = ()) -> int:
        """Render failed chunks again, and left out ones that are named; return how many."""
        self._is_held = False
        return self.scheduler.retry(chunks)

    def leave_out(self, request: SkipChunks) -> int:
        """Leave chunks out of the job, and cancel spans that hold no others; return how many that changes."""
        self.allow_gaps = self.allow_gaps or request.allow_gaps
        count = self.scheduler.leave_out(request.chunks)
        for activity_id, span in self._spans.items():
            # A span that holds other chunks too goes on, or their work would be lost.
            if not self.scheduler.is_wanted(span):
                self._cancel(activity_id)
        self._batches.leave_out(request)
        return count

    def drain(self) -> None:
        """Take back the spans that no worker has; the others end by the order in the job's memo."""
        self._start_drain(0)

    def _start_drain(self, freeze: int) -> None:
        """Cancel spans that wait in a queue or for their next try; those that render go on to their end, or freeze."""
        if self._is_ending:
            return
        if freeze:
            self._batches.freeze(freeze)
        else:
            self._batches.recall()
        if self._drain is not None and freeze != self._drain_freeze:
            self._cancel_drain()
        if self._handles and not self._is_standing and self._drain is None:
            self._drain_freeze = freeze
            self._looks += 1
            self._drain = workflow.start_activity(
                FIND_WAITING,
                DrainOrder(ref=self.plan.ref, freeze=freeze),
                result_type=RawValue,
                summary="freeze" if freeze else "drain",
                **options.control_options(),
            )
            self._drain.add_done_callback(lambda handle: self._note_end(partial(self._settle_drain, handle)))

    def cancel(self) -> None:
        """Cancel all activities; `is_idle` becomes true when all have ended."""
        self._cancel_drain()
        if self._queue_look is not None:
            self._queue_look.cancel()
        for activity_id in self._handles:
            self._cancel(activity_id)
        self._batches.cancel()

    def end(self) -> None:
        """Cancel all activities for good: this run of the job has no room for more of them."""
        self._is_ending = True
        self.cancel()

    def _settle_drain(self, handle: workflow.ActivityHandle[RawValue]) -> None:
        self._looks -= 1
        report = find_result(DrainReport, handle)
        # A drain that was cancelled may still answer: spans that wait by now are those of a job that runs.
        if handle is not self._drain:
            return
        self._drain = None
        if report is not None:
            self._frozen = frozenset(report.frozen) & self._handles.keys()
            for waiting in report.waiting:
                if waiting.activity_id in self._handles:
                    self._take_back(waiting)

    def _look_into_queue(self) -> None:
        """Find the spans that no worker has; a job that is paused looks for them anyhow."""
        if self._queue_look is None and self._drain is None:
            self._looks += 1
            self._queue_look = workflow.start_activity(
                FIND_WAITING,
                DrainOrder(ref=self.plan.ref, once=True),
                result_type=RawValue,
                summary="look into the queue",
                **options.control_options(),
            )
            self._queue_look.add_done_callback(lambda handle: self._note_end(partial(self._settle_queue_look, handle)))

    def _settle_queue_look(self, handle: workflow.ActivityHandle[RawValue]) -> None:
        self._queue_look = None
        self._looks -= 1
        report = find_result(DrainReport, handle)
        # The last chunks first. One that a worker has taken up since is stopped, and its whole frames are kept.
        waiting = [each for each in report.waiting if each.activity_id in self._handles] if report else []
        waiting.sort(key=lambda each: self._spans[each.activity_id].start)
        for each in waiting[::-1][: max(0, self.scheduler.excess)]:
            self._take_back(each)

    def _take_back(self, waiting: WaitingAttempt) -> None:
        self._taken_back[waiting.activity_id] = waiting
        self._cancel(waiting.activity_id)

    def _cancel(self, activity_id: str) -> None:
        if activity_id not in self._cancelled:
            self._cancelled.add(activity_id)
            self._handles[activity_id].cancel()

    def _may_leave_agents(self, span: Span, handle: workflow.ActivityHandle[RawValue], report: SpanReport) -> bool:
        """Tell whether agents of a span may be at work that its ended activity did not wait for."""
        if self._job.remote is None:
            return False
        if handle.cancelled() or handle.exception() is not None:
            return True
        # A worker that takes over a lost one's span while the job pauses gives it back without a look at its agents.
        settled = RangeSet((*report.done, *report.failed))
        return bool(settled.gaps(span.start, span.stop)) and workflow.patched("stop-agents-of-returned-chunks")

    def _cancel_drain(self) -> None:
        if self._drain is not None:
            drain, self._drain = self._drain, None
            drain.cancel()

    def hear_batch(self, rest: BatchRest) -> None:
        """Hear that a batch stands frozen."""
        self._batches.hear(rest)

    def _settle_batch(self, report: BatchReport) -> None:
        self._note_failures(report.failures, is_held=bool(report.chunks.failed))
        self.totals.add_saved(report.totals, report.chunks.done)
        for notice in report.notices:
            self._on_notice(notice)

    def _note_failures(self, new: tuple[ChunkFailure, ...], *, is_held: bool) -> None:
        self._is_held = self._is_held or is_held
        failures = {failure.chunk: failure for failure in (*self.failures, *new)}
        self._failures = tuple(failures.values())[:MOST_FAILURES]

    def _settle_span(self, activity_id: str, span: Span, handle: workflow.ActivityHandle[RawValue]) -> None:
        del self._handles[activity_id], self._spans[activity_id]
        begun = self._begun.pop(activity_id)
        self._frozen -= {activity_id}
        is_stopped = activity_id in self._cancelled
        self._cancelled.discard(activity_id)
        waiting = self._taken_back.pop(activity_id, WaitingAttempt(activity_id=activity_id))
        try:
            report = read_span_report(handle, span, is_stopped=is_stopped, last_heartbeat=waiting.beat)
        except BadResultError as error:
            self._on_notice(f"{activity_id}: {error}; its chunks are rendered again where they are not published")
            report = report_interrupted_span(span, waiting.beat)
        if self._may_leave_agents(span, handle, report):
            self._lost_agents.stop_agents(span, report.stops)
        self._note_failures(report.failures, is_held=bool(report.failed))
        self.totals.add_report(report)
        for notice in report.notices:
            self._on_notice(notice)
        has_to_wait = waiting.next_try_at > workflow.now().timestamp()
        keeps_wait = has_to_wait and workflow.patched("waits-of-returned-chunks")
        self.scheduler.finish_span(
            span,
            done=report.done,
            failed=report.failed,
            tries=Tries(report.left_failures, report.left_losses, waiting.next_try_at if keeps_wait else 0),
            rendered=report.rendered,
            seconds=report.render_seconds,
            elapsed=(workflow.now() - begun).total_seconds(),
        )

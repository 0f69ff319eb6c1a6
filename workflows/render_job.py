"""The workflow `RenderJob`: plan a job, render its chunks, join them, and answer for it until it ends."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from longtake.errors import BadJobError, ErrorType
    from longtake.models.continuation import JobContinuation, SavedSpans
    from longtake.models.fields import Contract
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import JobPlan, PlanOrder, ReportOrder, StitchOrder
    from longtake.models.status import (
        JobPhase,
        JobState,
        PauseMode,
        RenderJobResult,
    )
    from longtake.names import (
        HAS_SEARCH_ATTRIBUTES,
        PLAN_JOB,
        RENDER_JOB_WORKFLOW,
        STITCH_JOB,
        Control,
    )
    from longtake.ranges import RangeSet
    from workflows import options
    from workflows.film_trial import TrialRunner
    from workflows.final_report import write_report
    from workflows.handover import build_continuation, read_continuation
    from workflows.job_requests import RequestedJob
    from workflows.requests import (
        BadResultError,
        accept_job,
        read_result,
    )
    from workflows.scheduling import PauseState
    from workflows.spans import SpanRunner
    from workflows.status_board import (
        build_job_error,
        count_chunks,
        describe_failures,
        describe_unrendered,
        find_failure,
        shorten_status,
    )


Result = TypeVar("Result", bound=Contract)

# Results of one step that are none, as somebody completes it by hand, before the job fails: each begins it anew.
_MOST_BAD_RESULTS = 3


@workflow.defn(name=RENDER_JOB_WORKFLOW)
class RenderJob(RequestedJob):
    """One job, from the keys of its file to its film.

    `pause` and `resume`, as signals or as updates, may come at any time and in any order; a cancel of the workflow is
    the cancel of the job. However a job ends, no process of it runs any more when the workflow has ended.

    The input, signals and updates take any number of arguments of any kind: what does not fit one model is refused in
    one sentence by code of ours (`workflows.requests`), where the SDK would fail the workflow task for ever. A job is a
    chain of runs: each hands over to the next one before its history is long (`workflows.history`).
    """

    @workflow.init
    def __init__(self, *inputs: object) -> None:
        # Here and not in `run`: requests that wait for the new run are handled before that.
        self._job: RenderJobSpec | None = None
        self._document: Mapping[str, Any] = {}
        self._runs = 1
        self._refusal = ""
        handed_over = None
        try:
            handed_over = read_continuation(inputs, workflow.info().workflow_id)
        except BadJobError as error:
            self._refusal = str(error)
        super().__init__(handed_over[0] if handed_over else None)
        if handed_over is not None:
            self._restore(*handed_over)

    def _restore(self, before: JobContinuation, job: RenderJobSpec) -> None:
        """Take up what the run before has handed over."""
        self._history.is_bounded = self._board.is_bounded = True
        self._job, self._document, self._runs = job, before.job, before.runs + 1
        self._pause = PauseState(before.pause_mode, before.freezes)
        self._max_parallel = before.max_parallel
        if before.spans is not None:
            self._begin_rendering(before.spans.plan, before.spans)
        else:
            self._board.notifier.expect(job.notify)

    @workflow.run
    async def run(self, *inputs: object) -> RenderJobResult:
        """Render the job that the input describes: the keys of a job file.

        Raises:
            ApplicationError: The job has failed; its message is the reason, its type one of `ErrorType`.
            asyncio.CancelledError: The job was cancelled, and all its work has stopped.
        """
        try:
            if self._job is None:
                self._accept(inputs)
            if self._spans is None:
                self._begin_rendering(await self._plan())
            await self._render()
            result = await self._stitch()
            await self._wait_while_paused(JobPhase.STITCHING)
            result = result.model_copy(update={"note": describe_unrendered(self._board.status)})
        except (asyncio.CancelledError, FailureError) as error:
            await self._end_without_film(error)
        await self._end(JobState.COMPLETED, result=result)
        # With a note on its report, if there is none.
        return self._board.status.result or result

    async def _end_without_film(self, error: asyncio.CancelledError | FailureError) -> NoReturn:
        """Stop all work of a cancelled or failed job, show how it ended, and raise what ends the workflow."""
        if not self._is_idle():
            await self._stop_everything()
        await self._find_search_attributes()
        if self._spans is not None and self._spans.lacks_others:
            # They were not skipped: they are still to be rendered.
            self._board.update_counts(left_out_chunks=0, left_out=())
        if _is_cancelled():
            if self._spans is not None:
                self._board.update_totals(self._spans.totals)
            self._note_cancel()
            await self._end(JobState.CANCELLED)
            raise asyncio.CancelledError from error
        if isinstance(error, FailureError):
            failure = build_job_error(error)
            needs_change = failure.type == ErrorType.NEEDS_CHANGE
            await self._end(JobState.FAILED, error=failure.message, needs_change=needs_change)
            raise failure from error
        raise error

    async def _end(
        self,
        state: JobState,
        *,
        result: RenderJobResult | None = None,
        error: str | None = None,
        needs_change: bool = False,
    ) -> None:
        """Show how the job ended, tell its receivers, and write its report."""
        self._board.show_end(state, result=result, error=error, needs_change=needs_change)
        await self._board.notifier.settle()
        await self._write_report()

    async def _write_report(self) -> None:
        """Write the report of a job that asks for one; the job has ended, whatever becomes of its report."""
        if self._job is None or not self._job.report or self._spans is None:
            return
        order = ReportOrder(ref=self._spans.plan.ref, status=shorten_status(self._board.status))
        # A cancel that comes again finds a job that has ended.
        with suppress(asyncio.CancelledError):
            if why := await write_report(order):
                self._board.add_end_note(f"report not written: {why}; `longtake report` makes one")

    async def _find_search_attributes(self) -> None:
        """Find out whether the end of a job that was never planned can be written to search attributes."""
        if self._board.knows_attributes or not workflow.patched("search-attributes-of-refused-jobs"):
            return
        # Without an answer the job does not show in lists by state, and its end is Temporal's own status.
        with suppress(ActivityError, asyncio.CancelledError):
            available = await workflow.execute_local_activity(
                HAS_SEARCH_ATTRIBUTES, result_type=bool, **options.local_options()
            )
            self._board.use_search_attributes(available=available)

    def _accept(self, inputs: tuple[object, ...]) -> None:
        if workflow.patched("bounded-history"):
            self._history.is_bounded = self._board.is_bounded = True
        try:
            if self._refusal:
                raise BadJobError(self._refusal)
            job = accept_job(inputs)
        except BadJobError as error:
            raise ApplicationError(str(error), type=ErrorType.BAD_JOB, non_retryable=True) from error
        assert isinstance(inputs[0], dict)  # a job is one
        self._job, self._document = job, inputs[0]
        self._board.show_job(job)
        if self._max_parallel is not None:
            # It may be set before the job is read.
            self._board.update_counts(max_parallel=self._max_parallel)
        if job.start_paused and not self._was_resumed:
            self._pause.pause(PauseMode.DRAIN)

    async def _plan(self) -> JobPlan:
        order = PlanOrder(id=workflow.info().workflow_id, job=self._accepted_job)
        plan = await self._perform(
            PLAN_JOB, order, JobPlan, state=JobState.PENDING, phase=JobPhase.PLANNING, summary="plan"
        )
        self._board.show_plan(plan)
        return plan

    def _begin_rendering(self, plan: JobPlan, saved: SavedSpans | None = None) -> None:
        job, is_bounded = self._accepted_job, self._history.is_bounded
        self._board.notifier.expect(job.notify, plan.farm_events)
        self._spans = SpanRunner(
            job,
            plan,
            farm=self._board.farm,
            on_change=self._wake,
            on_notice=self._note,
            is_bounded=is_bounded,
            saved=saved,
        )
        if self._max_parallel is not None:
            self._spans.set_limit(self._max_parallel)
        is_tried = saved is not None and saved.film_is_tried
        self._trial = TrialRunner(job, plan, on_ended=self._wake, is_tried=is_tried)

    async def _render(self) -> None:
        """Render chunks until all are settled, however often the job is paused.

        Raises:
            ApplicationError: Chunks have failed that the job cannot do without.
        """
        spans, trial = self._active_spans, self._trial
        assert trial is not None  # it begins with the spans
        while not spans.is_finished:
            _raise_if_cancelled()
            trial.settle()
            if spans.has_too_many_failures:
                break
            await self._hand_over_if_full()
            self._advance(spans, trial)
            await self._wait_until_woken()
        spans.close()
        if not spans.is_finished:
            await self._stop_everything()
        else:
            await self._end_trial(trial)
        self._update_counts()
        if (failure := find_failure(spans)) is not None:
            raise failure

    def _advance(self, spans: SpanRunner, trial: TrialRunner) -> None:
        """Start what may run now, or bring to rest what runs; and show it."""
        if self._pause.is_paused or spans.is_holding:
            spans.apply_pause(self._pause)
            if self._pause.is_paused or self._history.is_closing:
                trial.cancel()
            self._update_counts()
            self._show_rest(spans, trial)
        elif self._history.is_closing:
            trial.cancel()
            spans.drain()
            self._update_counts()
            # For workers it is a drain; for people the job goes on.
            self._board.show_state(JobState.RUNNING, JobPhase.RENDERING, Control.DRAIN)
        else:
            spans.start_spans(self._history.spans_left)
            trial.start(spans.scheduler.done)
            self._update_counts()
            self._board.show_state(JobState.RUNNING, JobPhase.RENDERING, Control.RUN)

    async def _end_trial(self, trial: TrialRunner) -> None:
        """End the trial of the film, which is about to be made; raise if it has failed."""
        trial.cancel()
        while not trial.is_idle:
            await self._wait_until_woken()
            _raise_if_cancelled()
        trial.settle()

    async def _stitch(self) -> RenderJobResult:
        await self._wait_while_paused(JobPhase.RENDERING)
        chunks = self._active_spans.scheduler
        missing = RangeSet((*chunks.failed, *chunks.left_out)).ranges
        order = StitchOrder(ref=self._active_spans.plan.ref, missing=missing)
        result = await self._perform(
            STITCH_JOB, order, RenderJobResult, state=JobState.RUNNING, phase=JobPhase.STITCHING, summary="stitch"
        )
        if result.others:
            self._note(f"film: {result.others}")
        for sentence in result.unproven:
            self._note(sentence)
        return result

    async def _perform(
        self, activity: str, order: Contract, kind: type[Result], *, state: JobState, phase: JobPhase, summary: str
    ) -> Result:
        """Return the result of one activity; a pause lets it finish, and the pause `now` aborts it until a resume.

        Args:
            activity: Name of the activity, which may be begun several times.
            order: Its argument.
            kind: Model of its result.
            state: State of the job that is shown meanwhile.
            phase: Phase of the job that is shown meanwhile.
            summary: What the Temporal UI calls the activity.

        Raises:
            FailureError: The activity has failed, or somebody has completed it by hand again and again.
        """
        bad_results = 0
        while True:
            step = self._step = workflow.start_activity(
                activity, order, result_type=RawValue, summary=summary, **options.control_options()
            )
            step.add_done_callback(lambda _: self._wake())
            aborted = False
            while not step.done():
                _raise_if_cancelled()
                self._count_history()
                if (self._pause.mode is PauseMode.NOW or self._history.must_stop) and not aborted:
                    aborted = step.cancel()
                now = JobPhase.PAUSING if self._pause.is_paused else phase
                self._board.show_state(state, now, self._pause.control, mode=self._pause.mode)
                await self._wait_until_woken()
            _raise_if_cancelled()
            # Temporal does not retry an activity that was cancelled, whatever it ended with: start it anew here.
            if aborted and (step.cancelled() or step.exception()):
                await self._hand_over_if_full()
                await self._wait_while_paused(phase)
                continue
            try:
                return read_result(kind, await step)
            except BadResultError as error:
                bad_results += 1
                self._note(f"{activity}: {error}; it begins anew")
                if bad_results >= _MOST_BAD_RESULTS:
                    message = f"{activity} {error} {bad_results} times; let a worker complete it"
                    raise ApplicationError(message, type=ErrorType.JOB_FAILED, non_retryable=True) from error

    async def _wait_while_paused(self, phase: JobPhase) -> None:
        while self._pause.is_paused:
            _raise_if_cancelled()
            await self._hand_over_if_full()
            self._board.show_state(JobState.PAUSED, phase, self._pause.control, mode=self._pause.mode)
            await self._wait_until_woken()
        _raise_if_cancelled()

    def _count_history(self) -> None:
        info = workflow.info()
        self._history.count(
            info.get_current_history_length(),
            self._count_activities(),
            has_more=self._spans is not None and self._spans.scheduler.has_more,
            is_suggested=info.is_continue_as_new_suggested(),
        )
        if self._history.must_stop and not self._board.is_silent and workflow.patched("silent-end-of-run"):
            if self._board.status.state is JobState.PAUSED and not self._is_idle():
                # Frozen chunks are about to be ended, and nobody may read meanwhile that nothing runs.
                now = self._pause
                self._board.show_state(
                    JobState.RUNNING, JobPhase.PAUSING, now.control, mode=now.mode, freeze=now.freeze_number
                )
            self._board.is_silent = True

    async def _hand_over_if_full(self) -> None:
        """Go on in a new run if this one's history says so and nothing runs; end what runs if there is no room left."""
        self._count_history()
        if self._history.must_stop and self._spans is not None:
            self._spans.end()
        if not (self._history.may_continue and self._is_idle()):
            return
        await self._board.notifier.settle()
        await workflow.wait_condition(workflow.all_handlers_finished)
        _raise_if_cancelled()
        job, work = (self._document, self._accepted_job), (self._spans, self._trial)
        after = build_continuation(
            *job, self._board, *work, self._pause, max_parallel=self._max_parallel, runs=self._runs
        )
        workflow.continue_as_new(after, memo=self._board.save_memo(self._pause))

    async def _stop_everything(self) -> None:
        """Cancel all activities and return when the last process of the job has ended."""
        self._note_cancel()
        self._board.is_silent = False
        self._board.show_state(self._board.status.state, JobPhase.CLEANING_UP, Control.STOP)
        if self._step is not None:
            self._step.cancel()
        if self._spans is not None:
            self._spans.cancel()
        if self._trial is not None:
            self._trial.cancel()
        while not self._is_idle():
            # A cancel that was noticed by its flag may be delivered as an exception here, once.
            with suppress(asyncio.CancelledError):
                await workflow.wait_condition(lambda: self._is_woken)
            self._settle()

    def _is_idle(self) -> bool:
        if self._trial is not None and not self._trial.is_idle:
            return False
        return (self._step is None or self._step.done()) and (self._spans is None or self._spans.is_idle)

    def _show_rest(self, spans: SpanRunner, trial: TrialRunner) -> None:
        # A job that holds because of failed chunks, and is paused as well, is shown as paused.
        holding = spans.is_holding and not self._pause.is_paused
        state, phase = JobState.PAUSED, JobPhase.HOLDING if holding else JobPhase.RENDERING
        if not (spans.is_at_rest and trial.is_idle):
            state, phase = JobState.RUNNING, JobPhase.PAUSING
        control = Control.DRAIN if holding else self._pause.control
        error = describe_failures(spans) if spans.is_holding else None
        pause = self._pause
        self._board.show_state(state, phase, control, mode=pause.mode, freeze=pause.freeze_number, error=error)

    def _update_counts(self) -> None:
        spans = self._active_spans
        self._board.update_counts(**count_chunks(self._accepted_job, spans))
        failed = spans.scheduler.failed_count if spans.scheduler.has_failed_for_good else 0
        self._board.notifier.observe_failures(self._board.status, failed)

    @property
    def _accepted_job(self) -> RenderJobSpec:
        assert self._job is not None  # what comes before its acceptance ends the job
        return self._job

    async def _wait_until_woken(self) -> None:
        # Without the look at the flag a cancel can be missed: one that arrives together with another event can vanish
        # from the coroutine that waits (sdk-python issues 352 and 620).
        await workflow.wait_condition(lambda: self._is_woken or _is_cancelled())
        self._settle()

    def _settle(self) -> None:
        self._is_woken = False
        if self._spans is not None:
            self._spans.settle()


def _is_cancelled() -> bool:
    return workflow.cancellation_reason() is not None


def _raise_if_cancelled() -> None:
    if _is_cancelled():
        raise asyncio.CancelledError

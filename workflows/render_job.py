"""The workflow `RenderJob`: plan a job, render its chunks, join them, and answer for it until it ends."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.plan import PlanActivities
    from activities.stitch import StitchActivities
    from longtake.errors import BadJobError, ErrorType
    from longtake.jobfile.loader import read_job
    from longtake.models.job import RenderJobSpec
    from longtake.models.messages import JobPlan, PlanOrder, StitchOrder
    from longtake.models.status import (
        JobPhase,
        JobState,
        JobStatus,
        PauseMode,
        PauseRequest,
        RenderJobResult,
        RetryFailed,
        SetMaxParallel,
        SkipChunks,
    )
    from longtake.names import RENDER_JOB_WORKFLOW, Control, check_job_id
    from longtake.ranges import RangeSet
    from workflows import options
    from workflows.scheduling import PauseState
    from workflows.spans import SpanRunner, check_rendering, check_retry, check_skip
    from workflows.status_board import StatusBoard, build_job_error, count_chunks, describe_failures


Result = TypeVar("Result")


@workflow.defn(name=RENDER_JOB_WORKFLOW)
class RenderJob:
    """One job, from the keys of its file to its film.

    Signals `pause` and `resume` may come at any time and in any order; a cancel of the workflow is the cancel of
    the job. However a job ends, no process of it runs any more when the workflow has ended.
    """

    @workflow.init
    def __init__(self, document: RawValue) -> None:
        self._board = StatusBoard()
        self._pause = PauseState()
        self._is_woken = False
        self._spans: SpanRunner | None = None
        self._step: workflow.ActivityHandle[Any] | None = None

    @workflow.run
    async def run(self, document: RawValue) -> RenderJobResult:
        """Render the job that a document describes: the keys of a job file.

        Raises:
            ApplicationError: The job has failed; its message is the reason, its type one of `ErrorType`.
            asyncio.CancelledError: The job was cancelled, and all its work has stopped.
        """
        try:
            job = self._accept(document)
            plan = await self._plan(job)
            await self._render(job, plan)
            result = await self._stitch(plan)
            await self._wait_while_paused(JobPhase.STITCHING)
        except (asyncio.CancelledError, FailureError) as error:
            await self._end_without_film(error)
        self._board.show_end(JobState.COMPLETED, result=result)
        return result

    @workflow.signal
    def pause(self, request: PauseRequest | None = None) -> None:
        """Start no more chunks, and finish, freeze or end those that run; a pause in force is only hardened."""
        self._pause.pause(request.mode if request else PauseMode.DRAIN)
        self._wake()

    @workflow.signal
    def resume(self) -> None:
        """Render the missing chunks again after a pause, and the failed ones of a job that holds."""
        if self._spans is not None:
            self._spans.resume(paused=self._pause.is_paused)
        self._pause.resume()
        self._wake()

    @workflow.query
    def status(self) -> JobStatus:
        """Return the status of the job, with an estimate of the time to go."""
        return self._board.build_status()

    @workflow.update
    def set_max_parallel(self, request: SetMaxParallel) -> int:
        """Set how many chunks render at once, and return that number; running chunks are not stopped."""
        self._active_spans.scheduler.limit = request.max_parallel
        self._board.update_counts(max_parallel=request.max_parallel)
        self._wake()
        return request.max_parallel

    @set_max_parallel.validator
    def _may_set_max_parallel(self, request: SetMaxParallel) -> None:
        check_rendering(self._spans)

    @workflow.update
    def retry_failed(self, request: RetryFailed) -> int:
        """Render failed chunks again, and skipped ones that the request names; return how many."""
        count = self._active_spans.retry(request.chunks)
        self._wake()
        return count

    @retry_failed.validator
    def _may_retry_failed(self, request: RetryFailed) -> None:
        check_retry(request, self._spans)

    @workflow.update
    def skip_chunks(self, request: SkipChunks) -> int:
        """Leave chunks out of the job; return how many that changes. Published chunks stay."""
        count = self._active_spans.leave_out(request)
        self._wake()
        return count

    @skip_chunks.validator
    def _may_skip_chunks(self, request: SkipChunks) -> None:
        check_skip(request, self._spans)

    async def _end_without_film(self, error: asyncio.CancelledError | FailureError) -> NoReturn:
        """Show how a cancelled or failed job ended, with all its work stopped, and raise what ends the workflow."""
        if _is_cancelled():
            await self._stop_everything()
            if self._spans is not None:
                self._board.update_totals(self._spans.totals)
            self._board.show_end(JobState.CANCELLED)
            raise asyncio.CancelledError from error
        if isinstance(error, FailureError):
            failure = build_job_error(error)
            self._board.show_end(JobState.FAILED, error=failure.message)
            raise failure from error
        raise error

    def _accept(self, document: RawValue) -> RenderJobSpec:
        # Decoded here and not by the signature: a converter's error would retry the workflow task for ever.
        try:
            check_job_id(workflow.info().workflow_id)
            job = read_job(workflow.payload_converter().from_payload(document.payload))
        except BadJobError as error:
            raise ApplicationError(str(error), type=ErrorType.BAD_JOB, non_retryable=True) from error
        self._board.show_job(job)
        return job

    async def _plan(self, job: RenderJobSpec) -> JobPlan:
        order = PlanOrder(id=workflow.info().workflow_id, job=job)
        plan = await self._perform(
            lambda: workflow.start_activity_method(PlanActivities.plan_job, order, **options.control_options()),
            JobState.PENDING,
            JobPhase.PLANNING,
        )
        self._board.show_plan(plan)
        return plan

    async def _render(self, job: RenderJobSpec, plan: JobPlan) -> None:
        spans = self._spans = SpanRunner(job, plan, self._wake)
        while not spans.is_finished:
            _raise_if_cancelled()
            if spans.has_too_many_failures:
                break
            if self._pause.is_paused or spans.is_holding:
                spans.apply_pause(self._pause)
                self._update_counts(job, plan)
                self._show_rest(spans)
            else:
                spans.start_spans()
                self._update_counts(job, plan)
                self._board.show_state(JobState.RUNNING, JobPhase.RENDERING, Control.RUN)
            await self._wait_until_woken()
        spans.close()
        if not spans.is_finished:
            await self._stop_everything()
        self._update_counts(job, plan)
        if spans.has_too_many_failures or (spans.scheduler.failed and not spans.allow_gaps):
            raise ApplicationError(describe_failures(spans), type=ErrorType.JOB_FAILED, non_retryable=True)

    async def _stitch(self, plan: JobPlan) -> RenderJobResult:
        await self._wait_while_paused(JobPhase.RENDERING)
        chunks = self._active_spans.scheduler
        order = StitchOrder(ref=plan.ref, missing=RangeSet((*chunks.failed, *chunks.left_out)).ranges)
        return await self._perform(
            lambda: workflow.start_activity_method(StitchActivities.stitch_job, order, **options.control_options()),
            JobState.RUNNING,
            JobPhase.STITCHING,
        )

    async def _perform(
        self, start: Callable[[], workflow.ActivityHandle[Result]], state: JobState, phase: JobPhase
    ) -> Result:
        """Return the result of one activity; a pause lets it finish, and the pause `now` aborts it until a resume.

        Args:
            start: Starts the activity, once for each try.
            state: State of the job that is shown meanwhile.
            phase: Phase of the job that is shown meanwhile.
        """
        while True:
            step = self._step = start()
            step.add_done_callback(lambda _: self._wake())
            aborted = False
            while not step.done():
                _raise_if_cancelled()
                if self._pause.mode is PauseMode.NOW and not aborted:
                    aborted = step.cancel()
                now = JobPhase.PAUSING if self._pause.is_paused else phase
                self._board.show_state(state, now, self._pause.control, mode=self._pause.mode)
                await self._wait_until_woken()
            _raise_if_cancelled()
            # Temporal does not retry an activity that was cancelled, whatever it ended with: start it anew here.
            if not aborted or not (step.cancelled() or step.exception()):
                return await step
            await self._wait_while_paused(phase)

    async def _wait_while_paused(self, phase: JobPhase) -> None:
        while self._pause.is_paused:
            _raise_if_cancelled()
            self._board.show_state(JobState.PAUSED, phase, self._pause.control, mode=self._pause.mode)
            await self._wait_until_woken()
        _raise_if_cancelled()

    async def _stop_everything(self) -> None:
        """Cancel all activities and return when the last process of the job has ended."""
        self._board.show_state(self._board.status.state, JobPhase.CLEANING_UP, Control.STOP)
        if self._step is not None:
            self._step.cancel()
        if self._spans is not None:
            self._spans.cancel()
        # A cancel that was noticed by its flag may be delivered as an exception here, once.
        with suppress(asyncio.CancelledError):
            await workflow.wait_condition(self._is_idle)
        await workflow.wait_condition(self._is_idle)

    def _is_idle(self) -> bool:
        return (self._step is None or self._step.done()) and (self._spans is None or self._spans.is_idle)

    def _show_rest(self, spans: SpanRunner) -> None:
        # A job that holds because of failed chunks, and is paused as well, is shown as paused.
        holding = spans.is_holding and not self._pause.is_paused
        state, phase = JobState.PAUSED, JobPhase.HOLDING if holding else JobPhase.RENDERING
        if not spans.is_at_rest:
            state, phase = JobState.RUNNING, JobPhase.PAUSING
        control = Control.DRAIN if holding else self._pause.control
        error = describe_failures(spans) if spans.is_holding else None
        pause = self._pause
        self._board.show_state(state, phase, control, mode=pause.mode, freeze=pause.freeze_number, error=error)

    def _update_counts(self, job: RenderJobSpec, plan: JobPlan) -> None:
        self._board.update_counts(**count_chunks(job, plan, self._active_spans))

    @property
    def _active_spans(self) -> SpanRunner:
        # Validators refuse updates, and no stitch starts, before the rendering has begun.
        assert self._spans is not None
        return self._spans

    def _wake(self) -> None:
        self._is_woken = True

    async def _wait_until_woken(self) -> None:
        # Without the look at the flag a cancel can be missed: one that arrives together with another event can vanish
        # from the coroutine that waits (sdk-python issues 352 and 620).
        await workflow.wait_condition(lambda: self._is_woken or _is_cancelled())
        self._is_woken = False


def _is_cancelled() -> bool:
    return workflow.cancellation_reason() is not None


def _raise_if_cancelled() -> None:
    if _is_cancelled():
        raise asyncio.CancelledError

"""RenderJob: the workflow that owns a job from its file to its film."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

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
    from workflows.scheduling import PauseOrders
    from workflows.spans import SpanRunner, check_rendering, check_retry, check_skip
    from workflows.status_board import StatusBoard, counts, failure_of, why_failed


Result = TypeVar("Result")


@workflow.defn(name=RENDER_JOB_WORKFLOW)
class RenderJob:
    """Plans a job, renders its chunks, joins them, and answers for it all the while.

    Signals `pause` and `resume` may come at any time and in any order; a cancel of the workflow is the cancel of
    the job. However it ends, nothing of it runs any more when it does.
    """

    @workflow.init
    def __init__(self, document: RawValue) -> None:
        self._board = StatusBoard()
        self._orders = PauseOrders()
        self._woken = False
        self._spans: SpanRunner | None = None
        self._step: workflow.ActivityHandle[Any] | None = None

    @workflow.run
    async def run(self, document: RawValue) -> RenderJobResult:
        """Render the job that the document describes: the keys of a job file."""
        try:
            job = self._accept(document)
            plan = await self._plan(job)
            await self._render(job, plan)
            result = await self._stitch(plan)
            await self._rest_while_paused(JobPhase.STITCHING)
        except (asyncio.CancelledError, FailureError) as error:
            if _cancelled():
                await self._stop_everything()
                if self._spans is not None:
                    self._board.summed(self._spans.totals)
                self._board.end(JobState.CANCELLED)
                raise asyncio.CancelledError from error
            if isinstance(error, FailureError):
                failure = failure_of(error)
                self._board.end(JobState.FAILED, error=failure.message)
                raise failure from error
            raise
        self._board.end(JobState.COMPLETED, result=result)
        return result

    @workflow.signal
    def pause(self, request: PauseRequest | None = None) -> None:
        """Start nothing more and let what runs finish, freeze it or end it; a pause in force is only hardened."""
        self._orders.pause(request.mode if request else PauseMode.DRAIN)
        self._wake()

    @workflow.signal
    def resume(self) -> None:
        """Go on with what is missing, failed chunks of a holding job included."""
        if self._spans is not None:
            self._spans.resume(paused=self._orders.paused)
        self._orders.resume()
        self._wake()

    @workflow.query
    def status(self) -> JobStatus:
        """Return where the job stands."""
        return self._board.answer()

    @workflow.update
    def set_max_parallel(self, request: SetMaxParallel) -> int:
        """Change how many chunks render at once; running ones are not stopped."""
        self._rendering.scheduler.limit = request.max_parallel
        self._board.counted(max_parallel=request.max_parallel)
        self._wake()
        return request.max_parallel

    @set_max_parallel.validator
    def _may_set_max_parallel(self, request: SetMaxParallel) -> None:
        check_rendering(self._spans)

    @workflow.update
    def retry_failed(self, request: RetryFailed) -> int:
        """Take up failed chunks again, or skipped ones that are named; return how many."""
        count = self._rendering.retry(request.chunks)
        self._wake()
        return count

    @retry_failed.validator
    def _may_retry_failed(self, request: RetryFailed) -> None:
        check_retry(request, self._spans)

    @workflow.update
    def skip_chunks(self, request: SkipChunks) -> int:
        """Render these chunks no more; return how many of them are left out. Published ones stay."""
        count = self._rendering.leave_out(request)
        self._wake()
        return count

    @skip_chunks.validator
    def _may_skip_chunks(self, request: SkipChunks) -> None:
        check_skip(request, self._spans)

    def _accept(self, document: RawValue) -> RenderJobSpec:
        # Decoded here and not by the signature: a converter's error would retry the workflow task for ever.
        try:
            check_job_id(workflow.info().workflow_id)
            job = read_job(workflow.payload_converter().from_payload(document.payload))
        except BadJobError as error:
            raise ApplicationError(str(error), type=ErrorType.BAD_JOB, non_retryable=True) from error
        self._board.accept(job)
        return job

    async def _plan(self, job: RenderJobSpec) -> JobPlan:
        order = PlanOrder(id=workflow.info().workflow_id, job=job)
        plan = await self._perform(
            lambda: workflow.start_activity_method(PlanActivities.plan_job, order, **options.orchestration()),
            JobState.PENDING,
            JobPhase.PLANNING,
        )
        self._board.planned(plan)
        return plan

    async def _render(self, job: RenderJobSpec, plan: JobPlan) -> None:
        spans = self._spans = SpanRunner(job, plan, self._wake)
        while not spans.finished:
            _leave_if_cancelled()
            if spans.hopeless:
                break
            if self._orders.paused or spans.holding:
                spans.rest(self._orders)
                self._count(job, plan)
                self._show_resting(spans)
            else:
                spans.start_next()
                self._count(job, plan)
                self._board.show(JobState.RUNNING, JobPhase.RENDERING, Control.RUN)
            await self._until_woken()
        spans.close()
        if not spans.finished:
            await self._stop_everything()
        self._count(job, plan)
        if spans.hopeless or (spans.scheduler.failed and not spans.allow_gaps):
            raise ApplicationError(why_failed(spans), type=ErrorType.JOB_FAILED, non_retryable=True)

    async def _stitch(self, plan: JobPlan) -> RenderJobResult:
        await self._rest_while_paused(JobPhase.RENDERING)
        chunks = self._rendering.scheduler
        order = StitchOrder(ref=plan.ref, missing=RangeSet((*chunks.failed, *chunks.left_out)).ranges)
        return await self._perform(
            lambda: workflow.start_activity_method(StitchActivities.stitch_job, order, **options.orchestration()),
            JobState.RUNNING,
            JobPhase.STITCHING,
        )

    async def _perform(
        self, start: Callable[[], workflow.ActivityHandle[Result]], state: JobState, phase: JobPhase
    ) -> Result:
        """Return what one activity makes: a pause lets it finish, `now` aborts it until the job goes on."""
        while True:
            step = self._step = start()
            step.add_done_callback(lambda _: self._wake())
            aborted = False
            while not step.done():
                _leave_if_cancelled()
                if self._orders.pause_mode is PauseMode.NOW and not aborted:
                    aborted = step.cancel()
                now = JobPhase.PAUSING if self._orders.paused else phase
                self._board.show(state, now, self._orders.control, mode=self._orders.pause_mode)
                await self._until_woken()
            _leave_if_cancelled()
            # What was told to stop is not retried by Temporal, whatever it ended with: it is begun anew.
            if not aborted or not (step.cancelled() or step.exception()):
                return await step
            await self._rest_while_paused(phase)

    async def _rest_while_paused(self, phase: JobPhase) -> None:
        while self._orders.paused:
            _leave_if_cancelled()
            self._board.show(JobState.PAUSED, phase, self._orders.control, mode=self._orders.pause_mode)
            await self._until_woken()
        _leave_if_cancelled()

    async def _stop_everything(self) -> None:
        """Stop all attempts and return when the last of their processes is gone."""
        self._board.show(self._board.status.state, JobPhase.CLEANING_UP, Control.STOP)
        if self._step is not None:
            self._step.cancel()
        if self._spans is not None:
            self._spans.cancel()
        # The cancel that was noticed by its flag may be delivered as an exception here, once.
        with suppress(asyncio.CancelledError):
            await workflow.wait_condition(self._is_idle)
        await workflow.wait_condition(self._is_idle)

    def _is_idle(self) -> bool:
        return (self._step is None or self._step.done()) and (self._spans is None or self._spans.idle)

    def _show_resting(self, spans: SpanRunner) -> None:
        # Failed chunks hold a job; a pause beside them is shown as what it is.
        holding = spans.holding and not self._orders.paused
        state, phase = JobState.PAUSED, JobPhase.HOLDING if holding else JobPhase.RENDERING
        if not spans.resting:
            state, phase = JobState.RUNNING, JobPhase.PAUSING
        control = Control.DRAIN if holding else self._orders.control
        error = why_failed(spans) if spans.holding else None
        orders = self._orders
        self._board.show(state, phase, control, mode=orders.pause_mode, freeze=orders.freeze, error=error)

    def _count(self, job: RenderJobSpec, plan: JobPlan) -> None:
        self._board.counted(**counts(job, plan, self._rendering))

    @property
    def _rendering(self) -> SpanRunner:
        assert self._spans is not None  # updates are refused, and chunks not joined, before they are rendered
        return self._spans

    def _wake(self) -> None:
        self._woken = True

    async def _until_woken(self) -> None:
        # Cancels are looked for beside being delivered: one that arrives together with another event can vanish
        # from the coroutine that waits (sdk-python issues 352 and 620).
        await workflow.wait_condition(lambda: self._woken or _cancelled())
        self._woken = False


def _cancelled() -> bool:
    return workflow.cancellation_reason() is not None


def _leave_if_cancelled() -> None:
    if _cancelled():
        raise asyncio.CancelledError

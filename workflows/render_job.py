"""RenderJob: the workflow that owns a job from its file to its film."""

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from activities.plan import PlanActivities
    from activities.stitch import StitchActivities
    from longtake.errors import BadJobError, ErrorType
    from longtake.job import FailurePolicy, RenderJobSpec
    from longtake.jobfile import read_job
    from longtake.names import RENDER_JOB_WORKFLOW, Control, check_job_id
    from longtake.ranges import shown
    from longtake.requests import PauseRequest, SetMaxParallel
    from longtake.status import JobMetrics, JobPhase, JobState, JobStatus, RenderJobResult
    from longtake.work import JobPlan, PlanOrder, StitchOrder
    from workflows import options
    from workflows.board import StatusBoard
    from workflows.counting import frames_done
    from workflows.spans import SpanRunner


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
        self._paused = False
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
            await self._rest_while_paused()
        except (asyncio.CancelledError, FailureError) as error:
            if _cancelled():
                await self._stop_everything()
                self._board.end(JobState.CANCELLED)
                raise asyncio.CancelledError from error
            if isinstance(error, FailureError):
                failure = _as_failure(error)
                self._board.end(JobState.FAILED, error=failure.message)
                raise failure from error
            raise
        self._board.end(JobState.COMPLETED, result=result)
        return result

    @workflow.signal
    def pause(self, request: PauseRequest | None = None) -> None:
        """Let running chunks finish and start no other; a paused job stays as it is."""
        self._paused = True
        self._wake()

    @workflow.signal
    def resume(self) -> None:
        """Go on with what is missing; a job that is not paused stays as it is."""
        self._paused = False
        self._wake()

    @workflow.query
    def status(self) -> JobStatus:
        """Return where the job stands."""
        return self._board.answer()

    @workflow.update
    def set_max_parallel(self, request: SetMaxParallel) -> int:
        """Change how many chunks render at once; running ones are not stopped."""
        assert self._spans is not None  # the validator saw to it
        self._spans.scheduler.limit = request.max_parallel
        self._board.counted(max_parallel=request.max_parallel)
        self._wake()
        return request.max_parallel

    @set_max_parallel.validator
    def _may_set_max_parallel(self, request: SetMaxParallel) -> None:
        if self._spans is None:
            raise ValueError("the job is not rendering yet; try again in a moment")

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
        planning = workflow.start_activity_method(PlanActivities.plan_job, order, **options.orchestration())
        plan = await self._perform(planning, JobState.PENDING, JobPhase.PLANNING)
        self._board.planned(plan)
        return plan

    async def _render(self, job: RenderJobSpec, plan: JobPlan) -> None:
        spans = self._spans = SpanRunner(job, plan, self._wake)
        chunks = spans.scheduler
        while not chunks.finished:
            _leave_if_cancelled()
            if chunks.failed_for_good and job.on_chunk_failure is FailurePolicy.FAIL:
                await self._stop_everything()
                break
            if self._paused:
                spans.drain()
                self._count(job, plan)
                self._show_paused(idle=spans.idle)
            else:
                spans.start_next()
                self._count(job, plan)
                self._board.show(JobState.RUNNING, JobPhase.RENDERING, Control.RUN)
            await self._until_woken()
        self._count(job, plan)
        if chunks.failed and not job.allow_gaps:
            raise ApplicationError(_why_failed(spans), type=ErrorType.JOB_FAILED, non_retryable=True)

    async def _stitch(self, plan: JobPlan) -> RenderJobResult:
        await self._rest_while_paused()
        assert self._spans is not None  # chunks are joined after they were rendered
        order = StitchOrder(ref=plan.ref, missing=self._spans.scheduler.failed)
        stitching = workflow.start_activity_method(StitchActivities.stitch_job, order, **options.orchestration())
        return await self._perform(stitching, JobState.RUNNING, JobPhase.STITCHING)

    async def _perform(self, step: workflow.ActivityHandle[Result], state: JobState, phase: JobPhase) -> Result:
        """Wait for one activity; a pause lets it finish, a cancel stops it."""
        self._step = step
        step.add_done_callback(lambda _: self._wake())
        while not step.done():
            _leave_if_cancelled()
            control = Control.DRAIN if self._paused else Control.RUN
            self._board.show(state, JobPhase.PAUSING if self._paused else phase, control)
            await self._until_woken()
        _leave_if_cancelled()
        return await step

    async def _rest_while_paused(self) -> None:
        while self._paused:
            _leave_if_cancelled()
            self._show_paused(idle=True)
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

    def _show_paused(self, *, idle: bool) -> None:
        state = JobState.PAUSED if idle else JobState.RUNNING
        self._board.show(state, JobPhase.RENDERING if idle else JobPhase.PAUSING, Control.DRAIN)

    def _count(self, job: RenderJobSpec, plan: JobPlan) -> None:
        assert self._spans is not None  # there is nothing to count before
        chunks = self._spans.scheduler
        self._board.counted(
            completed_chunks=chunks.done_count,
            completed_frames=frames_done(job, plan, chunks.done),
            failed_chunks=chunks.failed_count,
            running_chunks=len(chunks.running),
            failures=tuple(self._spans.failures),
            metrics=JobMetrics(render_seconds=self._spans.render_seconds, chunk_seconds=chunks.mean_seconds),
        )

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


def _why_failed(spans: SpanRunner) -> str:
    """Return one sentence that names the chunks, and the reason of one of them."""
    chunks = spans.scheduler
    told = min(spans.failures, key=lambda failure: failure.chunk, default=None)
    if told is None:
        return f"{chunks.failed_count} chunks failed ({shown(chunks.failed)})"
    tries = "try" if told.attempts == 1 else "tries"
    reason = f"chunk {told.chunk} failed after {told.attempts} {tries}: {told.error}"
    if chunks.failed_count == 1:
        return reason
    return f"{chunks.failed_count} chunks failed ({shown(chunks.failed)}); {reason}"


def _as_failure(error: FailureError) -> ApplicationError:
    """Return the error that ends the job: the sentence of an activity's, not "Activity task failed"."""
    cause = error.cause if isinstance(error, ActivityError) and error.cause else error
    if isinstance(cause, ApplicationError):
        return ApplicationError(cause.message, type=cause.type, non_retryable=True)
    return ApplicationError(f"{cause}", type=ErrorType.JOB_FAILED, non_retryable=True)

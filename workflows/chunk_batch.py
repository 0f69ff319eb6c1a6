"""The workflow `ChunkBatch`: render a share of the chunks of a job that is too large for one workflow."""

import asyncio
from contextlib import suppress

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.batches import BatchControl, BatchOrder, BatchReport, BatchRest
    from longtake.models.status import PauseMode, SkipChunks
    from longtake.names import (
        BATCH_CONTROL,
        BATCH_REST,
        CHUNK_BATCH_WORKFLOW,
        MEMO_CONTROL,
        MEMO_DONE,
        MEMO_FREEZE,
        Control,
    )
    from workflows.background import Background
    from workflows.farm_control import FarmTeller
    from workflows.history import HistoryBudget
    from workflows.scheduling import PauseState
    from workflows.spans import SpanRunner

_MOST_NOTICES = 20

# Progress is written 50 times at most.
_PROGRESS_STEP = 0.02


@workflow.defn(name=CHUNK_BATCH_WORKFLOW)
class ChunkBatch:
    """One batch: it cuts its chunks into spans as its job would, and returns what they have come to.

    It ends with its report when all its chunks are settled, when its job recalls or cancels it, when a failure is one
    that its job must hear of, and when its history is full: its job gives out anew what is left. However it ends, no
    process of it runs any more then.
    """

    @workflow.init
    def __init__(self, *inputs: object) -> None:
        self._is_woken = False
        self._is_stopping = False
        self._control = self._obeyed = BatchControl()
        self._history = HistoryBudget()
        self._history.is_bounded = True
        self._farm = FarmTeller()
        self._shown = (Control.RUN, 0)
        self._told = BatchRest(batch=workflow.info().workflow_id, freeze=0)
        self._background = Background()
        self._notices: list[str] = []
        self._done_before = self._shown_done = self._chunks = 0

    @workflow.run
    async def run(self, *inputs: object) -> BatchReport:
        """Render the chunks of a `BatchOrder`.

        Raises:
            ApplicationError: The input is none.
        """
        spans = self._begin(_read_order(inputs))
        while not (self._advance(spans) and spans.is_idle):
            # A cancel that was noticed by its flag may be delivered as an exception here, once.
            with suppress(asyncio.CancelledError):
                await workflow.wait_condition(lambda: self._is_woken or (_is_cancelled() and not self._is_stopping))
            self._is_woken = False
            spans.settle()
        # Who has the job's answer of before its end counts these.
        workflow.upsert_memo({MEMO_DONE: spans.scheduler.done_count - self._done_before})
        return BatchReport(
            chunks=spans.scheduler.save().model_copy(update={"left_out": ()}),
            totals=spans.totals.save(),
            failures=spans.failures,
            notices=tuple(self._notices),
        )

    def _begin(self, order: BatchOrder) -> SpanRunner:
        spans = SpanRunner(
            order.job,
            order.spans.plan,
            farm=self._farm,
            on_change=self._wake,
            on_notice=self._note,
            is_bounded=True,
            saved=order.spans,
        )
        spans.scheduler.limit = order.slots
        self._done_before = spans.scheduler.done_count
        self._chunks = sum(stop - start for start, stop in spans.scheduler.pending)
        return spans

    @workflow.signal(name=BATCH_CONTROL)
    def control(self, *inputs: object) -> None:
        """Take up the orders of the job, a `BatchControl`; one that cannot be read or is older is ignored."""
        with suppress(ValidationError):
            control = BatchControl.model_validate(inputs[0] if len(inputs) == 1 else None)
            if control.number > self._control.number:
                self._control = control
                self._wake()

    def _advance(self, spans: SpanRunner) -> bool:
        """Start, freeze or end what the orders ask for; return whether the batch ends when nothing of it runs."""
        control = self._control
        if control.left_out != self._obeyed.left_out:
            spans.leave_out(SkipChunks(chunks=control.left_out))
        self._obeyed = control
        self._show_progress(spans.scheduler.done_count - self._done_before, self._chunks)
        info = workflow.info()
        self._history.count(
            info.get_current_history_length(),
            spans.activity_count,
            has_more=spans.scheduler.has_more,
            is_suggested=info.is_continue_as_new_suggested(),
        )
        self._is_stopping = _is_cancelled() or self._history.must_stop or spans.has_too_many_failures
        if self._is_stopping:
            self._show(Control.STOP)
            spans.end()
        elif control.freeze:
            self._show(Control.FREEZE, control.freeze)
            spans.apply_pause(PauseState(PauseMode.FREEZE, control.freeze))
            if spans.is_at_rest:
                self._tell_rest(control.freeze, spans.frozen_count)
        elif control.is_recalled or self._history.is_closing or spans.is_holding:
            self._show(Control.DRAIN)
            spans.drain()
        else:
            self._show(Control.RUN)
            spans.start_spans(self._history.spans_left)
            return spans.is_finished
        return True

    def _show(self, control: Control, freeze: int = 0) -> None:
        """Give workers their orders, as a job does."""
        if (control, freeze) != self._shown:
            self._shown = (control, freeze)
            self._farm.tell(control, freeze)
            workflow.upsert_memo({MEMO_CONTROL: control.value, MEMO_FREEZE: freeze})

    def _show_progress(self, done: int, chunks: int) -> None:
        """Write how many chunks are done, for whoever asks for the status of the job; each time is an event."""
        if done - self._shown_done > chunks * _PROGRESS_STEP:
            self._shown_done = done
            workflow.upsert_memo({MEMO_DONE: done})

    def _tell_rest(self, freeze: int, frozen: int) -> None:
        """Tell the job that nothing of this batch runs."""
        rest = self._told.model_copy(update={"freeze": freeze, "frozen": frozen})
        parent = workflow.info().parent
        if rest != self._told and parent is not None:
            self._told = rest
            self._background.start(_signal(parent.workflow_id, rest))

    def _note(self, sentence: str) -> None:
        self._notices = [*self._notices, sentence][:_MOST_NOTICES]

    def _wake(self) -> None:
        self._is_woken = True


def _read_order(inputs: tuple[object, ...]) -> BatchOrder:
    try:
        return BatchOrder.model_validate(inputs[0] if len(inputs) == 1 else None)
    except ValidationError as error:
        message = f"{CHUNK_BATCH_WORKFLOW} is started by a job; submit one"
        raise ApplicationError(message, type=ErrorType.BAD_JOB, non_retryable=True) from error


def _is_cancelled() -> bool:
    return workflow.cancellation_reason() is not None


async def _signal(job_id: str, rest: BatchRest) -> None:
    # A job that has ended cancels its batches.
    with suppress(FailureError):
        await workflow.get_external_workflow_handle(job_id).signal(BATCH_REST, rest)

"""Run the batches of a job that has more running spans than one workflow can hold.

A batch is a share of the job's chunks, rendered by a workflow of its own (`workflows.chunk_batch`). Its job starts it,
tells it of pauses, and takes its report however it ends.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pydantic import ValidationError
from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from longtake.models.batches import BatchControl, BatchOrder, BatchReport, BatchRest
    from longtake.models.continuation import SavedSpans
    from longtake.models.job_fields import JobFields
    from longtake.models.messages import JobPlan
    from longtake.models.policies import FailurePolicy
    from longtake.models.status import SkipChunks
    from longtake.names import BATCH_CONTROL, CHUNK_BATCH_WORKFLOW, MEMO_CONTROL, MEMO_TELLS, Control, batch_id
    from longtake.ranges import RangeSet
    from workflows.background import Background
    from workflows.chunk_states import Span
    from workflows.scheduling import Scheduler


class Batch:
    """One batch that has not ended."""

    def __init__(self, span: Span, id: str) -> None:
        self.span = span
        self.id = id
        self.control = BatchControl()
        self.told = self.control
        self.is_cancelled = False
        self.frozen = BatchRest(batch=id, freeze=0)
        self.handle: workflow.ChildWorkflowHandle[object, BatchReport] | None = None


class BatchRunner:
    """Keeps the batches of a job.

    Args:
        job: The job as accepted.
        plan: The job as planned.
        scheduler: State of the job's chunks.
        on_ended: Called when a batch has ended, with the call that settles it.
        on_report: Called with the report of a batch, whose chunks are settled.
    """

    def __init__(
        self,
        job: JobFields,
        plan: JobPlan,
        scheduler: Scheduler,
        on_ended: Callable[[Callable[[], None]], None],
        on_report: Callable[[BatchReport], None],
    ) -> None:
        self._job = job
        self._plan = plan.model_copy(update={"done": (), "left_out": ()})
        self._scheduler = scheduler
        self._on_ended = on_ended
        self._on_report = on_report
        self._batches: dict[str, Batch] = {}
        self._freeze = 0
        self._background = Background()

    @property
    def count(self) -> int:
        """Number of batches that have not ended."""
        return len(self._batches)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the batches that have not ended, the first ones first."""
        return tuple(self._batches)

    @property
    def is_at_rest(self) -> bool:
        """Whether all batches stand frozen."""
        return all(each.frozen.freeze == self._freeze > 0 for each in self._batches.values())

    @property
    def frozen_count(self) -> int:
        """Number of chunks that stand frozen in batches, and stay so."""
        standing = (each.frozen for each in self._batches.values() if not each.is_cancelled)
        return sum(frozen.frozen for frozen in standing if frozen.freeze == self._freeze > 0)

    @property
    def ends_some(self) -> bool:
        """Whether batches are being ended."""
        return any(each.is_cancelled for each in self._batches.values())

    def start(self, span: Span, number: int) -> None:
        """Start a batch; it is cut already."""
        info = workflow.info()
        batch = Batch(span, batch_id(info.workflow_id, info.run_id, number))
        self._batches[batch.id] = batch
        chunks = self._scheduler.save_batch(span)
        order = BatchOrder(
            job=self._rules(),
            spans=SavedSpans(plan=self._plan, chunks=chunks),
            slots=span.slots,
        )
        self._background.start(self._render(batch, order))

    def _rules(self) -> JobFields:
        """Return the job without what only its store must tell, so that an order is small."""
        rules: dict[str, object] = {
            "chunks": None,
            "command": None,
            "env": {},
            "inputs": (),
            "rerender": None,
            "only": (),
        }
        if self._scheduler.has_passes_left:
            # The job goes over failed chunks when all others are rendered.
            rules |= {"on_chunk_failure": FailurePolicy.CONTINUE, "max_failed_chunks": None}
        retry = self._job.retry.model_copy(update={"job_attempts": 1})
        return self._job.model_copy(update={**rules, "retry": retry})

    async def _render(self, batch: Batch, order: BatchOrder) -> None:
        span = batch.span
        report: BatchReport | None = None
        # Ended by hand, or refused: what it has published is found when its chunks are given out again.
        with suppress(FailureError, asyncio.CancelledError):
            batch.handle = await workflow.start_child_workflow(
                CHUNK_BATCH_WORKFLOW,
                order,
                id=batch.id,
                result_type=dict,
                # A job that is ended from outside takes its renders along.
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                memo={MEMO_CONTROL: Control.RUN.value, MEMO_TELLS: True},
                static_summary=f"chunks {span.start}-{span.stop - 1}",
            )
            # What was ordered while it started.
            self._tell(batch)
            if batch.is_cancelled:
                batch.handle.cancel()
            result = await batch.handle
            with suppress(ValidationError):
                report = BatchReport.model_validate(result)
        self._on_ended(partial(self._settle, batch, report))

    def _settle(self, batch: Batch, report: BatchReport | None) -> None:
        del self._batches[batch.id]
        self._scheduler.finish_batch(batch.span, report.chunks if report else None)
        if report is not None:
            self._on_report(report)

    def recall(self, slots: int | None = None) -> None:
        """Have batches start no more chunks and come back; the latest first, until so many slots are to be free.

        Args:
            slots: How many; None means all.
        """
        for batch in reversed(self._batches.values()):
            if slots is not None and slots <= 0:
                break
            self._change(batch, is_recalled=True, freeze=0)
            if slots is not None:
                slots -= batch.span.slots

    def split(self) -> None:
        """Have batches give back what they have not begun."""
        for batch in self._batches.values():
            if batch.span.may_give_back:
                self._change(batch, is_recalled=True)

    def freeze(self, number: int) -> None:
        """Freeze all batches."""
        self._freeze = number
        for batch in self._batches.values():
            self._change(batch, freeze=number)

    def go_on(self) -> None:
        """Have frozen batches go on."""
        self._freeze = 0
        for batch in self._batches.values():
            self._change(batch, freeze=0)

    def leave_out(self, request: SkipChunks) -> None:
        """Have batches leave out what they hold of some chunks."""
        for batch in self._batches.values():
            if held := RangeSet(request.chunks).within(batch.span.start, batch.span.stop):
                self._change(batch, left_out=RangeSet((*batch.control.left_out, *held.ranges)).ranges)

    def cancel(self) -> None:
        """End all batches and what they render; each reports when nothing of it runs."""
        for batch in self._batches.values():
            if not batch.is_cancelled:
                batch.is_cancelled = True
                if batch.handle is not None:
                    batch.handle.cancel()

    def hear(self, rest: BatchRest) -> None:
        """Hear that a batch stands frozen."""
        if rest.batch in self._batches:
            self._batches[rest.batch].frozen = rest

    def _change(self, batch: Batch, **orders: object) -> None:
        changed = batch.control.model_copy(update=orders)
        if changed != batch.control:
            batch.control = changed.model_copy(update={"number": batch.control.number + 1})
            self._tell(batch)

    def _tell(self, batch: Batch) -> None:
        if batch.handle is None or batch.control == batch.told:
            return
        batch.told = batch.control
        self._background.start(self._signal(batch.handle, batch.control))

    async def _signal(self, handle: workflow.ChildWorkflowHandle[object, BatchReport], control: BatchControl) -> None:
        # One that has ended needs no orders.
        with suppress(FailureError):
            await handle.signal(BATCH_CONTROL, control)

"""Tell receivers of what happens to a job: `NotifyJob` delivers one event, and `Notifier` starts it for each."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, FailureError
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from longtake.errors import ErrorType
    from longtake.models.continuation import SavedNotifier
    from longtake.models.notify import (
        DeliveryOrder,
        DeliveryReport,
        FarmReceivers,
        JobEvent,
        Notification,
        NotifyOrder,
        NotifyReport,
        Receiver,
        make_sequence,
    )
    from longtake.models.status import ChunkFailure, JobPhase, JobState, JobStatus, RemoteStops
    from longtake.names import DELIVER, FIND_RECEIVERS, NOTIFY_WORKFLOW, make_message_id, notify_id
    from longtake.text import cut_middle, describe_invalid, escape_markdown
    from workflows import options
    from workflows.background import Background
    from workflows.requests import BadResultError, read_result

# Failed chunks are told together: the first at once, and then after pauses that double from a minute to an hour. Each
# event is some nine events of the history of its job, and thousands of chunks may fail.
_FIRST_PAUSE_SECONDS = 60
_LONGEST_PAUSE_SECONDS = 3600

# Of one run of a job, beside its end: a script that pauses and resumes a job for ever is told of so many pauses.
_MOST_EVENTS_OF_RUN = 60

# Of the status that travels with each event, to each receiver.
_MOST_FAILURES = 5
_LONGEST_ERROR = 500
_MOST_REQUESTS = 3

_ENDS = {
    JobState.COMPLETED: JobEvent.FINISHED,
    JobState.FAILED: JobEvent.FAILED,
    JobState.CANCELLED: JobEvent.CANCELLED,
}


@workflow.defn(name=NOTIFY_WORKFLOW)
class NotifyJob:
    """Delivers one event of a job to all its receivers, and outlives the job where one of them is away.

    It is a workflow of its own, so that no receiver delays or fails a job, and that deliveries that are tried for a day
    stand in no history of a job.
    """

    @workflow.run
    async def run(self, *inputs: object) -> NotifyReport:
        """Deliver the event that the input describes, and return what became of each delivery.

        Raises:
            ApplicationError: The input is no `NotifyOrder`.
        """
        try:
            (given,) = inputs
            order = NotifyOrder.model_validate(given)
        except ValueError as error:
            why = describe_invalid(error) if isinstance(error, ValidationError) else "it needs one input"
            raise ApplicationError(f"notify: {why}", type=ErrorType.BAD_JOB, non_retryable=True) from error
        deliveries = [DeliveryOrder(notification=order.notification, receiver=each) for each in order.receivers]
        if order.with_farm:
            found = await self._find_farm_receivers(order.notification)
            deliveries += [DeliveryOrder(notification=order.notification, farm=digest) for digest in found.digests]
        started = [(_name(each), self._start_delivery(each)) for each in deliveries]
        return NotifyReport(deliveries=tuple([await self._await_delivery(*each) for each in started]))

    async def _find_farm_receivers(self, notification: Notification) -> FarmReceivers:
        with suppress(ActivityError, BadResultError):
            result = await workflow.execute_activity(
                FIND_RECEIVERS, notification.event, result_type=RawValue, **options.delivery_options()
            )
            return read_result(FarmReceivers, result)
        return FarmReceivers()

    def _start_delivery(self, order: DeliveryOrder) -> workflow.ActivityHandle[RawValue]:
        return workflow.start_activity(
            DELIVER, order, result_type=RawValue, summary=_name(order), **options.delivery_options()
        )

    async def _await_delivery(self, name: str, delivery: workflow.ActivityHandle[RawValue]) -> DeliveryReport:
        try:
            return read_result(DeliveryReport, await delivery)
        except (ActivityError, BadResultError) as error:
            cause = error.cause if isinstance(error, ActivityError) and error.cause else error
            return DeliveryReport(receiver=name, error=cut_middle(f"{cause}", 1000))


def _name(order: DeliveryOrder) -> str:
    return order.receiver.label if order.receiver is not None else f"receiver {order.farm} of the farm"


class Notifier:
    """Starts a `NotifyJob` for each event of a job that somebody wants to be told of.

    The work of the job goes on meanwhile: only the end of a run waits until Temporal has taken the last ones.

    Args:
        before: What the run of the job before has told already.
    """

    def __init__(self, before: SavedNotifier | None = None) -> None:
        before = before or SavedNotifier()
        self._receivers: tuple[Receiver, ...] = ()
        # None until the job is planned: before, nobody knows what the farm's receivers want.
        self._farm_events: tuple[JobEvent, ...] | None = None
        self._has_started = before.has_started
        self._rest = before.rest
        self._failures_told, self._failure_events = before.failures_told, before.failure_events
        self._sequence = before.sequence
        self._failures = 0
        self._told = 0
        self._status: JobStatus | None = None
        self._pauses, self._starts = Background(), Background()
        self._open: list[workflow.ChildWorkflowHandle[NotifyJob, NotifyReport]] = []

    @property
    def open_count(self) -> int:
        """How many events are being delivered, whose ends are yet to come in the history."""
        self._open = [child for child in self._open if not _has_ended(child)]
        return self._starts.count + len(self._open)

    def expect(self, receivers: Sequence[Receiver], farm_events: Sequence[JobEvent] | None = None) -> None:
        """Take up who is to be told.

        Args:
            receivers: Those that the job names.
            farm_events: What the farm's own receivers want to be told of; None where that is not known yet.
        """
        self._receivers = tuple(receivers)
        self._farm_events = None if farm_events is None else tuple(farm_events)

    def save(self) -> SavedNotifier:
        """Return what the next run of the job has to know."""
        return SavedNotifier(
            has_started=self._has_started,
            rest=self._rest,
            failures_told=self._failures_told,
            failure_events=self._failure_events,
            sequence=self._sequence,
        )

    def observe(self, status: JobStatus) -> None:
        """Tell of what a status shows for the first time: a start, a pause, a hold or an end of the job."""
        self._status = status
        if (end := _ENDS.get(status.state)) is not None:
            self._tell_failures()
            self._tell(end)
        elif status.state is JobState.RUNNING and status.phase is JobPhase.RENDERING:
            self._rest = None
            if not self._has_started:
                self._has_started = True
                self._tell(JobEvent.STARTED)
        elif status.state is JobState.PAUSED:
            rest = JobEvent.HELD if status.phase is JobPhase.HOLDING else JobEvent.PAUSED
            if rest is not self._rest:
                self._rest = rest
                self._tell_failures()
                self._tell(rest)

    def observe_failures(self, status: JobStatus, count: int) -> None:
        """Tell of chunks that have failed for good, those of a while together.

        Args:
            status: The job, with its failed chunks.
            count: How many chunks have failed for good.
        """
        # Chunks that are taken up again may fail again.
        self._failures, self._failures_told = count, min(self._failures_told, count)
        self._status = status
        if not self._pauses.count:
            self._tell_failures()

    async def settle(self) -> None:
        """Return when Temporal has taken all that was told, so that nothing is lost with the end of this run."""
        self._tell_failures()
        await self._starts.wait()

    def _tell_failures(self) -> None:
        if self._failures <= self._failures_told or not self._wants(JobEvent.CHUNK_FAILED):
            return
        self._failures_told = self._failures
        if self._tell(JobEvent.CHUNK_FAILED):
            self._failure_events += 1
            if not self._pauses.count:
                self._pauses.start(self._wait_for_failures())

    async def _wait_for_failures(self) -> None:
        told = 0
        while told < self._failure_events:
            told = self._failure_events
            doubled = _FIRST_PAUSE_SECONDS * 2 ** min(told - 1, 16)
            await asyncio.sleep(min(doubled, _LONGEST_PAUSE_SECONDS))
            self._tell_failures()

    def _wants(self, event: JobEvent) -> bool:
        return self._is_for_farm(event) or any(event in receiver.on for receiver in self._receivers)

    def _is_for_farm(self, event: JobEvent) -> bool:
        # A job that ends before it is planned asks the farm's receivers by its notification.
        return event in (_ENDS.values() if self._farm_events is None else self._farm_events)

    def _tell(self, event: JobEvent) -> bool:
        """Start the delivery of an event; return whether somebody is told of it."""
        is_one_too_many = self._told >= _MOST_EVENTS_OF_RUN and event not in _ENDS.values()
        if is_one_too_many or not self._wants(event) or not workflow.patched("notify"):
            return False
        assert self._status is not None  # it shows the event
        self._told += 1
        # Several events of one moment differ, and those of a job that is started again under its id are later.
        self._sequence = max(self._sequence + 1, make_sequence(workflow.now()))
        info = workflow.info()
        order = NotifyOrder(
            notification=Notification(
                id=make_message_id(info.workflow_id, info.run_id, self._told),
                event=event,
                at=workflow.now(),
                sequence=self._sequence,
                status=_shorten(self._status),
            ),
            receivers=tuple(receiver for receiver in self._receivers if event in receiver.on),
            with_farm=self._is_for_farm(event),
        )
        self._starts.start(self._start(order))
        return True

    async def _start(self, order: NotifyOrder) -> None:
        told = order.notification
        # Where Temporal refuses the start, the job goes on all the same.
        with suppress(FailureError):
            child = await workflow.start_child_workflow(
                NotifyJob.run,
                args=[order],
                id=notify_id(workflow.info().workflow_id, told.id),
                parent_close_policy=ParentClosePolicy.ABANDON,
                cancellation_type=ChildWorkflowCancellationType.ABANDON,
                static_summary=f"{told.event} {escape_markdown(told.status.name)}",
            )
            self._open.append(child)


def _has_ended(child: "workflow.ChildWorkflowHandle[NotifyJob, NotifyReport]") -> bool:
    if child.done() and not child.cancelled():
        # What became of deliveries is no matter of the job; without this look asyncio would report an error as never
        # retrieved.
        child.exception()
    return child.done()


def _shorten(status: JobStatus) -> JobStatus:
    """Return what of a status travels with an event."""
    failures = [
        ChunkFailure(
            **failure.model_dump(include={"chunk", "start", "stop", "attempts", "host", "log"}),
            error=cut_middle(failure.error, _LONGEST_ERROR),
        )
        for failure in status.failures[:_MOST_FAILURES]
    ]
    error = None if status.error is None else cut_middle(status.error, 2 * _LONGEST_ERROR)
    return status.model_copy(
        update={
            "failures": tuple(failures),
            "error": error,
            "requests": status.requests[-_MOST_REQUESTS:],
            "running": (),
            "notices": (),
            "remote_stops": RemoteStops(),
        }
    )

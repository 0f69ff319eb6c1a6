"""The activity `find_waiting`: find the attempts of a draining job that have not begun."""

import asyncio
from datetime import timedelta
from typing import NoReturn

from temporalio import activity
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.activity_context import activity_edge, send_heartbeats
from longtake.describe import read_last_heartbeat
from longtake.errors import ErrorType
from longtake.models.messages import DrainOrder, DrainReport, Heartbeat, WaitingAttempt
from longtake.names import FIND_WAITING, RENDER_SPAN

# A freeze is carried out at once. Renders end when they end: asking more often would not make the job idle sooner.
_FREEZE_SECONDS = 1.0
_FIRST_ASK_SECONDS = 0.1
_ASK_SECONDS = 0.5

# Beyond this the look is left, and taken up again after a pause: a job that drains for hours would keep one of the
# worker's few slots, and twenty such jobs all planning and stitching of the farm. Renders freeze within a second.
_LOOK_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 10.0

# In a queue, or waiting for the next try; paused ones were paused by somebody in the Temporal UI.
_WAITING = (
    PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
)

# Each may bring the reasons of its failed chunks along, and a report must stay far below the limit of a payload.
_MOST_AT_ONCE = 100


class DrainActivities:
    """The activity that a draining job runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name=FIND_WAITING)
    async def find_waiting(self, order: DrainOrder) -> DrainReport:
        """Wait for renders of this job that are in a queue or wait for their next try, and return them.

        The job's memo says `drain` or `freeze` before this runs, and a render reads it before it begins: so none of
        those returned will ever render, and the job may take them back. The answer also comes as soon as no attempt is
        left that could wait, and where the job freezes, as soon as all that run stand still. Safe to repeat; ends by
        cancel when the job goes on.

        Raises:
            ApplicationError: `StillRendering`, retried: the job renders on, and this worker needs its slot.
        """
        async with activity_edge() as this, send_heartbeats(lambda: this.heartbeat):
            clock = asyncio.get_running_loop().time
            began = clock()
            while (looked := clock() - began) < _LOOK_SECONDS:
                report = await self._look(order)
                if report is not None:
                    return report
                await asyncio.sleep(_FIRST_ASK_SECONDS if looked < _FREEZE_SECONDS else _ASK_SECONDS)
            _leave_slot()

    async def _look(self, order: DrainOrder) -> DrainReport | None:
        """Return what the job may take back, or what is frozen; None while it renders on."""
        info = activity.info()
        # A batch of the job, perhaps.
        handle = self._client.get_workflow_handle(info.workflow_id or order.ref.id, run_id=info.workflow_run_id)
        description = await handle.describe()
        pending = description.raw_description.pending_activities
        renders = [each for each in pending if each.activity_type.name == RENDER_SPAN]
        # Of a job that goes on, what somebody has paused in the Temporal UI stays paused.
        states = _WAITING[:1] if order.once else _WAITING
        waiting = [await self._waiting(each) for each in renders if each.state in states]
        if waiting or not renders or order.once:
            return DrainReport(waiting=tuple(waiting[:_MOST_AT_ONCE]))
        heartbeats = [await self._heartbeat(each) for each in renders]
        if order.freeze and all(each is not None and each.frozen == order.freeze for each in heartbeats):
            return DrainReport(frozen=tuple(each.activity_id for each in renders))
        return None

    async def _waiting(self, pending: PendingActivityInfo) -> WaitingAttempt:
        due = pending.next_attempt_schedule_time
        return WaitingAttempt(
            activity_id=pending.activity_id,
            beat=await self._heartbeat(pending),
            next_try_at=due.ToMilliseconds() / 1000 if pending.HasField("next_attempt_schedule_time") else 0,
        )

    async def _heartbeat(self, pending: PendingActivityInfo) -> Heartbeat | None:
        return await read_last_heartbeat(pending, self._client.data_converter)


def _leave_slot() -> NoReturn:
    """End this attempt; the longer the job drains, the later the next one begins."""
    wait = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(activity.info().attempt, 8))
    raise ApplicationError(
        "chunks of the job still render; the look for those that wait goes on in a moment",
        type=ErrorType.STILL_RENDERING,
        next_retry_delay=timedelta(seconds=wait),
        # An end of an attempt that is meant: neither a warning in the log nor a failure in metrics.
        category=ApplicationErrorCategory.BENIGN,
    )

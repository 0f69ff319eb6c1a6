"""Draining a job: finding the attempts that have not begun, so that a pause need not wait for them."""

import asyncio
from datetime import timedelta

from temporalio import activity
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client

from activities.beating import beating
from longtake.work import DrainOrder, DrainReport, Heartbeat, WaitingAttempt

# Renders end when they end: asking more often would not make the job idle sooner.
_ASK_SECONDS = timedelta(seconds=1)

# Each may bring the reasons of its failed chunks along, and a report must stay far below the limit of a payload.
_MOST_AT_ONCE = 100


class DrainActivities:
    """Looks at what a draining job has outstanding."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn(name="find_waiting")
    async def find_waiting(self, order: DrainOrder) -> DrainReport:
        """Return the renders of this job that wait in a queue or for their next try, as soon as there are any.

        The job's memo says `drain` before this runs, and a render reads it before it begins: so none of those
        returned will ever render, and the job may take them back. Safe to repeat; ends by cancel when the job
        goes on or is idle.
        """
        info = activity.info()
        handle = self._client.get_workflow_handle(order.ref.id, run_id=info.workflow_run_id)
        async with beating():
            while True:
                description = await handle.describe()
                waiting = [
                    await self._waiting(pending)
                    for pending in description.raw_description.pending_activities
                    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
                    and pending.activity_type.name == "render_span"
                ]
                if waiting:
                    return DrainReport(waiting=tuple(waiting[:_MOST_AT_ONCE]))
                await asyncio.sleep(_ASK_SECONDS.total_seconds())

    async def _waiting(self, pending: PendingActivityInfo) -> WaitingAttempt:
        beat: Heartbeat | None = None
        if pending.HasField("heartbeat_details"):
            payloads = list(pending.heartbeat_details.payloads)
            (beat,) = await self._client.data_converter.decode(payloads, [Heartbeat])
        return WaitingAttempt(activity_id=pending.activity_id, beat=beat)

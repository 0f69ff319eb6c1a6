"""The activity `find_waiting`: find the attempts of a draining job that have not begun."""

import asyncio

from temporalio import activity
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client

from activities.activity_context import activity_edge, send_heartbeats
from longtake.describe import read_last_heartbeat
from longtake.models.messages import DrainOrder, DrainReport, Heartbeat, WaitingAttempt
from longtake.names import FIND_WAITING, RENDER_SPAN

# Renders end when they end: asking more often would not make the job idle sooner.
_ASK_SECONDS = 0.5

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
        those returned will ever render, and the job may take them back. Where the job freezes, the answer comes
        also as soon as all that run stand still. Safe to repeat; ends by cancel when the job goes on or is idle.
        """
        info = activity.info()
        handle = self._client.get_workflow_handle(order.ref.id, run_id=info.workflow_run_id)
        async with activity_edge(), send_heartbeats():
            while True:
                description = await handle.describe()
                pending = description.raw_description.pending_activities
                renders = [each for each in pending if each.activity_type.name == RENDER_SPAN]
                waiting = [await self._waiting(each) for each in renders if each.state in _WAITING]
                if waiting:
                    return DrainReport(waiting=tuple(waiting[:_MOST_AT_ONCE]))
                heartbeats = [await self._heartbeat(each) for each in renders]
                if (
                    order.freeze
                    and renders
                    and all(each is not None and each.frozen == order.freeze for each in heartbeats)
                ):
                    return DrainReport(frozen=tuple(each.activity_id for each in renders))
                await asyncio.sleep(_ASK_SECONDS)

    async def _waiting(self, pending: PendingActivityInfo) -> WaitingAttempt:
        return WaitingAttempt(activity_id=pending.activity_id, beat=await self._heartbeat(pending))

    async def _heartbeat(self, pending: PendingActivityInfo) -> Heartbeat | None:
        return await read_last_heartbeat(pending, self._client.data_converter)

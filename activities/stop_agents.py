"""The activity `stop_agents`: stop remote agents whose workers were lost."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.activity_context import activity_edge, open_job, send_heartbeats
from activities.attempts.host import Host
from activities.remote.agent_monitor import stop_agent
from activities.remote.call_records import ChunkCallRecords, LeftCalls, RemoteHost
from activities.remote.protocol import RemoteCall
from activities.stores.job_folder import OpenJob
from longtake.models.messages import StopAgentsOrder, StopAgentsReport
from longtake.models.status import RemoteStop
from longtake.names import STOP_AGENTS
from longtake.ranges import RangeSet
from longtake.stores.job_layout import chunk_key

_log = logging.getLogger(__name__)


class StopActivities:
    """The activity that stops remote agents whose workers were lost."""

    def __init__(self, host: Host, remote: RemoteHost) -> None:
        self._host = host
        self._remote = remote

    @activity.defn(name=STOP_AGENTS)
    async def stop_agents(self, order: StopAgentsOrder) -> StopAgentsReport:
        """Stop the agents of these chunks that may still work, and return the outcome for each.

        A worker that dies leaves its agents to the next attempt. Without another attempt they would work on. One that
        dies while it waits for the confirmation of a stop leaves that wait to this activity, and this activity to its
        own next attempt. Safe to repeat: an agent that has written its result is not asked again.
        """
        async with activity_edge() as this, send_heartbeats(lambda: this.heartbeat):
            job = await open_job(order.ref, self._host)
            reported = RangeSet(order.reported)
            stops = await asyncio.gather(
                *(
                    self._stop(job, chunk, order.since, is_reported=chunk in reported)
                    for chunk in RangeSet(order.chunks)
                )
            )
        return StopAgentsReport(stops=tuple(stop for found in stops for stop in found))

    async def _stop(self, job: OpenJob, chunk: int, since: datetime | None, *, is_reported: bool) -> list[RemoteStop]:
        """Stop the agents of a chunk; of a chunk whose stop is reported, only those that were not told to stop yet."""
        records = ChunkCallRecords(self._remote, job.folder, chunk_key(chunk))
        try:
            if is_reported:
                left = LeftCalls(tuple(await records.find_unfinished()))
            else:
                left = await records.find_left(since)
            stops = [RemoteStop(chunk=chunk, where=call.where, confirmed=True) for call in left.stopped]
            stops += await asyncio.gather(*(self._stop_agent(records, call, chunk) for call in left.at_work))
            return stops
        except OSError as error:
            _log.warning("job %s: chunk %d: its agents cannot be told to stop: %s", job.ref.id, chunk, error)
            limit = timedelta(seconds=job.job.chunk_limit_seconds)
            return [RemoteStop(chunk=chunk, ends_at=datetime.now(UTC) + limit)]

    async def _stop_agent(self, records: ChunkCallRecords, call: RemoteCall, chunk: int) -> RemoteStop:
        reason = "its worker was lost, and its job wants no more of it"
        seconds = self._remote.timeouts.stop_seconds
        return await stop_agent(records.calls, call, chunk=chunk, reason=reason, most_seconds=seconds)

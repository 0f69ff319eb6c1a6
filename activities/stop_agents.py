"""The activity `stop_agents`: stop remote agents whose workers were lost."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.activity_context import activity_edge, open_job, send_heartbeats
from activities.attempts.host import Host
from activities.remote.agent_monitor import stop_agent
from activities.remote.call_records import ChunkCallRecords, RemoteHost
from activities.stores.job_folder import OpenJob
from longtake.models.messages import StopAgentsOrder, StopAgentsReport
from longtake.models.status import RemoteStop
from longtake.names import STOP_AGENTS
from longtake.ranges import RangeSet
from longtake.stores.job_records import chunk_key

_log = logging.getLogger(__name__)


class StopActivities:
    """The activity that stops remote agents whose workers were lost."""

    def __init__(self, host: Host, remote: RemoteHost) -> None:
        self._host = host
        self._remote = remote

    @activity.defn(name=STOP_AGENTS)
    async def stop_agents(self, order: StopAgentsOrder) -> StopAgentsReport:
        """Stop the agents of these chunks that may still work, and return the outcome for each.

        A worker that dies leaves its agents to the next attempt. Without another attempt they would work on.
        Safe to repeat: an agent that has written its result is not asked again.
        """
        async with activity_edge(), send_heartbeats():
            job = await open_job(order.ref, self._host)
            stops = await asyncio.gather(*(self._stop(job, chunk) for chunk in RangeSet(order.chunks)))
        return StopAgentsReport(stops=tuple(stop for found in stops for stop in found))

    async def _stop(self, job: OpenJob, chunk: int) -> list[RemoteStop]:
        records = ChunkCallRecords(self._remote, job.folder, chunk_key(chunk))
        seconds = self._remote.timeouts.stop_seconds
        try:
            return [
                await stop_agent(
                    self._remote,
                    records.calls,
                    call,
                    chunk=chunk,
                    reason="its worker was lost, and its job wants no more of it",
                    most_seconds=seconds,
                )
                for call in await records.find_unfinished()
            ]
        except OSError as error:
            _log.warning("job %s: chunk %d: its agents cannot be told to stop: %s", job.ref.id, chunk, error)
            limit = timedelta(seconds=job.job.chunk_limit_seconds)
            return [RemoteStop(chunk=chunk, ends_at=datetime.now(UTC) + limit)]

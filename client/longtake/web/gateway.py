"""Hold what all requests of one server share: the client of the farm, what it read a moment ago, open stores."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, cast
from urllib.parse import unquote

from fastapi import Depends, Path, Request
from pydantic import AfterValidator

from longtake.client import RenderClient
from longtake.farm_overview import FarmOverview, read_farm
from longtake.handle import JobHandle
from longtake.models.status import JobState, JobStatus
from longtake.stored_logs import LogTexts
from longtake.web.authentication import Authenticator
from longtake.web.job_histories import JobHistories
from longtake.web.job_index import JobIndex, ListedJob
from longtake.web.job_sources import JobSources
from longtake.web.preview_media import Previews
from longtake.web.problems import TEMPORAL_AWAY, Problem, describe_problem
from longtake.web.published_files import PublishedFiles
from longtake.web.settings import WebSettings
from longtake.web.single_flight import SharedRead
from longtake.web.statuses import SharedStatuses
from longtake.web.stores import OpenStores

# How old what is told of hosts and queues may be.
_FARM_SECONDS = 2.0

# Reports that are written at once: that of a million chunks takes seconds and some hundred megabytes.
_MOST_REPORTS = 2

# Jobs whose running chunks are looked at for that, each by two or three calls.
_MOST_LOOKED_AT = 50
_AT_WORK = (JobState.PENDING, JobState.RUNNING, JobState.PAUSED)


class Gateway:
    """What all requests of one server share; it holds nothing that Temporal and the stores do not know.

    Args:
        farm: Client of the farm.
        settings: Settings of the server.
        task_queue: Queue of the workers.
    """

    def __init__(self, farm: RenderClient, settings: WebSettings, task_queue: str) -> None:
        self.farm = farm
        self.settings = settings
        self.task_queue = task_queue
        self.statuses = SharedStatuses(self._read_status)
        self.authenticator = Authenticator(settings)
        self.stores = OpenStores(settings.roots)
        self.sources = JobSources(settings.job_sources, settings.job_networks, self.stores)
        self.logs = LogTexts()
        self.histories = JobHistories()
        self.published = PublishedFiles()
        self.previews = Previews()
        self.jobs = JobIndex(farm.temporal, task_queue)
        self.overview = SharedRead(self._read_farm, fresh_seconds=_FARM_SECONDS)
        self.reports = asyncio.Semaphore(_MOST_REPORTS)
        # Set when the server ends: streams of events would hold it up.
        self.closing = asyncio.Event()
        self.away_since: datetime | None = None

    async def _read_status(self, job_id: str) -> JobStatus:
        status = await self.farm.job(job_id).status()
        self.away_since = None
        return status

    async def list_jobs(self) -> dict[str, ListedJob]:
        """Return all jobs by id, as they were at most a second ago."""
        jobs = await self.jobs.jobs()
        self.away_since = None
        return jobs

    async def _read_farm(self) -> FarmOverview:
        """Read the farm, with what the youngest jobs render that have not ended."""
        jobs = sorted((await self.list_jobs()).values(), key=lambda job: job.started, reverse=True)
        at_work = [job.status.id for job in jobs if job.status.state in _AT_WORK][:_MOST_LOOKED_AT]
        looks = (self.statuses.read(job_id) for job_id in at_work)
        found = await asyncio.gather(*looks, return_exceptions=True)
        running = [known.status for known in found if not isinstance(known, BaseException)]
        return await read_farm(self.farm.temporal, self.task_queue, running)

    def describe(self, error: Exception, *, instance: str = "") -> Problem:
        """Return the problem that an error is, with the time since when Temporal is away."""
        problem = describe_problem(error, instance=instance)
        if problem.type != TEMPORAL_AWAY:
            return problem
        self.away_since = self.away_since or datetime.now(UTC)
        return problem.model_copy(update={"since": self.away_since})


async def find_gateway(request: Request) -> Gateway:
    """Return what all requests of the server share."""
    return cast(Gateway, request.app.state.gateway)


Shared = Annotated[Gateway, Depends(find_gateway)]

# Paths are matched as they were sent, so that an id may hold a slash; a part of one is decoded here, once.
PathText = Annotated[str, Path(), AfterValidator(unquote)]


async def find_job(id: PathText, shared: Shared) -> JobHandle:
    """Return the handle of the job that a path names."""
    return shared.farm.job(id)


Job = Annotated[JobHandle, Depends(find_job)]

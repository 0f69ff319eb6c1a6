"""Hold what all requests of one server share: the client of the farm, what it read a moment ago, open stores."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, cast
from urllib.parse import unquote

from fastapi import Depends, Path, Request
from pydantic import AfterValidator

from longtake.client import RenderClient
from longtake.handle import JobHandle
from longtake.models.status import JobStatus
from longtake.web.authentication import Authenticator
from longtake.web.job_index import JobIndex, ListedJob
from longtake.web.problems import TEMPORAL_AWAY, Problem, describe_problem
from longtake.web.settings import WebSettings
from longtake.web.statuses import SharedStatuses
from longtake.web.stores import OpenStores


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
        self.statuses = SharedStatuses(self._read_status)
        self.authenticator = Authenticator(settings)
        self.stores = OpenStores(settings.roots)
        self.jobs = JobIndex(farm.temporal, task_queue)
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

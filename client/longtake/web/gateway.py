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
from longtake.web.job_index import JobIndex
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
        self.stores = OpenStores(settings.roots)
        self.jobs = JobIndex(farm.temporal, task_queue)
        # Set when the server ends: streams of events would hold it up.
        self.closing = asyncio.Event()
        self.away_since: datetime | None = None

    async def _read_status(self, job_id: str) -> JobStatus:
        return await self.farm.job(job_id).status()

    def note_away(self) -> datetime:
        """Note that Temporal did not answer; return since when."""
        self.away_since = self.away_since or datetime.now(UTC)
        return self.away_since

    def note_answer(self) -> None:
        """Note that Temporal has answered."""
        self.away_since = None


def find_gateway(request: Request) -> Gateway:
    """Return what all requests of the server share."""
    return cast(Gateway, request.app.state.gateway)


Shared = Annotated[Gateway, Depends(find_gateway)]

# Paths are matched as they were sent, so that an id may hold a slash; a part of one is decoded here, once.
PathText = Annotated[str, Path(), AfterValidator(unquote)]


def find_job(id: PathText, shared: Shared) -> JobHandle:
    """Return the handle of the job that a path names."""
    return shared.farm.job(id)


Job = Annotated[JobHandle, Depends(find_job)]

"""Routes that tell what becomes of jobs as it happens: server-sent events, which a client can take up where it left."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from longtake.web.event_stream import Event, EventStream
from longtake.web.gateway import Gateway, Job, Shared

router = APIRouter(tags=["events"])

LastEventId = Annotated[str | None, Header(max_length=100, description="id of the last event that arrived")]

# How the document of the API describes a stream.
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

# How often the list of all jobs is looked at for those who watch it.
_LIST_SECONDS = 1.0

# Another process may have seen a change a moment later, and who listens may have read the list a moment ago.
_OVERLAP_SECONDS = 5.0


@router.get("/jobs/events", response_class=Response, responses=_STREAM)
async def watch_jobs(shared: Shared, last_event_id: LastEventId = None) -> Response:
    """Tell each change of each job: `event: job` with its status, `event: gone` with its id."""
    since = time.time()
    if last_event_id and re.fullmatch(r"\d{1,12}(\.\d{1,6})?", last_event_id, re.ASCII):
        since = min(since, float(last_event_id))
    return EventStream(_tell_list(shared, since - _OVERLAP_SECONDS), shared.closing)


@router.get("/jobs/{id}/events", response_class=Response, responses=_STREAM)
async def watch_job(job: Job, shared: Shared, last_event_id: LastEventId = None) -> Response:
    """Tell the status of a job now and at each change: `event: status`; `event: end` when it has ended."""
    known = await shared.statuses.read(job.id)
    if known.status.state.has_ended and known.version == last_event_id:
        # What makes a browser ask no more.
        return Response(status_code=204)
    return EventStream(_tell_job(shared, job.id, last_event_id), shared.closing)


async def _tell_job(shared: Gateway, job_id: str, since: str | None) -> AsyncIterator[Event]:
    async for news in shared.statuses.watch(job_id, since=since):
        if isinstance(news, Exception):
            yield _tell_problem(shared, news)
            continue
        yield Event(news.body, "status", news.version)
        if news.status.state.has_ended:
            yield Event(b"{}", "end", news.version)


async def _tell_list(shared: Gateway, since: float) -> AsyncIterator[Event]:
    told: dict[str, float] = {}
    said = ""
    while True:
        try:
            jobs = await shared.list_jobs()
        except Exception as error:
            # A farm that is away is told once; the stream goes on when it is back.
            if said != str(error):
                said = str(error)
                yield _tell_problem(shared, error)
            await asyncio.sleep(_LIST_SECONDS)
            continue
        said = ""
        changed = [job for job in jobs.values() if job.changed_at > max(since, told.get(job.status.id, 0))]
        for job in sorted(changed, key=lambda job: job.changed_at):
            told[job.status.id] = job.changed_at
            yield Event(job.status.model_dump_json().encode(), "job", f"{job.changed_at:.3f}")
        await asyncio.sleep(_LIST_SECONDS)


def _tell_problem(shared: Gateway, error: Exception) -> Event:
    return Event(shared.describe(error).model_dump_json(exclude_none=True).encode(), "problem")

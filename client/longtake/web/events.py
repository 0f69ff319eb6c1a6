"""Routes that tell what becomes of jobs as it happens: server-sent events, which a client can take up where it left."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from longtake.errors import NoSuchJobError
from longtake.web.event_stream import Event, EventStream
from longtake.web.gateway import Gateway, Job, Shared
from longtake.web.job_index import ListedJob

router = APIRouter(tags=["events"])

LastEventId = Annotated[str | None, Header(max_length=100, description="id of the last event that arrived")]

# How the document of the API describes a stream.
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}

_STREAM_OF_ONE: dict[int | str, dict[str, Any]] = {
    **_STREAM,
    204: {"description": "the job has ended, and all was heard"},
}

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


@router.get("/jobs/{id}/events", response_class=Response, responses=_STREAM_OF_ONE)
async def watch_job(job: Job, shared: Shared, last_event_id: LastEventId = None) -> Response:
    """Tell the status of a job now and at each change: `event: status`; `event: end` when it has ended.

    `event: gone` with its id where its history is deleted meanwhile; that is the last event, too.
    """
    known = await shared.statuses.read(job.id)
    if known.status.state.has_ended and known.version == last_event_id:
        # What makes a browser ask no more.
        return Response(status_code=204)
    return EventStream(_tell_job(shared, job.id, last_event_id), shared.closing)


async def _tell_job(shared: Gateway, job_id: str, since: str | None) -> AsyncIterator[Event]:
    async for news in shared.statuses.watch(job_id, since=since):
        if isinstance(news, NoSuchJobError):
            # It was there when the stream began.
            yield _tell_gone(job_id)
            return
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
        changes: list[tuple[float, str, ListedJob | None]]
        changes = [(job.changed_at, job.status.id, job) for job in jobs.values()]
        changes += [(gone_at, job_id, None) for job_id, gone_at in shared.jobs.gone.items()]
        news = [change for change in changes if change[0] > max(since, told.get(change[1], 0))]
        for at, job_id, job in sorted(news, key=lambda change: change[:2]):
            told[job_id] = at
            event_id = f"{at:.3f}"
            if job is None:
                yield _tell_gone(job_id, event_id)
            else:
                yield Event(job.status.model_dump_json().encode(), "job", event_id)
        await asyncio.sleep(_LIST_SECONDS)


def _tell_gone(job_id: str, event_id: str | None = None) -> Event:
    return Event(json.dumps({"id": job_id}).encode(), "gone", event_id)


def _tell_problem(shared: Gateway, error: Exception) -> Event:
    return Event(shared.describe(error).model_dump_json(exclude_none=True).encode(), "problem")

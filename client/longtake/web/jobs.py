"""Routes for lists of jobs, and the status of one."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from longtake.errors import BadJobError
from longtake.models.status import JobState, JobStatus
from longtake.text import escape_text
from longtake.web.gateway import Job, Shared
from longtake.web.job_index import ListedJob

router = APIRouter(tags=["jobs"])

# What somebody must look at comes first.
_STATE_ORDER = [
    JobState.FAILED, JobState.PAUSED, JobState.RUNNING, JobState.PENDING, JobState.CANCELLED, JobState.COMPLETED,
]  # fmt: skip

# What a list can be sorted by, and what of a job that is.
_SORT_KEYS: dict[str, Callable[[JobStatus], Any]] = {
    "created": lambda job: job.created_at.timestamp() if job.created_at else 0.0,
    "updated": lambda job: job.updated_at.timestamp() if job.updated_at else 0.0,
    "name": lambda job: job.name.lower(),
    "id": lambda job: job.id,
    "progress": lambda job: job.progress,
    "state": lambda job: _STATE_ORDER.index(job.state),
    "eta": lambda job: job.eta_seconds if job.eta_seconds is not None else float("inf"),
}


class JobList(BaseModel):
    """One page of a list of jobs."""

    jobs: tuple[JobStatus, ...]
    next: str | None = Field(default=None, description="cursor of the next page; None at the end")
    counts: dict[str, int] = Field(description="number of jobs in each state, of all that the search finds")


@router.get("/jobs", response_model=JobList)
async def list_jobs(
    shared: Shared,
    state: Annotated[str, Query(description="states to list, with commas between", max_length=200)] = "",
    search: Annotated[str, Query(description="words that id or name hold", max_length=200)] = "",
    by: Annotated[str, Query(description="part of the name of who submitted them", max_length=200)] = "",
    sort: Annotated[
        str, Query(description="created, updated, name, id, progress, state or eta; - turns it")
    ] = "-created",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(description="cursor: `next` of the page before", max_length=2000)] = "",
) -> Response:
    """List jobs, the youngest first, as each last wrote itself down."""
    states = _read_states(state)
    key, is_turned = _SORT_KEYS.get(sort.lstrip("-")), sort.startswith("-")
    if key is None:
        raise BadJobError(
            f"sort: is '{escape_text(sort)}'; use one of {', '.join(_SORT_KEYS)}, with - before it to turn"
        )
    words = search.lower().split()
    known = await shared.list_jobs()
    found = [job.status for job in known.values() if _matches(job, words, by.lower())]
    counts = Counter(job.state.value for job in found)
    # The id decides between equals, so that a cursor has one place.
    rows = sorted(((key(job), job.id, job) for job in found if not states or job.state in states), reverse=is_turned)
    if after:
        place = _read_cursor(after)
        rows = [row for row in rows if (_is_after(row, place, is_turned))]
    page = rows[:limit]
    following = _make_cursor(page[-1]) if len(rows) > limit else None
    answer = JobList(jobs=tuple(row[2] for row in page), next=following, counts=dict(counts))
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/jobs/{id}", response_model=JobStatus)
async def get_status(job: Job, shared: Shared) -> Response:
    """Tell the status of a job, with the chunks that run now; at most half a second old."""
    known = await shared.statuses.read(job.id)
    return Response(known.body, media_type="application/json")


@router.get("/jobs/{id}/document")
async def get_document(job: Job) -> dict[str, Any]:
    """Return the job as it was submitted."""
    return await job.document()


def _read_states(text: str) -> set[JobState]:
    try:
        return {JobState(word.strip()) for word in text.split(",") if word.strip()}
    except ValueError as error:
        raise BadJobError(f"state: is '{escape_text(text)}'; use {', '.join(JobState)}, with commas between") from error


def _matches(job: ListedJob, words: list[str], by: str) -> bool:
    text = f"{job.status.id}\n{job.status.name}".lower()
    return all(word in text for word in words) and by in job.status.submitted_by.lower()


def _make_cursor(row: tuple[Any, ...]) -> str:
    return base64.urlsafe_b64encode(json.dumps(row[:2]).encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[Any, str]:
    try:
        value, job_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise BadJobError("after: is no cursor; take `next` of the page before") from error
    return value, str(job_id)


def _is_after(row: tuple[Any, ...], place: tuple[Any, str], is_turned: bool) -> bool:
    try:
        return bool(row[:2] < place) if is_turned else bool(row[:2] > place)
    except TypeError as error:
        raise BadJobError("after: is a cursor of another order; take `next` of the page before") from error

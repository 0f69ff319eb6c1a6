"""Routes that steer a job: pause, resume, cancel, retry, skip and its limit."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from longtake.models.status import JobStatus, PauseRequest, SetMaxParallel, SkipChunks
from longtake.ranges import Range
from longtake.web.gateway import Job, Shared
from longtake.web.sessions import MAY_STEER, By

router = APIRouter(tags=["steer"], dependencies=[MAY_STEER])


class RetryRequest(BaseModel):
    """What to render once more: failed chunks, or frames of a job that has ended."""

    chunks: tuple[Range, ...] = Field(
        default=(), description="ranges of failed or missing chunks; none means all of them"
    )
    frames: str | None = Field(default=None, max_length=10_000, description="frames of an ended job, as in 12-15,20")


class Changed(BaseModel):
    """What a request has changed."""

    changed: int = Field(description="number of chunks, or the limit in force")


@router.post("/jobs/{id}/pause")
async def pause(job: Job, shared: Shared, by: By, request: PauseRequest | None = None) -> JobStatus:
    """Start no further chunk until the job is resumed; the mode says what becomes of those that run."""
    await job.pause(mode=(request or PauseRequest()).mode, by=by)
    return (await shared.statuses.read_anew(job.id)).status


@router.post("/jobs/{id}/resume")
async def resume(job: Job, shared: Shared, by: By) -> JobStatus:
    """Let a paused job go on with what is missing, and one that holds try its failed chunks again."""
    await job.resume(by=by)
    return (await shared.statuses.read_anew(job.id)).status


@router.post("/jobs/{id}/cancel")
async def cancel(job: Job, shared: Shared, by: By) -> JobStatus:
    """End a job; it counts as cancelled when none of its processes is left."""
    await job.cancel(by=by)
    return (await shared.statuses.read_anew(job.id)).status


@router.post("/jobs/{id}/retry")
async def retry(job: Job, shared: Shared, by: By, request: RetryRequest | None = None) -> JobStatus:
    """Render what failed once more, or some frames of a job that has ended anew."""
    request = request or RetryRequest()
    await shared.farm.retry(job.id, chunks=request.chunks, frames=request.frames, by=by)
    shared.jobs.forget()
    return (await shared.statuses.read_anew(job.id)).status


@router.post("/jobs/{id}/skip")
async def skip(job: Job, shared: Shared, by: By, request: SkipChunks) -> Changed:
    """Leave chunks out of a job that has not ended."""
    changed = await job.skip_chunks(request.chunks, allow_gaps=request.allow_gaps, by=by)
    shared.statuses.forget(job.id)
    return Changed(changed=changed)


@router.put("/jobs/{id}/max-parallel")
async def set_max_parallel(job: Job, shared: Shared, by: By, request: SetMaxParallel) -> Changed:
    """Change how many chunks of a job render at once."""
    changed = await job.set_max_parallel(request.max_parallel, by=by)
    shared.statuses.forget(job.id)
    return Changed(changed=changed)

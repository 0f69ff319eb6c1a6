"""Routes for what became of each chunk."""

from typing import Any

from fastapi import APIRouter

from longtake.web.gateway import Job, Shared

router = APIRouter(tags=["chunks"])


@router.get("/jobs/{id}/chunks")
async def list_chunks(job: Job, shared: Shared) -> dict[str, Any]:
    """Tell the state of each chunk, in columns."""
    status = (await shared.statuses.read(job.id)).status
    return {"count": status.total_chunks}

"""Routes that take a job file: start it, or show what it would do."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from longtake.allowed_paths import check_job_paths
from longtake.chunks import ChunkPlan
from longtake.errors import BadJobError
from longtake.jobfile.loader import parse_document, read_job
from longtake.models.job import RenderJobSpec
from longtake.web.gateway import Gateway, Shared
from longtake.web.sessions import MAY_SUBMIT

router = APIRouter(tags=["submit"])

BaseDir = Annotated[str | None, Query(max_length=4096, description="folder that relative paths start from")]


@router.post("/jobs", status_code=201, dependencies=[MAY_SUBMIT])
async def submit(
    request: Request,
    shared: Shared,
    id: Annotated[str | None, Query(max_length=1000, description="name the job; the same id starts a job once")] = None,
    base_dir: BaseDir = None,
) -> Response:
    """Start a job. The body is a job file: YAML, or JSON with its content type."""
    job = await _read_body(request, shared, base_dir)
    handle = await shared.farm.submit(job, id=id)
    shared.jobs.forget()
    known = await shared.statuses.read_anew(handle.id)
    return Response(
        known.body,
        201 if handle.is_new else 200,
        headers={"Location": f"/api/v1/jobs/{quote(handle.id, safe='')}"},
        media_type="application/json",
    )


@router.post("/plan", dependencies=[MAY_SUBMIT])
async def plan(request: Request, shared: Shared, base_dir: BaseDir = None) -> dict[str, Any]:
    """Show the chunks of a job file and its first command; nothing is started."""
    job = await _read_body(request, shared, base_dir)
    chunks = ChunkPlan(job, ())
    return {"name": job.name, "total_chunks": len(chunks), "total_frames": chunks.frame_count}


async def _read_body(request: Request, shared: Gateway, base_dir: str | None) -> RenderJobSpec:
    raw = await request.body()
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().endswith("json")
    document = parse_document(raw, "job.json" if is_json else "job.yaml")
    if base_dir is not None:
        document.setdefault("base_dir", base_dir)
    if not document.get("base_dir") and not document.get("store"):
        raise BadJobError("base_dir: is missing, and relative paths start from it; name the folder of the job")
    document.setdefault("name", "job")
    job = read_job(document)
    check_job_paths(job, shared.settings.roots)
    return job

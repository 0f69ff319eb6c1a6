"""Routes that take a job file: start it, or show what it would do."""

import os
from contextlib import suppress
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.service import RPCError

from longtake.allowed_paths import check_job_paths
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError
from longtake.job_facts import collect_remote_facts, plan_job
from longtake.jobfile.loader import parse_document, read_job
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobStatus
from longtake.names import render_queue
from longtake.prices import Prices
from longtake.transfer.upload_inputs import needs_upload
from longtake.wait_reasons import explain_no_worker, find_workers
from longtake.web.gateway import Gateway, Shared
from longtake.web.job_sources import LONGEST_URL
from longtake.web.sessions import MAY_SUBMIT, By

router = APIRouter(tags=["submit"])

_NO_FOLDER = "base_dir: is not named, and relative paths start from the first folder of the workers (LONGTAKE_ROOTS)"

_WORKFLOWS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
_ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY

_JOB_FILE: dict[str, Any] = {
    "title": "JobFile",
    "type": "object",
    "description": "a job file, as docs/job-file.md tells",
    "additionalProperties": True,
}
_JOB_URL: dict[str, Any] = {
    "title": "JobUrl",
    "type": "object",
    "properties": {
        "url": {
            "type": "string",
            "maxLength": LONGEST_URL,
            "description": "where the job file is, in a place that the server's settings allow",
        }
    },
    "required": ["url"],
    "additionalProperties": False,
}

# How the document of the API describes a body that is a job file, or names one.
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"anyOf": [_JOB_URL, _JOB_FILE]}},
        },
    }
}

_STARTED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobStatus, "description": "the same job was there already, and nothing was started"},
    201: {
        "description": "it was started",
        "headers": {"Location": {"description": "address of its status", "schema": {"type": "string"}}},
    },
}

BaseDir = Annotated[str | None, Query(max_length=4096, description="folder that relative paths start from")]


@router.post(
    "/jobs",
    status_code=201,
    dependencies=[MAY_SUBMIT],
    response_model=JobStatus,
    responses=_STARTED,
    openapi_extra=_BODY,
)
async def submit(
    request: Request,
    shared: Shared,
    by: By,
    id: Annotated[str | None, Query(max_length=1000, description="name the job; the same id starts a job once")] = None,
    base_dir: BaseDir = None,
) -> Response:
    """Start a job. The body is a job file (YAML, or JSON with its content type), or `url` alone, which names one."""
    job = await _read_body(request, shared, base_dir)
    handle = await shared.farm.submit(job, id=id, by=by)
    shared.jobs.forget()
    known = await shared.statuses.read_anew(handle.id)
    return Response(
        known.body,
        201 if handle.is_new else 200,
        headers={"Location": f"/api/v1/jobs/{quote(handle.id, safe='')}"},
        media_type="application/json",
    )


class Plan(BaseModel):
    """What a job would do; `facts` has the keys of `longtake plan --json`."""

    facts: dict[str, Any]
    command: tuple[str, ...] = Field(description="command of the first chunk")
    total_chunks: int
    total_frames: int
    films: tuple[str, ...]
    warnings: tuple[str, ...] = Field(description="what would keep the job from going on as things are now")


@router.post("/plan", dependencies=[MAY_SUBMIT], openapi_extra=_BODY)
async def plan(request: Request, shared: Shared, base_dir: BaseDir = None) -> Plan:
    """Show the chunks of a job file, its first command and its films; start nothing. The body is as for a start."""
    job = await _read_body(request, shared, base_dir)
    planned = await run_in_thread(partial(plan_job, job))
    facts = planned.facts
    if planned.job.remote is not None:
        facts["remote"] = collect_remote_facts(
            planned.job, planned.job.remote, planned.chunks, None, Prices.from_environ(os.environ)
        )
    warnings = [] if job.base_dir or job.store else [_NO_FOLDER]
    queue = render_queue(shared.task_queue, job.backend_kind)
    for kind, name in ((_WORKFLOWS, shared.task_queue), (_ACTIVITIES, queue)):
        # A plan needs no server.
        with suppress(RPCError, RuntimeError):
            if not await find_workers(shared.farm.temporal, name, kind):
                warnings.append(explain_no_worker(name, job.backend_kind))
    return Plan(
        facts=facts,
        command=facts["command"],
        total_chunks=facts["total_chunks"],
        total_frames=facts["total_frames"],
        films=facts.get("films") or ([facts["output"]] if facts["output"] else []),
        warnings=tuple(warnings),
    )


async def _read_body(request: Request, shared: Gateway, base_dir: str | None) -> RenderJobSpec:
    """Return the job of a body: a job file, or the URL of one.

    Raises:
        BadJobError: It is none.
        ProblemError: The file is where nothing answers now.
    """
    raw = await request.body()
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().endswith("json")
    document = await run_in_thread(partial(parse_document, raw, "job.json" if is_json else "job.yaml"))
    # No job file has this key, and a file that was fetched leads no further.
    if "url" in document:
        if len(document) > 1:
            raise BadJobError("url: stands beside other keys; send the URL of a job file alone, or the job file itself")
        file = await shared.sources.fetch(document["url"])
        document = await run_in_thread(file.parse)
    return await run_in_thread(partial(_read_job, document, shared, base_dir))


def _read_job(document: dict[str, Any], shared: Gateway, base_dir: str | None) -> RenderJobSpec:
    """Return the job of a document. Blocking: the paths that it names are looked at.

    Raises:
        BadJobError: It is no job, or names files that it may not.
    """
    if base_dir is not None:
        document.setdefault("base_dir", base_dir)
    document.setdefault("name", "job")
    job = read_job(document)
    roots = shared.settings.roots
    # Whoever may submit may run programs on workers; what this host reads for them is another matter.
    reads_files = job.chunk_list is not None or (needs_upload(job) and isinstance(job.inputs, tuple) and job.inputs)
    if reads_files and not roots and not shared.authenticator.is_open:
        field = "chunks.path" if job.chunk_list is not None else "inputs"
        raise BadJobError(
            f"{field}: this server would have to read files of its host, and may not; start it with LONGTAKE_ROOTS, "
            "or submit the job by `longtake submit`"
        )
    check_job_paths(job, roots)
    return job

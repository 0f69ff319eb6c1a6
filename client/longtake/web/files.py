"""Routes for what lies in the store of a job: outputs, and their deletion."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from longtake.stores.job_records import JobRecords
from longtake.stores.stored_file import OutsideError, open_stored
from longtake.web.byte_range import send_file
from longtake.web.gateway import Job, Shared
from longtake.web.problems import ProblemError
from longtake.web.published_files import Output, find_outputs
from longtake.web.sessions import MAY_SUBMIT

router = APIRouter(tags=["files"])

_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "the bytes of the range", "content": {"application/octet-stream": {}}},
}


class OutputList(BaseModel):
    """One page of a list of outputs."""

    outputs: tuple[Output, ...]
    next: int | None = Field(default=None, description="`after` of the next page; None at the end")


class Deleted(BaseModel):
    """What a deletion has removed."""

    files: int = Field(description="number of published files that were removed")
    size_bytes: int
    records: int = Field(description="number of files of the job's own folder that were removed, logs included")
    left: tuple[str, ...] = Field(description="sentences on files that stay: of other jobs too, or changed since")
    aside: str | None = Field(description="folder with what was in the job's way, which stays")


@router.get("/jobs/{id}/outputs")
async def list_outputs(
    job: Job,
    shared: Shared,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, le=100_000_000, description="`next` of the page before")] = 0,
) -> OutputList:
    """List the files that a job has published: films first, then the outputs of chunks."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> list[Output]:
        return [output for output, _ in islice(find_outputs(records), after, after + limit + 1)]

    nothing: list[Output] = []
    found = await shared.stores.read(status, look, empty=nothing)
    return OutputList(outputs=tuple(found[:limit]), next=after + limit if len(found) > limit else None)


@router.get("/jobs/{id}/outputs/file", response_class=Response, responses=_BYTES)
@router.head("/jobs/{id}/outputs/file", include_in_schema=False)
async def read_output(
    job: Job,
    shared: Shared,
    request: Request,
    path: Annotated[str, Query(max_length=4096, description="path of an output, as the list has it")],
    chunk: Annotated[int | None, Query(ge=0, le=10_000_000, description="its chunk, which makes it quick")] = None,
) -> Response:
    """Return a file that a job has published, or a range of it."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> Response | None:
        for anew in (False, True):
            file = shared.published.find(records, path, chunk=chunk, anew=anew)
            if file is None:
                return None
            folders = [records.store.url, *map(str, shared.settings.roots)]
            try:
                found = open_stored(records.store, file.path, folders)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                continue
            except OutsideError:
                return None
            if found.size_bytes == file.size_bytes:
                etag = f'"{file.sha256}"'
                return send_file(found, request.headers, name=Path(file.path).name, etag=etag)
            found.close()
        raise ProblemError(409, f"{path} is not what {job.id} has published, or is gone", kind="changed-file")

    answer = await shared.stores.read(status, look)
    if answer is None:
        raise ProblemError(404, f"{job.id} has published no file of that path", kind="no-such-file")
    return answer


@router.delete("/jobs/{id}/files", dependencies=[MAY_SUBMIT])
async def delete_files(job: Job, shared: Shared) -> Deleted:
    """Remove the files of a job that has ended from its store; its history stays in Temporal. Safe to repeat."""
    status = (await shared.statuses.read_anew(job.id)).status
    if status.base_dir is not None:
        # As all that is read: not outside of the folders that this server may use.
        await shared.stores.read(status, lambda _: None)
    done = await job.stored.delete()
    return Deleted(
        files=done.files, size_bytes=done.size_bytes, records=done.records, left=done.left[:100], aside=done.aside
    )

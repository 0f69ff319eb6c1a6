"""Routes for what lies in the store of a job: outputs, and their deletion."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, Response

from longtake.stores.job_records import JobRecords, PublishedFile, find_film_number, path_in_store
from longtake.web.gateway import Job, Shared
from longtake.web.problems import ProblemError
from longtake.web.sessions import MAY_SUBMIT

router = APIRouter(tags=["files"])


class Output(BaseModel):
    """A file that a job has published."""

    path: str = Field(description="path below the job's store")
    size_bytes: int
    sha256: str
    chunk: int | None = Field(default=None, description="the chunk that made it; None: it is of the film")
    kind: str = Field(description="film or chunk")


class OutputList(BaseModel):
    """One page of a list of outputs."""

    outputs: tuple[Output, ...]
    next: int | None = Field(default=None, description="`after` of the next page; None at the end")


@router.get("/jobs/{id}/outputs")
async def list_outputs(
    job: Job,
    shared: Shared,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int, Query(ge=0, description="`next` of the page before")] = 0,
) -> OutputList:
    """List the files that a job has published: films first, then the outputs of chunks."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> list[Output]:
        return [output for output, _ in islice(_find_outputs(records), after, after + limit + 1)]

    found = await shared.stores.read(status, look)
    return OutputList(outputs=tuple(found[:limit]), next=after + limit if len(found) > limit else None)


@router.get("/jobs/{id}/outputs/file", response_class=Response)
async def read_output(
    job: Job, shared: Shared, path: Annotated[str, Query(max_length=4096, description="path of an output")]
) -> Response:
    """Return a file that a job has published; ranges may be asked for."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> PublishedFile | None:
        return next((file for output, file in _find_outputs(records) if output.path == path), None)

    file = await shared.stores.read(status, look)
    if file is None:
        raise ProblemError(404, f"{job.id} has published no file of that path", kind="no-such-file")
    return FileResponse(file.path)


@router.delete("/jobs/{id}/files", dependencies=[MAY_SUBMIT])
async def delete_files(job: Job) -> dict[str, Any]:
    """Remove the files of a job that has ended from its store; its history stays in Temporal."""
    return asdict(await job.stored.delete())


def _find_outputs(records: JobRecords) -> Iterator[tuple[Output, PublishedFile]]:
    """Yield the published files of a job that lie in its store; records that others wrote may name anything."""
    for record in (*records.film_records(), *records.finished_records()):
        is_film = find_film_number(record.key) is not None
        for file in record.files:
            path = path_in_store(records.store, file.path)
            if path is None:
                continue
            chunk = None if is_film else int(record.key)
            kind = "film" if is_film else "chunk"
            yield Output(path=path, size_bytes=file.size_bytes, sha256=file.sha256, chunk=chunk, kind=kind), file

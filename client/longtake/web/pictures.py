"""Routes for the small pictures that finished chunks leave: which there are, one of them, and one for lists of jobs."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from longtake.stores.job_layout import parse_picture_name
from longtake.stores.job_records import JobRecords
from longtake.stores.store import StoredFile
from longtake.stores.stored_file import OutsideError, open_stored
from longtake.web.byte_range import send_file
from longtake.web.gateway import Job, PathText, Shared
from longtake.web.problems import ProblemError

router = APIRouter(tags=["pictures"])

# Larger than any that a worker makes: whoever else may write there has no picture to show.
_MOST_BYTES = 8 * 2**20

_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}


class Picture(BaseModel):
    """Small picture of a frame of a finished chunk."""

    chunk: int
    frame: int
    name: str = Field(description="name in the address of the picture")
    version: str = Field(description="another one when the chunk is rendered anew; with `?v=` of it pictures are kept")


@router.get("/jobs/{id}/pictures")
async def list_pictures(job: Job, shared: Shared) -> list[Picture]:
    """List the pictures of a job, by chunk and frame; none where there are none yet, or the job wants none."""
    status = (await shared.statuses.read(job.id)).status
    nothing: list[Picture] = []
    found = await shared.stores.read(
        status, lambda records: [picture for picture, _ in _find_pictures(records)], empty=nothing
    )
    return sorted(found, key=attrgetter("chunk", "frame"))


@router.get("/jobs/{id}/pictures/{name}", response_class=Response, responses=_IMAGE)
async def read_picture(
    job: Job,
    shared: Shared,
    request: Request,
    name: PathText,
    v: Annotated[str, Query(max_length=40, description="`version` of the list: the answer never changes")] = "",
) -> Response:
    """Return a picture."""
    if parse_picture_name(name) is None:
        raise _no_such_picture(job.id)
    status = (await shared.statuses.read(job.id)).status
    answer = await shared.stores.read(
        status, lambda records: _send(records, f"{records.pictures_dir}/{name}", request, immutable=bool(v))
    )
    if answer is None:
        raise _no_such_picture(job.id)
    return answer


@router.get("/jobs/{id}/picture", response_class=Response, responses=_IMAGE)
async def read_poster(job: Job, shared: Shared, request: Request) -> Response:
    """Return the picture that stands for a job: the latest, and of a job that has ended one of its first third."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> Response | None:
        found = sorted(_find_pictures(records), key=lambda each: (each[0].chunk, each[0].frame))
        # Films often begin and end in black.
        best = found[len(found) // 3 :] if status.state.has_ended else []
        latest = sorted(found, key=lambda each: each[1].modified_ns, reverse=True)
        # What somebody else has put there may be none.
        answers = (_send(records, file.location, request) for _, file in (*best[:1], *latest[:4]))
        return next((answer for answer in answers if answer is not None), None)

    answer = await shared.stores.read(status, look)
    if answer is None:
        raise _no_such_picture(job.id)
    return answer


def _find_pictures(records: JobRecords) -> Iterator[tuple[Picture, StoredFile]]:
    for file in records.store.files(records.pictures_dir):
        place = parse_picture_name(file.name)
        if place is not None:
            version = f"{file.modified_ns:x}"
            yield Picture(chunk=place[0], frame=place[1], name=file.name, version=version), file


def _send(records: JobRecords, location: str, request: Request, *, immutable: bool = False) -> Response | None:
    """Return the answer with a picture; None where there is none, or what has its name is none."""
    try:
        file = open_stored(records.store, location, [records.pictures_dir], bookkeeping=True)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, OutsideError):
        return None
    if file.size_bytes > _MOST_BYTES:
        file.close()
        return None
    name = location.rpartition("/")[2]
    etag = f'"{file.modified_ns:x}-{file.size_bytes:x}"'
    return send_file(file, request.headers, name=name, etag=etag, immutable=immutable)


def _no_such_picture(job_id: str) -> ProblemError:
    return ProblemError(404, f"{job_id} has no such picture", kind="no-such-picture")

"""Routes for the logs of renderers: which there are, and their text, also while it grows."""

import re
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from longtake.stores.job_records import LOGS, JobRecords, find_film_number
from longtake.stores.store import StoredFile
from longtake.web.gateway import Job, PathText, Shared
from longtake.web.problems import ProblemError

router = APIRouter(tags=["logs"])

_LOG_NAME = re.compile(r"((\d{6,}|film(?:-\d+)?)\..+?\.log)(?:\.(\d{1,18}))?", re.ASCII)


class LogFile(BaseModel):
    """Log of one try."""

    key: str = Field(description="number of the chunk, or film, film-1")
    attempt: int = Field(description="number of the try, from 1; of those that have a log")
    name: str
    size_bytes: int


@router.get("/jobs/{id}/logs")
async def list_logs(job: Job, shared: Shared) -> list[LogFile]:
    """List the logs of a job."""
    status = (await shared.statuses.read(job.id)).status
    found = await shared.stores.read(status, _find_logs)
    return [log for log, _ in found]


@router.get("/jobs/{id}/chunks/{chunk}/logs/{attempt}", response_class=Response)
async def read_log(
    job: Job,
    shared: Shared,
    chunk: PathText,
    attempt: int,
    tail: Annotated[int | None, Query(ge=1, le=16 * 2**20, description="only so many bytes of its end")] = None,
) -> Response:
    """Return the log of one try of a chunk, or of `film`."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> bytes | None:
        for log, files in _find_logs(records):
            if log.key == chunk.lstrip("0").rjust(1, "0") and log.attempt == attempt:
                return b"".join(records.store.read(file.location) for file in files)
        return None

    data = await shared.stores.read(status, look)
    if data is None:
        raise ProblemError(404, f"there is no log of try {attempt} of {chunk} of {job.id}", kind="no-such-log")
    size = len(data)
    body = data[-tail:] if tail else data
    return Response(body, media_type="text/plain; charset=utf-8", headers={"X-Log-Size": str(size)})


def _find_logs(records: JobRecords) -> list[tuple[LogFile, list[StoredFile]]]:
    parts: dict[str, list[tuple[int, StoredFile]]] = {}
    for file in records.store.files(f"{records.path}/{LOGS}"):
        if match := _LOG_NAME.fullmatch(file.name):
            parts.setdefault(match[1], []).append((int(match[3] or 0), file))
    found = []
    numbers: dict[str, int] = {}
    for name, files in sorted(parts.items(), key=lambda each: min(file.modified_ns for _, file in each[1])):
        files.sort(key=lambda each: each[0])
        key = name.partition(".")[0]
        key = key if find_film_number(key) is not None else str(int(key))
        numbers[key] = numbers.get(key, 0) + 1
        size = files[-1][0] + files[-1][1].size_bytes
        log = LogFile(key=key, attempt=numbers[key], name=name, size_bytes=size)
        found.append((log, [file for _, file in files]))
    return found

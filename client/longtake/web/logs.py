"""Routes for the logs of renderers: which there are, and their text, also while it grows."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from longtake.stored_logs import LogTexts, StoredLog, find_logs
from longtake.stores.job_records import JobRecords
from longtake.text import format_bytes
from longtake.web.byte_range import ByteRange, UnsatisfiableError, parse_range, respond_unsatisfiable
from longtake.web.gateway import Job, Shared
from longtake.web.problems import ProblemError

router = APIRouter(tags=["logs"])

# Of a longer part the beginning is sent, or of a tail the end.
_MOST_BYTES = 16 * 2**20

_CHUNK = r"^([0-9]{1,9}|film(-[0-9]{1,9})?)$"

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class LogFile(BaseModel):
    """Log of one try."""

    chunk: str = Field(description="number of the chunk, or film, film-1")
    attempt: int = Field(description="number of the try among those that have a log, from 1")
    name: str
    size_bytes: int = Field(description="all that was printed; of very much, beginning and end are kept")
    modified_ns: int = Field(description="when it was last written, in ns since 1970")


@router.get("/jobs/{id}/logs")
async def list_logs(
    job: Job,
    shared: Shared,
    chunk: Annotated[str | None, Query(pattern=_CHUNK, description="only this one's")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> list[LogFile]:
    """List the logs of a job, in the order of chunks and tries; the film's come last."""
    status = (await shared.statuses.read(job.id)).status
    key = None if chunk is None else _find_key(chunk)
    nothing: list[StoredLog] = []
    found = await shared.stores.read(status, lambda records: find_logs(records, key), empty=nothing)
    return [describe_log(log) for log in found[:limit]]


def _find_key(chunk: str) -> str:
    """Return the key of a chunk that is named as in an address, or of a film."""
    return str(int(chunk)) if chunk.isdigit() else chunk


def describe_log(log: StoredLog) -> LogFile:
    """Return what a list tells of a log."""
    return LogFile(
        chunk=log.key, attempt=log.attempt, name=log.name, size_bytes=log.size_bytes, modified_ns=log.modified_ns
    )


@router.get("/jobs/{id}/chunks/{chunk}/logs/{attempt}", response_class=Response, responses=_TEXT)
async def read_log(
    job: Job,
    shared: Shared,
    chunk: Annotated[str, Path(pattern=_CHUNK, description="its number, or film")],
    attempt: Annotated[int, Path(ge=1, le=1_000_000, description="the try, from 1")],
    tail: Annotated[int | None, Query(ge=1, le=_MOST_BYTES, description="only so many bytes of its end")] = None,
    range: Annotated[str | None, Header(max_length=200, description="bytes=N-M, in all that was printed")] = None,
) -> Response:
    """Return what the renderer printed in one try of a chunk, or while a `film` was made.

    Offsets count in all that was printed, of which X-Log-Size tells the number of bytes so far: `Range: bytes=N-` asks
    for what was added. An answer to a range ends where bytes are no longer kept, and begins behind them.
    """
    status = (await shared.statuses.read(job.id)).status
    key = _find_key(chunk)

    def look(records: JobRecords) -> Response:
        log = next((log for log in find_logs(records, key) if log.attempt == attempt), None)
        if log is None:
            raise ProblemError(404, f"there is no log of try {attempt} of {chunk}", kind="no-such-log")
        try:
            part = parse_range(f"bytes=-{tail}" if tail else range, log.size_bytes)
        except UnsatisfiableError:
            return respond_unsatisfiable(log.size_bytes)
        if part is not None and tail is None:
            return _send_part(shared.logs, records, log, part)
        return _send_whole(shared.logs, records, log, part)

    return await shared.stores.read(status, look)


def _send_part(texts: LogTexts, records: JobRecords, log: StoredLog, part: ByteRange) -> Response:
    stop = min(part.stop, part.start + _MOST_BYTES)
    piece = texts.read(records, log, part.start, stop - part.start, stop=stop)
    if not piece.data:
        return respond_unsatisfiable(log.size_bytes)
    sent = ByteRange(piece.offset, piece.stop, log.size_bytes)
    return _send(piece.data, log, {"Content-Range": sent.content_range, "X-Log-Offset": str(piece.offset)}, 206)


def _send_whole(texts: LogTexts, records: JobRecords, log: StoredLog, part: ByteRange | None) -> Response:
    """Send all of a log that is kept, or its end; a line says where something is left out."""
    pieces: list[bytes] = []
    place = max(part.start if part else 0, 0)
    begins = place
    while place < log.size_bytes:
        piece = texts.read(records, log, place, _MOST_BYTES)
        if not piece.data:
            break
        if piece.offset > place:
            left_out = format_bytes(piece.offset - place)
            pieces.append(f"\n... {left_out} are left out here: it printed more than is kept\n".encode())
        pieces.append(piece.data)
        place = piece.stop
    return _send(b"".join(pieces), log, {"X-Log-Offset": str(begins)}, 200)


def _send(data: bytes, log: StoredLog, headers: dict[str, str], status: int) -> Response:
    # Never anything else than text, whatever a renderer prints.
    told = {**headers, "X-Log-Size": str(log.size_bytes), "Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(data, status, headers=told, media_type="text/plain; charset=utf-8")

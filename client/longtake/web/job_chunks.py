"""Routes for what became of each chunk: columns of all, details of one, failures by cause, hosts over time."""

import os
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from longtake.chunk_history import ChunkColumns, ChunkState
from longtake.chunks import Chunk
from longtake.failure_causes import FailureCause, group_failures
from longtake.job_facts import expand_command
from longtake.models.status import RunningChunk
from longtake.names import find_job_values
from longtake.render_timeline import FrameTimes, TimelineBar, make_timeline, measure_frame_times
from longtake.stored_logs import find_logs
from longtake.stores.job_layout import chunk_key, parse_picture_name
from longtake.stores.job_records import JobRecords
from longtake.stores.try_records import FailedTry, read_tries
from longtake.web.gateway import Job, Shared
from longtake.web.job_histories import JobHistory
from longtake.web.logs import LogFile, describe_log
from longtake.web.problems import ProblemError
from longtake.web.published_files import Output, find_chunk_files

router = APIRouter(tags=["chunks"])

# Frames and outputs of a chunk that are told one by one.
_MOST_TOLD = 1000


class ChunkPicture(BaseModel):
    """Small picture of a frame."""

    frame: int
    name: str


class ChunkDetail(BaseModel):
    """What became of one chunk."""

    chunk: int
    start: int = Field(description="number of its first frame")
    stop: int = Field(description="number after its last frame")
    frames: tuple[int, ...] = Field(description="numbers of its frames, the first thousand")
    state: ChunkState
    host: str = Field(description="where it was rendered, or is rendered now")
    render_seconds: float = 0
    cpu_seconds: float = 0
    peak_memory_bytes: float = 0
    published_at: datetime | None = None
    running: RunningChunk | None = Field(default=None, description="what its renderer tells now")
    tries: tuple[FailedTry, ...] = Field(default=(), description="those that failed, in the order of their ends")
    logs: tuple[LogFile, ...] = ()
    command: tuple[str, ...] = Field(description="its command, with the final place of its output")
    outputs: tuple[Output, ...] = Field(default=(), description="what it has published, the first thousand files")
    pictures: tuple[ChunkPicture, ...] = ()


class JobTimeline(BaseModel):
    """Which host has rendered what, and when."""

    bars: tuple[TimelineBar, ...]
    now: datetime


@router.get("/jobs/{id}/chunks", response_model=ChunkColumns)
async def list_chunks(job: Job, shared: Shared, request: Request) -> Response:
    """Tell what became of each chunk, in columns; with `If-None-Match` only what has changed since."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> Response:
        history = shared.histories.read(records, status).chunks
        tag = f'"{history.tag}-{history.unread}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        # A weak one, too: the columns may have been compressed.
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return _as_json(history.columns(), headers)

    empty = _as_json(ChunkColumns(count=0), {"Cache-Control": "private, no-cache"})
    return await shared.stores.read(status, look, empty=empty)


@router.get("/jobs/{id}/chunks/{chunk}")
async def get_chunk(job: Job, shared: Shared, chunk: Annotated[int, Path(ge=0, le=10_000_000)]) -> ChunkDetail:
    """Tell what became of one chunk: its frames, tries, logs, command, outputs and pictures."""
    status = (await shared.statuses.read(job.id)).status
    running = next((each for each in status.running if each.chunk == chunk), None)

    def look(records: JobRecords) -> ChunkDetail:
        history = shared.histories.read(records, status)
        if chunk >= len(history.chunks):
            raise ProblemError(404, f"{job.id} has {len(history.chunks):,} chunks, from 0", kind="no-such-chunk")
        return _collect(records, history, chunk, running)

    return await shared.stores.read(status, look)


@router.get("/jobs/{id}/failures")
async def list_failures(job: Job, shared: Shared) -> list[FailureCause]:
    """Tell why chunks have failed, by cause, with the lines that matter and what helps."""
    status = (await shared.statuses.read(job.id)).status

    def look(records: JobRecords) -> list[FailureCause]:
        history = shared.histories.read(records, status).chunks
        return list(
            group_failures(
                read_tries(records),
                status.failures,
                is_done=lambda chunk: chunk < len(history) and history.state(chunk) is ChunkState.DONE,
                frames=lambda chunk: history.frames(chunk) if chunk < len(history) else range(0),
            )
        )

    return await shared.stores.read(status, look, empty=[])


@router.get("/jobs/{id}/timeline")
async def get_timeline(
    job: Job,
    shared: Shared,
    since: Annotated[float, Query(ge=0, le=1e11, description="only what ended later, in seconds since 1970")] = 0,
) -> JobTimeline:
    """Tell which host has rendered what, and when: at most 5,000 bars, neighbours merged beyond."""
    status = (await shared.statuses.read(job.id)).status
    now = datetime.now(UTC)

    def look(records: JobRecords) -> JobTimeline:
        history = shared.histories.read(records, status).chunks
        bars = make_timeline(history, read_tries(records), status, now=now, since=since)
        return JobTimeline(bars=tuple(bars), now=now)

    return await shared.stores.read(status, look, empty=JobTimeline(bars=(), now=now))


@router.get("/jobs/{id}/frame-times")
async def get_frame_times(job: Job, shared: Shared) -> FrameTimes:
    """Tell how long frames took: their distribution, and the outliers."""
    status = (await shared.statuses.read(job.id)).status
    return await shared.stores.read(
        status,
        lambda records: measure_frame_times(shared.histories.read(records, status).chunks),
        empty=FrameTimes(),
    )


def _as_json(model: BaseModel, headers: dict[str, str]) -> Response:
    return Response(model.model_dump_json(), headers=headers, media_type="application/json")


def _collect(records: JobRecords, history: JobHistory, chunk: int, running: RunningChunk | None) -> ChunkDetail:
    facts, frames = history.chunks.facts, history.chunks.frames(chunk)
    key = chunk_key(chunk)
    published = facts.published_at[chunk]
    pictures = ((name, parse_picture_name(name)) for name in records.store.names(records.pictures_dir))
    told: dict[str, Any] = {
        "host": running.host if running is not None and running.host else history.chunks.host(chunk),
        "render_seconds": facts.render_seconds[chunk],
        "cpu_seconds": facts.cpu_seconds[chunk],
        "peak_memory_bytes": facts.peak_memory_bytes[chunk],
        "published_at": datetime.fromtimestamp(published, UTC) if published else None,
    }
    return ChunkDetail(
        chunk=chunk,
        start=frames[0] if frames else 0,
        stop=frames[-1] + 1 if frames else 0,
        frames=tuple(frames[:_MOST_TOLD]),
        state=history.chunks.state(chunk),
        running=running,
        tries=tuple(read_tries(records, chunk)),
        logs=tuple(describe_log(log) for log in find_logs(records, str(chunk))),
        command=_expand(records, history, chunk),
        outputs=tuple(output for output, _ in find_chunk_files(records, key)[:_MOST_TOLD]),
        pictures=tuple(
            ChunkPicture(frame=place[1], name=name) for name, place in pictures if place and place[0] == chunk
        ),
        **told,
    )


def _expand(records: JobRecords, history: JobHistory, number: int) -> tuple[str, ...]:
    """Return the command of a chunk as `longtake plan` shows that of the first."""
    job = history.job.fill_placeholders(find_job_values(records.job_id, history.job.started_at))
    plan = records.read_plan(job)
    if number >= len(plan):
        # The file of its list is gone.
        return ()
    chunk: Chunk = plan[number]
    return expand_command(chunk, "" if job.store is not None else job.base_dir or os.sep)

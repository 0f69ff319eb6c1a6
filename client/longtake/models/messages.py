"""Model the orders, reports and heartbeats between a workflow and its activities.

Each stays far below 1 KiB whatever the size of the job: activities read the job itself from its folder in the store.
"""

import json
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from longtake.models.fields import Contract
from longtake.models.job import RenderJobSpec
from longtake.models.notify import JobEvent
from longtake.models.status import ChunkFailure, JobStatus, RemoteStop
from longtake.ranges import Range, pack_ranges, unpack_ranges

# Of the details of a heartbeat, whatever stands in it.
MOST_HEARTBEAT_BYTES = 1024

# A span whose failed chunks take more in its heartbeats gives its rest back, and is cut anew.
MOST_GIVEN_UP_BYTES = 200

# A bitmap of the same takes more from there on.
_MOST_RANGES = 16


def _read_chunks(value: object) -> object:
    return unpack_ranges(value) if isinstance(value, str) else value


def _write_chunks(chunks: tuple[Range, ...]) -> tuple[Range, ...] | str:
    return chunks if len(chunks) <= _MOST_RANGES else pack_ranges(chunks)


# A set of chunks of a job, which may have any number of holes: as ranges, or as a bitmap where there are many.
Chunks = Annotated[
    tuple[Range, ...],
    BeforeValidator(_read_chunks),
    PlainSerializer(_write_chunks, return_type=tuple[Range, ...] | str),
]


class JobRef(Contract):
    """Reference to the accepted job in its store, for activities that read the job."""

    id: str
    base_dir: str = Field(
        description="absolute folder, or empty for a bucket; bookkeeping lies in `.longtake/<id>/` below it"
    )
    digest: str = Field(description="identity of the work; a folder with another one is not this job's")
    store: str = Field(default="", description="URL of the store, where it is not the folder `base_dir`")
    integrity: str = Field(
        default="", max_length=64, description="digest of all of job.json and list.json; empty: of an older worker"
    )

    @property
    def store_url(self) -> str:
        """URL of the store of the job: a folder, or `s3://bucket/prefix`."""
        return self.store or self.base_dir


class PlanOrder(Contract):
    """RenderJob to `plan_job`: accept a job."""

    id: str
    job: RenderJobSpec


class JobPlan(Contract):
    """`plan_job` to RenderJob: the job is accepted and written down."""

    ref: JobRef
    chunk_count: int
    frame_count: int
    done: Chunks = Field(default=(), description="chunks published before, which stay as they are")
    left_out: Chunks = Field(default=(), description="chunks that the film lacks (`film_only`)")
    search_attributes: bool = Field(default=True, description="the namespace has Longtake's search attributes")
    farm_events: tuple[JobEvent, ...] = Field(default=(), description="what receivers of every job are told of")


class SpanOrder(Contract):
    """RenderJob to `render_span`: render the chunks `[start, stop)` one after the other."""

    ref: JobRef
    start: int
    stop: int
    failures: int = Field(default=0, description="tries of the first chunk that failed already in this pass")
    losses: int = Field(default=0, description="workers lost in this pass while they rendered the first chunk")
    published: Chunks = Field(default=(), description="chunks of the span that are done and in the sums")
    split: int = Field(default=0, description="number of the last order to split; a later one ends it after a chunk")
    wait_seconds: float = Field(default=0, ge=0, description="what is left of the wait before the next try")


class ChunkBill(Contract):
    """Cost of all attempts so far at a chunk that is not published."""

    chunk: int
    seconds: float = 0
    usd: float = 0


class SpanReport(Contract):
    """`render_span` to RenderJob, as its result or in the details of its failure."""

    done: Chunks = Field(default=(), description="published chunks")
    failed: Chunks = Field(default=(), description="chunks that used up their attempts")
    failures: tuple[ChunkFailure, ...] = Field(default=(), description="why, for the first of them")
    left_failures: int = Field(default=0, description="failed tries of the first chunk given back")
    left_losses: int = Field(default=0, description="workers that were lost while they rendered that chunk")
    rendered: int = Field(default=0, description="chunks that this attempt rendered itself")
    render_seconds: float = Field(default=0, description="what those took together")
    cpu_seconds: float = Field(default=0, description="CPU time of their processes")
    peak_memory_bytes: int = Field(default=0, description="most memory that one of them had")
    billed_seconds: float = Field(default=0, description="what remote attempts of published chunks are billed for")
    cost_usd: float = Field(default=0, description="what that costs")
    open_bills: tuple[ChunkBill, ...] = Field(default=(), description="of failed and stopped chunks; the latest counts")
    stops: tuple[RemoteStop, ...] = Field(default=(), description="remote attempts that were told to stop")
    notices: tuple[str, ...] = Field(default=(), description="what people should know of published chunks; some")


class Heartbeat(Contract):
    """`render_span` to its own next attempt and to clients: the progress of the span; so do `plan_job` and others.

    It travels several times a second for each chunk that runs, and stays in the memory of the server: what is as usual
    is left out, and texts are cut until it has 1 KiB (`MOST_HEARTBEAT_BYTES`).
    """

    chunk: int
    frames: int = 0
    frames_done: int = 0
    attempt: int = Field(default=1, description="try of this chunk in this pass")
    failures: int = Field(default=0, description="failed tries of this chunk in this pass")
    losses: int = Field(default=0, description="workers that were lost in this pass while they rendered this chunk")
    number: int = Field(default=0, description="number of the activity's attempt that sends it; 0: an older worker's")
    ended: bool = Field(default=False, description="that attempt has come to its end; without that, it was lost")
    unexpected: int = Field(default=0, description="attempts of the activity that an unexpected error has ended")
    given_up: Chunks = Field(default=(), description="earlier chunks of the span that failed for good")
    reasons: tuple[ChunkFailure, ...] = Field(default=(), description="why, for the first of them")
    host: str = ""
    failed_on: tuple[str, ...] = Field(default=(), description="hosts of those failed tries, the latest last")
    throttled: int = Field(default=0, description="how often the service had no room for it, in a row")
    away: int = Field(default=0, description="how often a try of it was lost to a store or disk that is away, in a row")
    avoid: tuple[str, ...] = Field(default=(), description="hosts that should not try it again")
    given_back: int = Field(default=0, description="how often such a host passed it on")
    frozen: int = Field(default=0, description="number of the freeze that was carried out; 0 when it runs")
    rendered: int = Field(default=0, description="chunks of the span that are published and were not before it")
    span_frames: int = Field(default=0, description="frames of those")
    render_seconds: float = Field(default=0, description="what those took together")
    billed_seconds: float = Field(default=0, description="what the span's published chunks are billed for")
    cost_usd: float = Field(default=0, description="what that costs")
    message: str = Field(default="", max_length=400, description="what the renderer says it is doing")
    cpu_seconds: float = Field(default=0, description="CPU time of its processes so far")
    memory_bytes: int = Field(default=0, description="memory of its processes now")
    io_bytes: int = Field(default=0, description="bytes its processes have read and written so far")

    @model_serializer(mode="wrap")
    def _write_briefly(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        written = {name: fields[name] for name in fields if name == "chunk" or getattr(self, name) != _usual(name)}
        for shorten in _SHORTER:
            if _count_bytes(written) <= MOST_HEARTBEAT_BYTES:
                break
            shorten(written)
        return written


def _usual(name: str) -> object:
    return Heartbeat.model_fields[name].default


def _count_bytes(written: object) -> int:
    return len(json.dumps(written, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace"))


def _cut(text: str, most_bytes: int) -> str:
    """Cut a text so that it has so many bytes as JSON, in which a control character has six."""
    while _count_bytes(text) > most_bytes + 2:
        text = text[: len(text) * 3 // 4]
    return text


def _cut_message(written: dict[str, Any]) -> None:
    if "message" in written:
        written["message"] = _cut(written["message"], 120)


def _cut_reasons(written: dict[str, Any]) -> None:
    """Keep why the first chunk has failed; the report has more, unless the worker is lost before it."""
    if reasons := written.get("reasons"):
        first = {key: value for key, value in reasons[0].items() if key in ("chunk", "start", "stop", "attempts")}
        written["reasons"] = [{**first, "error": _cut(reasons[0]["error"], 120)}]


def _cut_hosts(written: dict[str, Any]) -> None:
    """Forget hosts but the latest: they are asked again."""
    for name, most in (("failed_on", 6), ("avoid", 3)):
        if name in written:
            written[name] = [_cut(host, 24) for host in written[name][-most:]]


def _cut_host(written: dict[str, Any]) -> None:
    if "host" in written:
        written["host"] = _cut(written["host"], 24)


def _drop_texts(written: dict[str, Any]) -> None:
    for name in ("message", "reasons"):
        written.pop(name, None)


# What a heartbeat loses first.
_SHORTER = (_cut_message, _cut_reasons, _cut_hosts, _cut_host, _drop_texts)


class DrainOrder(Contract):
    """RenderJob to `find_waiting`: find the attempts that have not begun or are frozen."""

    ref: JobRef
    freeze: int = Field(default=0, description="number of the freeze to look for; 0 when there is none")
    once: bool = Field(default=False, description="the job goes on: answer at once, also with nothing")


class WaitingAttempt(Contract):
    """Activity that waits for a worker."""

    activity_id: str
    beat: Heartbeat | None = Field(default=None, description="the last word of the attempt before, if there was one")
    next_try_at: float = Field(default=0, description="when its next try is due, in seconds since 1970; 0: at once")


class DrainReport(Contract):
    """`find_waiting` to RenderJob: attempts that the job can take back at once, and those that are frozen."""

    waiting: tuple[WaitingAttempt, ...] = ()
    frozen: tuple[str, ...] = Field(default=(), description="activity ids of attempts that stand frozen")


class StopAgentsOrder(Contract):
    """RenderJob to `stop_agents`: stop the agents of workers that were lost."""

    ref: JobRef
    chunks: Chunks = Field(description="chunks whose activities have ended without a word of their agents")
    reported: Chunks = Field(default=(), description="those of them whose activities have reported a stop")
    since: AwareDatetime | None = Field(default=None, description="stops of before are of a pause that is over")


class StopAgentsReport(Contract):
    """`stop_agents` to RenderJob: the stopped agents."""

    stops: tuple[RemoteStop, ...] = Field(default=(), description="what became of each agent that may have worked")


class StitchOrder(Contract):
    """RenderJob to `stitch_job`: prove all outputs and make the film."""

    ref: JobRef
    missing: Chunks = Field(default=(), description="chunks that failed and are left out (`allow_gaps`)")


class TrialOrder(Contract):
    """RenderJob to `try_film`: make the beginning of the film of a chunk that is proven."""

    ref: JobRef
    chunk: int = Field(description="number of the chunk")


class TrialReport(Contract):
    """`try_film` to RenderJob: nothing stands against the film."""


class ReportOrder(Contract):
    """RenderJob to `write_report`: write the report of a job that has ended."""

    ref: JobRef
    status: JobStatus = Field(description="how the job has ended")


class ReportPlace(Contract):
    """`write_report` to RenderJob: where the report is."""

    location: str


class FarmOrder(Contract):
    """RenderJob to FarmControl, whose history all workers of the farm follow: the job's orders have changed."""

    job: str = Field(description="id of the job")
    run: str = Field(description="run of its workflow")
    control: str = Field(description="what its memo says under `longtake_control`")
    freeze: int = Field(default=0, description="what its memo says under `longtake_freeze`")
    events: int = Field(
        default=0, description="length of the job's history from which on its memo says so; 0 of older workflows"
    )

"""Model the status of a job, and the requests that clients and operators send to it."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from longtake.models.backends import BackendKind
from longtake.models.fields import Contract
from longtake.ranges import Range

# Characters of the name of a person or program: a user and a host, or an address of e-mail.
MOST_BY = 200


class PauseMode(StrEnum):
    """Ways of a pause to treat running chunks; of two pauses the harder one holds.

    `drain` lets running chunks finish. `freeze` stops their processes, which later continue exactly where they were and
    keep their slots. `now` ends them; verified frames are kept.
    """

    DRAIN = "drain"
    FREEZE = "freeze"
    NOW = "now"

    def is_harder_than(self, other: "PauseMode") -> bool:
        """Tell whether this mode overrides the other."""
        order = list(PauseMode)
        return order.index(self) > order.index(other)


class JobRequest(Contract):
    """Argument of a request to a job, which says on whose behalf a program sends it."""

    by: str = Field(default="", max_length=MOST_BY, description="person or program that asks; empty where untold")


class SignalledRequest(JobRequest):
    """Argument of a request that is an update where a worker answers, and a signal where none does.

    Its fields are all those that only programs give.
    """

    # Not in the schema, which is for people and callers of the API.
    update_id: SkipJsonSchema[str] = Field(
        default="", max_length=100, description="id of the update that the signal stands in for; empty in the update"
    )


class PauseRequest(SignalledRequest):
    """Argument of the signal `pause`, which may also be sent without one."""

    mode: PauseMode = PauseMode.DRAIN

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        # A mere name is accepted, because people write `--input '"freeze"'` by hand.
        return {"mode": value} if isinstance(value, str) else value


class ResumeRequest(SignalledRequest):
    """Argument of the signal `resume`, which may also be sent without one."""


class SetMaxParallel(JobRequest):
    """Argument of the update `set_max_parallel`."""

    max_parallel: int = Field(ge=1, le=10_000)


class RetryFailed(JobRequest):
    """Argument of the update `retry_failed`."""

    chunks: tuple[Range, ...] = Field(default=(), description="ranges of failed chunks; none means all of them")


class SkipChunks(JobRequest):
    """Argument of the update `skip_chunks`."""

    chunks: tuple[Range, ...] = Field(min_length=1, description="ranges of chunks that will not be rendered")
    allow_gaps: bool = Field(default=False, description="make the film without them")


class RequestRecord(Contract):
    """Request that a job has followed: the answer to the question of who has paused it."""

    what: str = Field(description="`pause`, `resume`, `cancel`, `retry`, `skip` or `set_max_parallel`")
    detail: str = Field(default="", max_length=80, description="mode of the pause, chunks, limit, reason of the cancel")
    by: str = Field(default="", max_length=MOST_BY, description="person or program that asked; empty where untold")
    at: datetime


# Whoever asks for a status reads each, and so as much as of a job of 500 running chunks without batches.
MOST_BATCHES = 5


class JobState(StrEnum):
    """States of a job."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended: completed, failed or cancelled."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class JobPhase(StrEnum):
    """Phases of a job, finer than its states."""

    PLANNING = "planning"
    RENDERING = "rendering"
    PAUSING = "pausing"
    HOLDING = "holding"
    STITCHING = "stitching"
    CLEANING_UP = "cleaning_up"
    ENDED = "ended"


class ChunkFailure(Contract):
    """Chunk that used up its attempts; sent by a worker to the workflow, and by the workflow to clients."""

    chunk: int = Field(ge=0)
    start: int = Field(default=0, description="number of its first frame")
    stop: int = Field(default=0, description="number after its last frame")
    attempts: int = Field(default=1, description="how often it was tried in this pass")
    error: str = Field(default="", max_length=4000, description="one sentence, with the lines of the log that matter")
    host: str = Field(default="", description="where it was tried last")
    log: str = Field(default="", description="path of the last try's log in the store")
    needs_change: bool = Field(default=False, description="only another job file mends it: it was tried once")


class RunningChunk(Contract):
    """Chunk that is rendered or waits for its next try, by the last heartbeat of its activity."""

    chunk: int
    frames: int = 0
    frames_done: int = 0
    span_frames: int = Field(default=0, description="frames of chunks before it in its span, which are published")
    attempt: int = 1
    host: str = ""
    waiting: bool = Field(default=False, description="it stands in a queue or waits for its next try")
    error: str = Field(default="", description="what went wrong with the try before this one")
    frozen: bool = Field(default=False, description="its processes stand where a freeze stopped them")
    message: str = Field(default="", description="what the renderer says it is doing")
    cpu_seconds: float = Field(default=0, description="CPU time of its processes so far")
    memory_bytes: int = Field(default=0, description="memory of its processes now")
    io_bytes: int = Field(default=0, description="bytes its processes have read and written so far")
    began: datetime | None = Field(default=None, description="when the try of its span began")


class FilmResult(Contract):
    """One of several films of a completed job."""

    output: str = Field(description="absolute path of the film")
    sha256: str
    size_bytes: int = 0
    frames: int = 0
    duration_seconds: float | None = Field(default=None, description="length of the film")
    proof: str = Field(default="", description="which pictures of the film were decoded and compared")


class RenderJobResult(Contract):
    """Result of a completed job."""

    output: str | None = Field(default=None, description="absolute path of the film, or the first; None without one")
    sha256: str | None = Field(default=None, description="digest of the film")
    size_bytes: int | None = None
    frames: int = Field(default=0, description="frames of the film, or of all chunks")
    duration_seconds: float | None = Field(default=None, description="length of the film")
    image_proof: str = Field(
        default="", description="how image files are proven, the weakest: `pixels`, `structure` or `content`"
    )
    missing_chunks: tuple[tuple[int, int], ...] = Field(
        default=(), description="ranges left out by `allow_gaps`, the first 50"
    )
    missing_count: int = Field(default=0, description="how many chunks that is; 0 where an older worker made it")
    proof: str = Field(default="", description="which pictures of the film were decoded and compared")
    unproven: tuple[str, ...] = Field(
        default=(), max_length=20, description="what could not be proven, or has no place in the film's container"
    )
    note: str = Field(default="", description="what is worth knowing of it: that nothing was rendered")
    films: tuple[FilmResult, ...] = Field(default=(), description="all films of a job with several, the first included")
    others: str = Field(default="", max_length=4000, description="what a merge command made besides the film; kept")


class RemoteStop(Contract):
    """Remote attempt that was asked to stop."""

    chunk: int
    where: str = Field(default="", description="the function or service")
    confirmed: bool = Field(default=False, description="the agent has said that nothing of it runs any more")
    seconds: float = Field(default=0, description="time from the order to stop to that word, or to giving up on it")
    ends_at: datetime | None = Field(default=None, description="when its platform ends it, where it was not confirmed")


class RemoteStops(Contract):
    """Summary of the remote attempts that a job asked to stop since it was last started or resumed."""

    where: str = Field(default="", description="the function or service")
    confirmed: int = 0
    slowest_seconds: float = Field(default=0, description="longest time until a confirmation")
    unconfirmed_count: int = 0
    unconfirmed: tuple[RemoteStop, ...] = Field(default=(), max_length=20, description="the first that never answered")


class JobMetrics(Contract):
    """Times, memory and cost of a job, summed over its attempts."""

    render_seconds: float = Field(default=0, description="time spent in attempts that succeeded, over all workers")
    chunk_seconds: float | None = Field(default=None, description="what one chunk took, on average")
    cpu_seconds: float = Field(default=0, description="CPU time of the processes of those attempts")
    peak_memory_bytes: int = Field(default=0, description="most memory that the processes of one attempt had")
    billed_seconds: float = Field(default=0, description="what remote attempts are billed for, failed ones included")
    cost_usd: float = Field(default=0, description="what that costs, by the workers' price table")


class JobStatus(Contract):
    """Status of a job at one moment; the fields are those of `longtake status --json`."""

    id: str
    folder: str = Field(default="", description="name of its folder in the store, below .longtake")
    name: str = ""
    state: JobState = JobState.PENDING
    phase: JobPhase = JobPhase.PLANNING
    pause_mode: PauseMode | None = Field(default=None, description="the pause in force; None when there is none")
    progress: float = Field(default=0.0, ge=0, le=100, description="per cent of frames; 100 when completed only")
    progress_at: datetime | None = Field(default=None, description="when progress was counted")
    total_chunks: int = 0
    completed_chunks: int = 0
    failed_chunks: int = 0
    skipped_chunks: int = Field(default=0, description="published before this run began, and not rendered again")
    running_chunks: int = 0
    frozen_chunks: int = Field(default=0, description="chunks whose processes a freeze stopped where they stood")
    left_out_chunks: int = Field(default=0, description="chunks that were skipped on request and are not in the film")
    left_out: tuple[Range, ...] = Field(default=(), description="ranges of these chunks, the first 50")
    total_frames: int = 0
    completed_frames: int = 0
    waiting_for: str | None = Field(
        default=None, description="why it does not go on, with the fix: no worker, or none that can run it"
    )
    error: str | None = None
    needs_change: bool = Field(default=False, description="only another job file mends the error: no retry does")
    created_at: datetime | None = None
    submitted_by: str = Field(
        default="", description="person or program that submitted it, as user@host; empty where untold"
    )
    started_at: datetime | None = Field(
        default=None, description="when it was started first, which a retry keeps: what {date} and {time} stand for"
    )
    updated_at: datetime | None = None
    result: RenderJobResult | None = None
    metrics: JobMetrics = JobMetrics()
    eta_seconds: float | None = Field(default=None, description="time to go, from measured chunks; None when unknown")
    max_parallel: int = 0
    backend: BackendKind = BackendKind.LOCAL
    base_dir: str | None = Field(default=None, description="the store, as the workers see it: a folder or s3:// URL")
    remote_stops: RemoteStops = RemoteStops()
    failures: tuple[ChunkFailure, ...] = Field(default=(), description="the first failed chunks, at most 20")
    running: tuple[RunningChunk, ...] = Field(default=(), description="what is rendered now; told by heartbeats")
    batches: tuple[str, ...] = Field(
        default=(), description="workflows that render shares of a job with many chunks at once; the first 5"
    )
    notices: tuple[str, ...] = Field(
        default=(), description="requests that were ignored, and files besides outputs; the last 5"
    )
    requests: tuple[RequestRecord, ...] = Field(
        default=(), description="requests that were followed, with their time and on whose behalf; the last 20"
    )

"""Model what one run of a job hands over to the next, which has an empty history."""

from datetime import datetime
from typing import Any

from pydantic import Field

from longtake.models.fields import Contract
from longtake.models.messages import ChunkBill, Chunks, JobPlan
from longtake.models.notify import JobEvent
from longtake.models.status import ChunkFailure, JobMetrics, JobStatus, PauseMode, RemoteStops

# The one key of such an input: a job file has none of this name.
CONTINUES = "longtake_continues"


class ChunkTries(Contract):
    """Failed tries of a chunk in this pass, and workers that were lost while they rendered it."""

    chunk: int
    failures: int = 0
    losses: int = 0
    next_try_at: float = Field(default=0, description="when the next try is due, in seconds since 1970; 0: at once")


class SavedChunks(Contract):
    """Where each chunk of a job stands: one that is in no set here is pending."""

    done: Chunks = Field(default=(), description="published chunks")
    failed: Chunks = Field(default=(), description="chunks that used up their tries in this pass")
    left_out: Chunks = Field(default=(), description="chunks that were skipped on request")
    tries: tuple[ChunkTries, ...] = Field(default=(), max_length=2000, description="of pending chunks")
    passes_left: int = Field(default=0, ge=0)
    measured: int = Field(default=0, ge=0, description="chunks that were measured")
    seconds: float = Field(default=0, ge=0, description="what those took together")
    means: dict[int, float] = Field(default_factory=dict, description="seconds of a chunk by region of the job")


class SavedTotals(Contract):
    """Sums of the reports of a job's spans."""

    sums: JobMetrics = JobMetrics()
    stops: RemoteStops = RemoteStops()
    open_bills: tuple[ChunkBill, ...] = Field(default=(), max_length=2000, description="of chunks not published")


class SavedSpans(Contract):
    """What the render of a job has come to."""

    plan: JobPlan = Field(description="the job as planned; its chunks stand in `chunks`")
    chunks: SavedChunks
    totals: SavedTotals = SavedTotals()
    failures: tuple[ChunkFailure, ...] = Field(default=(), max_length=20)
    is_held: bool = False
    allow_gaps: bool = False
    started: int = Field(default=0, description="activities that were started so far; their ids count on")
    film_is_tried: bool = Field(default=False, description="the trial of the film has ended well, or is not wanted")


class SavedNotifier(Contract):
    """What receivers were told of a job."""

    has_started: bool = Field(default=False, description="it was told that the job has started")
    rest: JobEvent | None = Field(default=None, description="the pause or the hold that was told last and still holds")
    failures_told: int = Field(default=0, ge=0, description="failed chunks that were told of")
    failure_events: int = Field(default=0, ge=0, description="events that told of failed chunks")
    sequence: int = Field(default=0, ge=0, description="of the event that was told last")


class JobContinuation(Contract):
    """RenderJob to its next run: all that the job has come to, so that nothing of it is lost with the history."""

    job: dict[str, Any] = Field(description="the job as it was submitted")
    started_at: datetime = Field(description="when the job was started first")
    status: JobStatus = Field(description="as it is shown; counts of chunks and reasons stand elsewhere")
    ran_seconds: float = Field(default=0, description="how long the job has rendered; for the estimate of its end")
    spans: SavedSpans | None = Field(default=None, description="None before the job is planned")
    max_parallel: int | None = Field(default=None, description="as an update has set it; None: as the job says")
    pause_mode: PauseMode | None = Field(default=None, description="the pause in force")
    freezes: int = Field(default=0, description="freezes so far: their numbers count on")
    runs: int = Field(default=1, description="runs of the job before this one")
    notifier: SavedNotifier = SavedNotifier()

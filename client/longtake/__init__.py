"""Longtake: durable distributed rendering on Temporal.

A calling service needs `RenderClient` and `RenderJobSpec`; see docs/architecture.md for what stands behind them.
"""

from longtake.client import RenderClient
from longtake.errors import (
    BadJobError,
    JobCancelledError,
    JobEndedError,
    JobExistsError,
    JobFailedError,
    JobNotEndedError,
    LongtakeError,
    NoSuchJobError,
    NotReachableError,
    StoreUnusableError,
    UndecodedPayloadError,
)
from longtake.handle import JobHandle
from longtake.jobfile.loader import load_job, read_job
from longtake.models.films import FilmItem, FilmSpec
from longtake.models.frames import ChunkSpec, FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.outputs import OutputSpec
from longtake.models.policies import FailurePolicy, FailureRule, ProgressSpec, ResumeUnit, Retry, Timeouts, Verdict
from longtake.models.status import (
    ChunkFailure,
    FilmResult,
    JobPhase,
    JobState,
    JobStatus,
    PauseMode,
    RenderJobResult,
    RunningChunk,
)

__all__ = [
    "BadJobError",
    "ChunkFailure",
    "ChunkSpec",
    "FailurePolicy",
    "FailureRule",
    "FilmItem",
    "FilmResult",
    "FilmSpec",
    "FrameRange",
    "JobCancelledError",
    "JobEndedError",
    "JobExistsError",
    "JobFailedError",
    "JobHandle",
    "JobNotEndedError",
    "JobPhase",
    "JobState",
    "JobStatus",
    "LongtakeError",
    "NoSuchJobError",
    "NotReachableError",
    "OutputSpec",
    "PauseMode",
    "ProgressSpec",
    "RenderClient",
    "RenderJobResult",
    "RenderJobSpec",
    "ResumeUnit",
    "Retry",
    "RunningChunk",
    "StoreUnusableError",
    "Timeouts",
    "UndecodedPayloadError",
    "Verdict",
    "load_job",
    "read_job",
]

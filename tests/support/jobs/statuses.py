"""Statuses as a server would tell them: of a job that renders, and of one that renders on Lambda."""

from datetime import UTC, datetime, timedelta

from longtake.models.backends import BackendKind
from longtake.models.status import JobPhase, JobState, JobStatus

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NOON = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)


def job_status(frames: int = 0, **fields: object) -> JobStatus:
    """Make the status of a running job of 100 frames in 10 chunks, of which so many frames are done."""
    known = {
        "id": "job-1",
        "state": JobState.RUNNING,
        "phase": JobPhase.RENDERING,
        "total_frames": 100,
        "total_chunks": 10,
        "completed_frames": frames,
        "completed_chunks": frames // 10,
        "progress": float(frames),
        "created_at": BEGAN,
        "updated_at": BEGAN,
    }
    return JobStatus.model_validate(known | fields)


def lambda_job_status(state: JobState = JobState.RUNNING, **fields: object) -> JobStatus:
    """Make the status of a job on Lambda, twelve seconds after its start at noon."""
    known: dict[str, object] = {
        "id": "job-1",
        "state": state,
        "phase": JobPhase.RENDERING,
        "backend": BackendKind.LAMBDA,
        "created_at": NOON,
        "updated_at": NOON + timedelta(seconds=12),
    }
    return JobStatus.model_validate(known | fields)

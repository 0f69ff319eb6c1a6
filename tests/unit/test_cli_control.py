"""What a request to a job has brought about, in one line."""

import pytest
from support.jobs.statuses import job_status

from longtake.cli.control import describe_effect
from longtake.models.status import ChunkFailure, JobPhase, JobState, PauseMode

HOLDING = job_status(
    20,
    state=JobState.PAUSED,
    phase=JobPhase.HOLDING,
    failed_chunks=3,
    failures=tuple(ChunkFailure(chunk=n, error="no licence") for n in (3, 8, 9)),
)


@pytest.mark.parametrize(
    ("fields", "mode", "words"),
    [
        ({"phase": JobPhase.PAUSING, "running_chunks": 2}, PauseMode.DRAIN, "job-1 is pausing: 2 chunks finish first"),
        ({"phase": JobPhase.PAUSING, "running_chunks": 1}, PauseMode.DRAIN, "job-1 is pausing: 1 chunk finishes first"),
        ({"phase": JobPhase.PAUSING, "running_chunks": 2}, PauseMode.FREEZE, "job-1 is pausing: 2 chunks to freeze"),
        ({"phase": JobPhase.PAUSING, "running_chunks": 1}, PauseMode.NOW, "job-1 is pausing: 1 chunk to stop"),
        ({"phase": JobPhase.PAUSING}, PauseMode.NOW, "job-1 is pausing"),
        ({"state": JobState.PAUSED, "frozen_chunks": 3}, PauseMode.FREEZE, "job-1 is paused at 20 %, 3 chunks frozen"),
        ({"state": JobState.PAUSED}, PauseMode.DRAIN, "job-1 is paused at 20 %"),
        ({"phase": JobPhase.CLEANING_UP, "running_chunks": 1}, PauseMode.DRAIN, "is being cancelled: 1 chunk to stop"),
    ],
)
def test_what_a_request_has_brought_about_is_one_line(fields: dict[str, object], mode: PauseMode, words: str) -> None:
    assert describe_effect(job_status(20, **fields), mode).endswith(words)


def test_a_job_that_holds_is_told_by_pause_and_resume_too() -> None:
    assert "mend the cause" in describe_effect(HOLDING, PauseMode.DRAIN)

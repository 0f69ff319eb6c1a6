"""Watching a job until its end, while the server comes and goes."""

import json
from datetime import timedelta

import pytest
from support.jobs.statuses import BEGAN, job_status

from longtake.cli.submit import follow_job
from longtake.cli.views import JsonView, LineView
from longtake.errors import NotReachableError
from longtake.models.status import JobPhase, JobState, JobStatus

Captured = pytest.CaptureFixture[str]


class Scripted:
    """A job that answers as it is told, one look after the other."""

    def __init__(self, *looks: JobStatus | NotReachableError) -> None:
        self._looks = list(looks)

    async def status(self) -> JobStatus:
        look = self._looks.pop(0)
        if isinstance(look, NotReachableError):
            raise look
        return look


async def test_watching_goes_on_while_the_server_is_away_and_says_so_once(capsys: Captured) -> None:
    away, done = NotReachableError("gone"), job_status(100, state=JobState.COMPLETED, phase=JobPhase.ENDED)
    end = await follow_job(Scripted(job_status(), away, away, away, done).status, LineView(), interval_seconds=0)

    assert end.state is JobState.COMPLETED
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "job-1 running, rendering: 0 %, 0 of 100 frames, 0 of 10 chunks",
        "no answer",
        "job-1 completed: 100 %, 100 of 100 frames, 10 of 10 chunks",
    ]


async def test_watching_does_not_begin_where_no_server_answers() -> None:
    with pytest.raises(NotReachableError):
        await follow_job(Scripted(NotReachableError("gone"), job_status()).status, LineView(), interval_seconds=0)


async def test_a_look_older_than_the_last_one_does_not_turn_the_clock_back(capsys: Captured) -> None:
    old, new = job_status(10), job_status(50, updated_at=BEGAN + timedelta(seconds=9))
    end = job_status(100, state=JobState.COMPLETED, phase=JobPhase.ENDED)
    await follow_job(Scripted(new, old, end).status, JsonView(), interval_seconds=0)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["completed_frames"] for line in lines] == [50, 100]

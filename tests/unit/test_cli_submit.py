"""Watching a job until its end, while the server comes and goes."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from longtake.cli.submit import follow
from longtake.cli.views import JsonView, LineView
from longtake.errors import NotReachableError
from longtake.models.status import JobPhase, JobState, JobStatus

Captured = pytest.CaptureFixture[str]

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def look(frames: int = 0, **fields: object) -> JobStatus:
    """A look at a running job of 100 frames in 10 chunks."""
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


class Scripted:
    """A job that answers as it is told, one look after the other."""

    id = "job-1"

    def __init__(self, *looks: JobStatus | NotReachableError) -> None:
        self._looks = list(looks)

    async def status(self) -> JobStatus:
        look = self._looks.pop(0)
        if isinstance(look, NotReachableError):
            raise look
        return look


async def test_watching_goes_on_while_the_server_is_away_and_says_so_once(capsys: Captured) -> None:
    away, done = NotReachableError("gone"), look(100, state=JobState.COMPLETED, phase=JobPhase.ENDED)
    end = await follow(Scripted(look(), away, away, away, done), LineView(), interval_seconds=0)

    assert end.state is JobState.COMPLETED
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "job-1 running, rendering: 0 %, 0 of 100 frames, 0 of 10 chunks",
        "no answer",
        "job-1 completed: 100 %, 100 of 100 frames, 10 of 10 chunks",
    ]


async def test_watching_does_not_begin_where_no_server_answers() -> None:
    with pytest.raises(NotReachableError):
        await follow(Scripted(NotReachableError("gone"), look()), LineView(), interval_seconds=0)


async def test_a_look_older_than_the_last_one_does_not_turn_the_clock_back(capsys: Captured) -> None:
    old, new = look(10), look(50, updated_at=BEGAN + timedelta(seconds=9))
    end = look(100, state=JobState.COMPLETED, phase=JobPhase.ENDED)
    await follow(Scripted(new, old, end), JsonView(), interval_seconds=0)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["completed_frames"] for line in lines] == [50, 100]

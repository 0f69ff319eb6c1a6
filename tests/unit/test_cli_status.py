"""`longtake status`: where a job is rendered and what is billed for it."""

import io
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console
from support.jobs.statuses import lambda_job_status

from longtake.cli.control import describe_effect
from longtake.cli.formatting import describe_end
from longtake.cli.status import make_status_table
from longtake.cli.views import LineView
from longtake.models.backends import BackendKind
from longtake.models.status import (
    JobMetrics,
    JobState,
    JobStatus,
    PauseMode,
    RemoteStops,
    RenderJobResult,
    RequestRecord,
)

Captured = pytest.CaptureFixture[str]
CONFIRMED = RemoteStops(where="lambda longtake-render", confirmed=8, slowest_seconds=1.21)


def shown(status: JobStatus) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(make_status_table(status))
    return text.getvalue()


def test_a_paused_job_tells_it_too(capsys: Captured) -> None:
    paused = lambda_job_status(JobState.PAUSED, progress=40, remote_stops=CONFIRMED)
    told = "8 chunks stopped on lambda longtake-render, confirmed after 1.2 s"
    with LineView() as view:
        for status in (lambda_job_status(JobState.RUNNING, remote_stops=CONFIRMED), paused, paused):
            view.show(status)

    assert describe_effect(paused, PauseMode.NOW) == f"job-1 is paused at 40 %: {told}"
    assert capsys.readouterr().err.count(told) == 1
    assert f"stopped      {told}" in shown(paused)


def test_the_bill_is_part_of_the_status_and_of_the_end() -> None:
    metrics = JobMetrics(billed_seconds=3725, cost_usd=0.1241)
    done = lambda_job_status(
        JobState.COMPLETED, metrics=metrics, result=RenderJobResult(output="/f/film.mp4", frames=100)
    )

    assert "rendered on  Lambda" in shown(lambda_job_status(metrics=metrics))
    assert "billed       1:02:05 of Lambda, 0.124 USD" in shown(lambda_job_status(metrics=metrics))
    assert (
        describe_end(done) == "job-1 completed in 0:12: /f/film.mp4 (100 frames); billed 1:02:05 of Lambda, 0.124 USD"
    )


def test_a_job_on_hosts_of_ones_own_speaks_of_no_bill() -> None:
    text = shown(lambda_job_status(backend=BackendKind.LOCAL))

    assert "billed" not in text
    assert "rendered on" not in text


def test_the_last_requests_are_told_as_one_plain_line_each() -> None:
    at = datetime(2025, 6, 1, 10, tzinfo=UTC)
    asked = [RequestRecord(what="set_max_parallel", detail=f"{limit}", at=at) for limit in range(1, 6)]
    asked.append(RequestRecord(what="pause", detail="now", by="ada\x1b[31m@tower\nerror: none", at=at))
    text = shown(JobStatus(id="job-1", requests=tuple(asked)))

    assert "set_max_parallel (1)" not in text
    assert "set_max_parallel (2), 2025-06-01" in text
    assert "\x1b[31m" not in text
    assert "\nerror" not in text
    assert re.search(r"asked +pause \(now\) by ada", text)

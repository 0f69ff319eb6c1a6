"""The commands `status` and `list`: show the state of one job or of many."""

import sys
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from longtake.cli.formatting import (
    STATE_STYLES,
    describe_advice,
    describe_film,
    describe_stops,
    format_bill,
    format_duration,
    format_request,
    format_state,
    format_time,
    format_unusual_counts,
)
from longtake.cli.session import run_with_client
from longtake.cli.submit import JobId, Json
from longtake.cli.terminal import print_json, print_message, print_renderable, stdout_console
from longtake.cli.views import SpeedEstimate, describe_failure, make_running_table
from longtake.client import RenderClient
from longtake.job_facts import PLATFORMS
from longtake.models.backends import BackendKind
from longtake.models.status import JobPhase, JobState, JobStatus
from longtake.text import flatten_text, format_bytes, list_first, strip_controls

# A status is read once: the live view of `longtake watch` is for long lists.
_MOST_ROWS = 20

# Requests that the job has followed; `--json` has more.
_MOST_REQUESTS = 5

# Ids of jobs that wait for the same.
_MOST_IDS = 5


def status(context: typer.Context, id: JobId, json: Json = False) -> None:
    """Show where a job stands, with the chunks that run and those that failed.

    Example: longtake status film-1a2b3c4d --json
    """

    async def work(farm: RenderClient) -> JobStatus:
        return await farm.job(id).status()

    job = run_with_client(context, work)
    if json:
        print_json(job)
        return
    print_renderable(make_status_table(job))
    if job.running and not job.state.has_ended:
        print_renderable("")
        width = stdout_console().width if sys.stdout.isatty() else None
        print_renderable(make_running_table(job.running, _MOST_ROWS, width=width, whole=True))
    for failure in job.failures:
        print_renderable(Text(describe_failure(failure), style="red"))


def list_(
    context: typer.Context,
    state: Annotated[JobState | None, typer.Option("--state", help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 100,
    json: Json = False,
) -> None:
    """List jobs, the youngest first.

    Example: longtake list --state running
    """

    async def work(farm: RenderClient) -> list[JobStatus]:
        return await farm.list(state=state, limit=limit)

    jobs = run_with_client(context, work)
    if json:
        print_json(jobs)
    elif not jobs:
        print_message("no jobs" if state is None else f"no jobs are {state}")
    else:
        print_renderable(_make_job_table(jobs))
        for reason in dict.fromkeys(job.waiting_for for job in jobs if job.waiting_for):
            ids = [job.id for job in jobs if job.waiting_for == reason]
            print_message(f"{list_first(ids, _MOST_IDS)}: {reason}")


def make_status_table(status: JobStatus) -> Table:
    """Return a table of the state, the progress, the cost and the result of a job."""
    speed = SpeedEstimate()
    speed.update(status)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("job", Text(status.id, style="bold"))
    grid.add_row("name", strip_controls(status.name))
    grid.add_row("state", Text(format_state(status), style=STATE_STYLES[status.state]))
    grid.add_row("progress", f"{status.progress:.1f} %, {speed.frames:,} of {status.total_frames:,} frames")
    counts = [f"{status.completed_chunks:,} of {status.total_chunks:,} done", f"{status.running_chunks:,} running"]
    counts += [f"{status.failed_chunks:,} failed"] if status.failed_chunks else []
    counts += format_unusual_counts(status)
    grid.add_row("chunks", f"{', '.join(counts)} (at most {status.max_parallel:,} at once)")
    if speed.eta_seconds is not None:
        grid.add_row("to go", format_duration(speed.eta_seconds))
    if status.metrics.cpu_seconds:
        most = (
            f", at most {format_bytes(status.metrics.peak_memory_bytes)} a chunk"
            if status.metrics.peak_memory_bytes
            else ""
        )
        grid.add_row("used", f"{format_duration(status.metrics.cpu_seconds)} of CPU time{most}")
    if status.backend is not BackendKind.LOCAL:
        grid.add_row("rendered on", PLATFORMS[status.backend])
    for label, text in (("billed", format_bill(status)), ("stopped", describe_stops(status.remote_stops))):
        if text is not None:
            grid.add_row(label, text)
    if status.submitted_by:
        grid.add_row("submitted by", strip_controls(status.submitted_by))
    for label, when in (("started", status.created_at), ("changed", status.updated_at)):
        if when is not None:
            grid.add_row(label, format_time(when))
    if status.base_dir:
        grid.add_row("store", strip_controls(status.base_dir))
    if status.folder and status.folder != status.id:
        grid.add_row("folder", f".longtake/{status.folder}")
    if status.result:
        grid.add_row("film", strip_controls(describe_film(status.result)))
    if status.waiting_for:
        grid.add_row("waits", Text(flatten_text(status.waiting_for), style="yellow"))
    for request in status.requests[-_MOST_REQUESTS:]:
        grid.add_row("asked", format_request(request))
    for notice in status.notices:
        grid.add_row("notice", flatten_text(notice))
    if status.error:
        grid.add_row("error", Text(flatten_text(status.error), style="red"))
    if advice := describe_advice(status):
        grid.add_row("to do", Text(advice, style="yellow"))
    return grid


def _make_job_table(jobs: list[JobStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("JOB", overflow="fold", ratio=1)
    table.add_column("STATE", no_wrap=True)
    table.add_column("PROGRESS", no_wrap=True, justify="right")
    table.add_column("CHUNKS", no_wrap=True, justify="right")
    table.add_column("STARTED", no_wrap=True)
    # Of one person's own farm it says nothing.
    has_several = len({job.submitted_by for job in jobs if job.submitted_by}) > 1
    if has_several:
        table.add_column("SUBMITTED BY", overflow="fold")
    for job in jobs:
        started = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}" if job.created_at else ""
        troubles = [f"{job.failed_chunks:,} failed"] if job.failed_chunks else []
        troubles += [f"{job.frozen_chunks:,} frozen"] if job.frozen_chunks else []
        troubles += [f"{job.left_out_chunks:,} left out"] if job.left_out_chunks else []
        table.add_row(
            job.id,
            Text(_format_list_state(job), style=STATE_STYLES[job.state]),
            f"{job.progress:.0f} %",
            f"{job.completed_chunks:,}/{job.total_chunks:,}" + (f" ({', '.join(troubles)})" if troubles else ""),
            started,
            *([strip_controls(job.submitted_by)] if has_several else []),
        )
    return table


def _format_list_state(job: JobStatus) -> str:
    """Return the state as `--state` takes it, with the phase where a person may have to act or to wait."""
    shows_phase = job.phase in (JobPhase.PAUSING, JobPhase.HOLDING, JobPhase.CLEANING_UP)
    return format_state(job) if shows_phase else job.state.value

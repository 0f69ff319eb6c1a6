"""The commands `submit` and `watch`: start a job, and follow a job to its end through outages of the server."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from longtake.allowed_paths import check_job_paths, read_roots
from longtake.cli.formatting import describe_end
from longtake.cli.session import exit_code_of_state, run_with_client
from longtake.cli.terminal import UploadView, print_json, print_message, print_result
from longtake.cli.views import View, make_view
from longtake.client import RenderClient
from longtake.errors import BadJobError, NotReachableError
from longtake.handle import JobHandle
from longtake.jobfile.loader import load_job
from longtake.jobfile.safe_yaml import load_yaml
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobState, JobStatus
from longtake.names import check_job_id

# A status costs the server some 2 ms; at two a second the view is never older than a person notices.
_POLL_SECONDS = 0.5

# A server that is restarted or moved is back sooner; after that a person must act.
_OUTAGE_SECONDS = 600.0


JobFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Job file: YAML, JSON, or Helios' job.json.", show_default=False)
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="Job id, as `longtake list` shows it.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the job file; dots reach inside: retry.attempts=2.",
        show_default=False,
    ),
]


def submit(
    context: typer.Context,
    file: JobFile,
    id: Annotated[str | None, typer.Option("--id", help="Name the job; the same id starts a job once.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow it to its end; the exit code says how it ended.")
    ] = False,
    max_parallel: Annotated[
        int | None, typer.Option("--max-parallel", min=1, max=10_000, help="Chunks rendered at once.")
    ] = None,
    paused: Annotated[
        bool, typer.Option("--paused", help="Accept it and render nothing until `longtake resume ID`.")
    ] = False,
    values: Values = None,
) -> None:
    """Start a job; its id is printed alone on stdout.

    Inputs of a job whose store is a bucket are handed in to it first, each content once.

    Example: longtake submit film.yaml --watch --set retry.attempts=2
    """
    if id is not None:
        check_job_id(id)
    job = read_job(file, values)
    if max_parallel is not None:
        job = job.model_copy(update={"max_parallel": max_parallel})
    if paused:
        job = job.model_copy(update={"start_paused": True})

    async def upload_and_start(farm: RenderClient) -> JobHandle:
        with UploadView() as view:
            handle = await farm.submit(job, id=id, on_progress=view.on_progress)
        if not handle.is_new:
            print_message(describe_existing(await handle.status()))
        return handle

    start_job(context, upload_and_start, watch=watch)


def film(
    context: typer.Context,
    id: JobId,
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="What is other than in that job: output, film, encode, colour, audio, drop, verify, merge_command.",
            show_default=False,
        ),
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", help="Name the job that makes the film.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    json: Json = False,
) -> None:
    """Make another film of what a job has rendered, and render nothing; the new job's id is printed.

    The job has ended, well or not. A film of the same path is moved aside, not overwritten.

    Example: longtake film film-1a2b3c4d --set output=small.mp4 --set "encode=[-crf, 30]" --watch
    """
    if new_id is not None:
        check_job_id(new_id)
    changes = dict(_parse_override(value) for value in values or ())

    async def start(farm: RenderClient) -> JobHandle:
        with UploadView() as view:
            return await farm.film(id, changes, new_id=new_id, on_progress=view.on_progress)

    start_job(context, start, watch=watch, json=json)


def watch(context: typer.Context, id: JobId, json: Json = False) -> None:
    """Follow a job to its end; Ctrl-C leaves it running.

    The exit code says how it ended: 0 completed, 1 failed, 3 cancelled.

    Example: longtake watch film-1a2b3c4d
    """

    async def work(farm: RenderClient) -> JobStatus:
        return await follow_job(farm.job(id).status, make_view(json=json))

    end = run_with_client(context, work, describe_interrupt=lambda: describe_detached(id))
    if not json:
        print_result(describe_end(end))
    raise typer.Exit(exit_code_of_state(end.state))


def read_job(file: Path, values: list[str] | None) -> RenderJobSpec:
    """Load a job file, change the values of `--set`, and check that jobs may write where its files lie.

    Raises:
        BadJobError: The file or a value is no job.
    """
    job = load_job(file, overrides=dict(_parse_override(value) for value in values or ()))
    check_job_paths(job, read_roots(os.environ))
    return job


def describe_existing(status: JobStatus) -> str:
    """Return the message for a submit of a job that has been there already."""
    if status.state is JobState.COMPLETED:
        return (
            f"{status.id} has completed before, and nothing was started; to render it anew, submit it under another id "
            "with --set if_exists=replace"
        )
    return f"{status.id} is there already ({status.state}), and was not started a second time"


def describe_detached(id: str) -> str:
    """Return the message for a Ctrl-C that ends the view of a job."""
    return f"no longer watching; {id} goes on: `longtake watch {id}` shows it again, `longtake cancel {id}` ends it"


def start_job(
    context: typer.Context,
    start: Callable[[RenderClient], Awaitable[JobHandle]],
    *,
    watch: bool,
    json: bool = False,
) -> None:
    """Start a job, print its id or its status as JSON, and follow the job to its end with `watch`.

    Args:
        context: Context of the command.
        start: Starts the job with the connected client.
        watch: Whether to follow the job and to exit with the code of its state.
        json: Whether to print JSON.
    """
    started: list[str] = []
    view: View = make_view(json=json)

    async def work(farm: RenderClient) -> JobStatus | None:
        job = await start(farm)
        started.append(job.id)
        if not json:
            print_result(job.id)
        elif not watch:
            print_json(await job.status())
        return await follow_job(job.status, view) if watch else None

    def describe_interrupt() -> str:
        return (
            describe_detached(started[0])
            if started
            else "interrupted; `longtake list` shows whether the job was started"
        )

    end = run_with_client(context, work, describe_interrupt=describe_interrupt)
    if end is not None:
        if not json:
            print_message(describe_end(end))
        raise typer.Exit(exit_code_of_state(end.state))


async def follow_job(
    read_status: Callable[[], Awaitable[JobStatus]],
    view: View,
    *,
    interval_seconds: float = _POLL_SECONDS,
) -> JobStatus:
    """Show a job in a view until the job ends, and return its last status.

    Args:
        read_status: Reads the status of the job from Temporal.
        view: Entered at the first status and left at the end.
        interval_seconds: Time between two statuses.

    Raises:
        NoSuchJobError: There is no such job.
        NotReachableError: Temporal did not answer the first request, or none for ten minutes.
    """
    last: JobStatus | None = None
    answered = time.monotonic()
    with view:
        while True:
            try:
                last = _choose_newer(last, await read_status())
            except NotReachableError as error:
                if last is None or time.monotonic() - answered > _OUTAGE_SECONDS:
                    raise
                view.show_message(f"no answer ({error}); the job is safe, and I keep asking")
            else:
                answered = time.monotonic()
                view.show(last)
                if last.state.has_ended:
                    return last
            await asyncio.sleep(interval_seconds)


def _choose_newer(last: JobStatus | None, now: JobStatus) -> JobStatus:
    """Return the newer of two statuses: without a worker Temporal has only the one that the job last stored."""
    if last is None or last.updated_at is None or now.updated_at is None or now.state.has_ended:
        return now
    if now.created_at != last.created_at or now.updated_at >= last.updated_at:
        return now
    current = {"running": now.running, "running_chunks": now.running_chunks, "frozen_chunks": now.frozen_chunks}
    return last.model_copy(update=current)


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadJobError(f"--set: {text!r} is not KEY=VALUE; write it as in --set retry.attempts=2")
    try:
        # As in a job file: 1:30 and 010 are refused, and not read as other numbers.
        return key.strip(), load_yaml(value)
    except ValueError as error:
        raise BadJobError(f"--set: {text!r} holds no value that YAML can read; quote the value") from error

"""The commands `pause`, `resume`, `cancel`, `retry` and `skip`, which may be repeated and print their effect."""

import shlex
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from longtake.cli.formatting import describe_advice, describe_end, describe_stops, format_count, parse_chunks
from longtake.cli.session import ExitCode, exit_code_of_state, run_with_client
from longtake.cli.submit import JobId, Json, start_job
from longtake.cli.terminal import print_json, print_message, print_result
from longtake.client import RenderClient
from longtake.errors import BadJobError, JobEndedError
from longtake.handle import JobHandle
from longtake.models.status import JobPhase, JobState, JobStatus, PauseMode
from longtake.ranges import format_ranges

# A wait that is over by then needs no words; others get one when there is news, so often at most.
_FIRST_WORD_SECONDS = 2.0
_WORD_SECONDS = 5.0

Wait = Annotated[bool, typer.Option("--wait", help="Return only when it has come about.")]


def pause(
    context: typer.Context,
    id: JobId,
    mode: Annotated[
        PauseMode,
        typer.Option("--mode", help="What becomes of the chunks that run; of two pauses the harder one holds."),
    ] = PauseMode.DRAIN,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Start no further chunk until the job is resumed; the mode says what becomes of those that run.

    drain: they finish first, so nothing is rendered twice, and the pause takes as long as they do.

    freeze: their processes stand still at once and later go on where they stood; they keep slots and memory.

    now: their processes end at once; whole frames are kept, and the rest of the chunk is rendered again.

    Example: longtake pause film-1a2b3c4d --mode freeze --wait
    """
    until = (lambda status: status.state is JobState.PAUSED) if wait else None
    end = _send_request(context, id, lambda job: job.pause(mode=mode), until=until, json=json, mode=mode)
    raise typer.Exit(exit_code_of_state(end.state) if wait else ExitCode.FINE)


def resume(context: typer.Context, id: JobId, wait: Wait = False, json: Json = False) -> None:
    """Let a paused job go on with what is missing, and one that holds try its failed chunks again.

    Example: longtake resume film-1a2b3c4d
    """
    until = (lambda status: status.state is not JobState.PAUSED) if wait else None
    end = _send_request(context, id, lambda job: job.resume(), until=until, json=json)
    raise typer.Exit(exit_code_of_state(end.state) if wait else ExitCode.FINE)


def cancel(context: typer.Context, id: JobId, wait: Wait = False, json: Json = False) -> None:
    """End a job; it counts as cancelled when none of its processes is left.

    Finished chunks stay, and `longtake retry` goes on from them.

    Example: longtake cancel film-1a2b3c4d --wait
    """
    way_out = f"; `temporal workflow terminate --workflow-id {shlex.quote(id)}` ends it without its workers"
    until = (lambda status: status.state.has_ended) if wait else None
    _send_request(context, id, lambda job: job.cancel(), until=until, json=json, way_out=way_out)


def retry(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[
        list[str] | None,
        typer.Option(
            "--chunk",
            metavar="N",
            help="Only this chunk, or 3-7, of those that failed, were skipped or are missing; repeatable.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            "--frames",
            metavar="LIST",
            help="Render these frames of a job that has ended anew, as in 12-15,20, and make its film again.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    json: Json = False,
) -> None:
    """Render what failed once more: finished chunks stay.

    A failed or cancelled job is started again, with --chunk for these chunks alone; one that goes on or holds takes up
    its failed chunks. With --frames a job that has ended renders these frames anew (of video, the chunks that hold
    them); the old files are moved aside.

    Example: longtake retry film-1a2b3c4d --watch
    """
    chunks = parse_chunks(chunk or ())

    async def retry_job(farm: RenderClient) -> JobHandle:
        job = farm.job(id)
        if frames is not None:
            return await farm.retry(id, chunks=chunks, frames=frames)
        if (await job.status()).state.has_ended:
            return await farm.retry(id, chunks=chunks)
        count = await job.retry_failed(chunks)
        print_message(f"{id} takes up {format_count(count, 'chunk')} again")
        return job

    try:
        start_job(context, retry_job, watch=watch, json=json)
    except JobEndedError as error:
        print_message(str(error))
        if json:
            print_json(run_with_client(context, lambda farm: farm.job(id).status()))


def skip(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[
        list[str],
        typer.Option("--chunk", metavar="N", help="Chunk to leave out, or 3-7; repeatable.", show_default=False),
    ],
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="The film may lack them; a job that makes a film needs this.")
    ] = False,
    json: Json = False,
) -> None:
    """Leave chunks out of a job that has not ended: they are not rendered, and the job does not wait for them.

    `longtake retry ID --chunk N` takes one back in.

    Example: longtake skip film-1a2b3c4d --chunk 3 --chunk 7-9 --allow-gaps
    """
    chunks = parse_chunks(chunk)

    async def work(farm: RenderClient) -> tuple[int, JobStatus]:
        job = farm.job(id)
        try:
            return await job.skip_chunks(chunks, allow_gaps=allow_gaps), await job.status()
        except JobEndedError as error:
            # A pause that comes too late is harmless; a skip that comes too late has left nothing out.
            raise BadJobError(str(error)) from error

    count, status = run_with_client(context, work)
    if json:
        print_json(status)
    elif count:
        print_result(f"{id} leaves out {format_count(count, 'more chunk')}; left out now: {status.left_out_chunks:,}")
    else:
        print_result(f"{id} goes on without {format_ranges(chunks)} already")


def _send_request(
    context: typer.Context,
    id: str,
    request: Callable[[JobHandle], Awaitable[JobStatus]],
    *,
    until: Callable[[JobStatus], bool] | None,
    json: bool,
    mode: PauseMode = PauseMode.DRAIN,
    way_out: str = "",
) -> JobStatus:
    async def work(farm: RenderClient) -> JobStatus:
        job = farm.job(id)
        try:
            status = await request(job)
            return status if until is None else await _await_effect(job, until, mode, way_out)
        except JobEndedError as error:
            # A request that is repeated, or comes a moment after the end, has nothing to do: that is no failure.
            print_message(str(error))
            return await job.status()

    status = run_with_client(context, work, describe_interrupt=lambda: _describe_interrupt(id, wait=until is not None))
    if json:
        print_json(status)
    else:
        print_result(describe_effect(status, mode))
    return status


async def _await_effect(
    job: JobHandle, is_reached: Callable[[JobStatus], bool], mode: PauseMode, way_out: str
) -> JobStatus:
    """Return the first status of a job that is reached or final; say now and then what is waited for."""
    told, next_word = "", time.monotonic() + _FIRST_WORD_SECONDS
    async for status in job.watch(interval_seconds=0.1):
        if is_reached(status) or status.state.has_ended:
            return status
        what = f"{status.waiting_for}{way_out}" if status.waiting_for else describe_effect(status, mode)
        if what != told and time.monotonic() >= next_word:
            told, next_word = what, time.monotonic() + _WORD_SECONDS
            print_message(f"waiting: {what}")
    raise AssertionError("watch ends with a final status")


def _describe_interrupt(id: str, *, wait: bool) -> str:
    return (
        f"no longer waiting; {id} was asked and does as it was told: `longtake watch {id}`" if wait else "interrupted"
    )


def describe_effect(status: JobStatus, mode: PauseMode) -> str:
    """Return the state of a job after a request, in one line.

    Args:
        status: Status of the job after the request.
        mode: Mode of the requested pause, while the job has not taken up a mode.
    """
    if status.state.has_ended:
        return describe_end(status)
    running = format_count(status.running_chunks, "chunk")
    if status.phase is JobPhase.PAUSING:
        remaining = (
            f": {running} {_describe_pausing(status.pause_mode or mode, status.running_chunks)}"
            if status.running_chunks
            else ""
        )
        return f"{status.id} is pausing{remaining}"
    if advice := describe_advice(status):
        return f"{status.id} holds: {advice}"
    if status.state is JobState.PAUSED:
        frozen = f", {format_count(status.frozen_chunks, 'chunk')} frozen" if status.frozen_chunks else ""
        stops = describe_stops(status.remote_stops)
        return f"{status.id} is paused at {status.progress:g} %{frozen}" + (f": {stops}" if stops else "")
    if status.phase is JobPhase.CLEANING_UP:
        return f"{status.id} is being cancelled: {running} to stop"
    return f"{status.id} is {status.state}" + (f", {running} rendering" if status.running_chunks else "")


def _describe_pausing(mode: PauseMode, count: int) -> str:
    match mode:
        case PauseMode.DRAIN:
            return "finishes first" if count == 1 else "finish first"
        case PauseMode.FREEZE:
            return "to freeze"
        case PauseMode.NOW:
            return "to stop"

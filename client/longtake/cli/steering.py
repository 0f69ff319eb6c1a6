"""`pause`, `resume` and `cancel`: each may be repeated, and each says what it brought about."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from longtake.cli.exits import ExitCode, code_of_end
from longtake.cli.jobs import JobId, Json
from longtake.cli.session import run
from longtake.cli.terminal import answer, answer_json, say
from longtake.cli.words import ending, plural
from longtake.client import RenderClient
from longtake.errors import BadJobError, JobEndedError
from longtake.handle import JobHandle
from longtake.requests import PauseMode
from longtake.status import JobPhase, JobState, JobStatus

Wait = Annotated[bool, typer.Option("--wait", help="Return only when it has come about.")]


def pause(
    context: typer.Context,
    id: JobId,
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="drain: chunks that run finish, no other starts.")
    ] = PauseMode.DRAIN.value,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Stop starting chunks; those that run finish, and then the job is paused.

    Example: longtake pause film-1a2b3c4d --wait
    """
    if mode not in list(PauseMode):
        known = ", ".join(PauseMode)
        raise BadJobError(f"--mode: {mode!r} is no way to pause in this version; use {known}")
    end = _steer(context, id, lambda job: job.pause(mode=PauseMode(mode), wait=wait), wait=wait, json=json)
    raise typer.Exit(code_of_end(end.state) if wait else ExitCode.FINE)


def resume(context: typer.Context, id: JobId, wait: Wait = False, json: Json = False) -> None:
    """Let a paused job go on with what is missing.

    Example: longtake resume film-1a2b3c4d
    """
    end = _steer(context, id, lambda job: job.resume(wait=wait), wait=wait, json=json)
    raise typer.Exit(code_of_end(end.state) if wait else ExitCode.FINE)


def cancel(context: typer.Context, id: JobId, wait: Wait = False, json: Json = False) -> None:
    """End a job; it counts as cancelled when none of its processes is left.

    Finished chunks stay, and `longtake retry` goes on from them.

    Example: longtake cancel film-1a2b3c4d --wait
    """
    _steer(context, id, lambda job: job.cancel(wait=wait), wait=wait, json=json)


def _steer(
    context: typer.Context, id: str, request: Callable[[JobHandle], Awaitable[JobStatus]], *, wait: bool, json: bool
) -> JobStatus:
    async def work(farm: RenderClient) -> JobStatus:
        job = farm.job(id)
        try:
            return await request(job)
        except JobEndedError as error:
            # Asked twice or a moment too late: nothing to do is not a failure.
            say(str(error))
            return await job.status()

    status = run(context, work, interrupted=lambda: _left(id, wait=wait))
    if json:
        answer_json(status)
    else:
        answer(_standing(status))
    return status


def _left(id: str, *, wait: bool) -> str:
    return (
        f"no longer waiting; {id} was asked and does as it was told: `longtake watch {id}`" if wait else "interrupted"
    )


def _standing(status: JobStatus) -> str:
    if status.state.ended:
        return ending(status)
    running = plural(status.running_chunks, "chunk")
    finish = "finishes" if status.running_chunks == 1 else "finish"
    if status.phase is JobPhase.PAUSING:
        return (
            f"{status.id} is pausing: {running} {finish} first" if status.running_chunks else f"{status.id} is pausing"
        )
    if status.state is JobState.PAUSED:
        return f"{status.id} is paused at {status.progress:g} %"
    if status.phase is JobPhase.CLEANING_UP:
        return f"{status.id} is being cancelled: {running} to stop"
    return f"{status.id} is {status.state}" + (f", {running} rendering" if status.running_chunks else "")

"""Connect one command to Temporal, and turn errors, job states and Ctrl-C into exit codes."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

import typer
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from longtake.cli.terminal import print_message
from longtake.client import RenderClient
from longtake.connection import connect
from longtake.describe import describe_rpc_error
from longtake.errors import (
    BadJobError,
    JobCancelledError,
    JobExistsError,
    JobNotEndedError,
    LongtakeError,
    NoSuchJobError,
    NotReachableError,
    StoreUnusableError,
)
from longtake.models.status import JobState
from longtake.names import DEFAULT_TASK_QUEUE

T = TypeVar("T")


class ExitCode(IntEnum):
    """Exit codes of the command line."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    NO_SUCH_JOB = 4
    NOT_REACHABLE = 5
    INTERRUPTED = 130


_BY_ERROR: dict[type[LongtakeError], ExitCode] = {
    BadJobError: ExitCode.USAGE,
    JobExistsError: ExitCode.USAGE,
    JobCancelledError: ExitCode.CANCELLED,
    NoSuchJobError: ExitCode.NO_SUCH_JOB,
    NotReachableError: ExitCode.NOT_REACHABLE,
    StoreUnusableError: ExitCode.USAGE,
    JobNotEndedError: ExitCode.USAGE,
}

_BY_STATE = {JobState.FAILED: ExitCode.FAILED, JobState.CANCELLED: ExitCode.CANCELLED}

# With these answers every request of the same user fails, as without a server.
_REFUSALS = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.NOT_FOUND,
}


def exit_code_of_error(error: LongtakeError) -> ExitCode:
    """Return the exit code of an error: `FAILED` unless the type of the error has another."""
    return next((code for kind, code in _BY_ERROR.items() if isinstance(error, kind)), ExitCode.FAILED)


def exit_code_of_state(state: JobState) -> ExitCode:
    """Return the exit code of a job that ended in a state."""
    return _BY_STATE.get(state, ExitCode.FINE)


def explain_error(error: RPCError) -> LongtakeError:
    """Return an error of Temporal's service as a sentence with a fix."""
    if error.status in _REFUSALS:
        return NotReachableError(
            f"Temporal does not serve this request ({describe_rpc_error(error)}); `longtake doctor` says more"
        )
    return LongtakeError(f"Temporal refuses this request ({error.message}); `longtake doctor` may say why")


@dataclass(frozen=True)
class Settings:
    """Global options of a command; `None` leaves the choice to `temporal.toml` and `TEMPORAL_*`."""

    address: str | None = None
    namespace: str | None = None
    profile: str | None = None
    task_queue: str = DEFAULT_TASK_QUEUE
    debug: bool = False


def read_settings(context: typer.Context) -> Settings:
    """Return the global options that a command was given."""
    settings = context.find_object(Settings)
    return settings or Settings(debug=bool(os.environ.get("LONGTAKE_DEBUG")))


def run_with_client(
    context: typer.Context,
    work: Callable[[RenderClient], Awaitable[T]],
    *,
    describe_interrupt: Callable[[], str] = lambda: "interrupted",
) -> T:
    """Connect to Temporal, run a coroutine with the client and return its result.

    Args:
        context: Context of the command, with its settings.
        work: Coroutine function that is called with the connected client.
        describe_interrupt: Returns the message for a Ctrl-C, which ends the command and leaves the job alone.

    Raises:
        LongtakeError: `work` raised it, or Temporal is not reachable.
        typer.Exit: With 130, after a Ctrl-C.
    """
    settings = read_settings(context)

    async def run() -> T:
        client = await connect(
            address=settings.address,
            namespace=settings.namespace,
            profile=settings.profile,
            # Without this the SDK logs to stdout, between the lines of results, while a server is away.
            runtime=Runtime(telemetry=TelemetryConfig(logging=None)),
        )
        return await work(RenderClient(client, task_queue=settings.task_queue))

    try:
        return asyncio.run(run())
    except KeyboardInterrupt as error:
        print_message(describe_interrupt())
        raise typer.Exit(ExitCode.INTERRUPTED) from error

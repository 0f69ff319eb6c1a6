"""Connect to Temporal for one command, and turn errors and interrupts into exit codes."""

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
from longtake.client import RenderClient, connect
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


class ExitCode(IntEnum):
    """What the command line ends with."""

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

# Answers that no other request of the same user would better: as good as no server.
_REFUSALS = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.NOT_FOUND,
}


def exit_code_of_error(error: LongtakeError) -> ExitCode:
    """Return the exit code for an error; those without one of their own are failures."""
    return next((code for kind, code in _BY_ERROR.items() if isinstance(error, kind)), ExitCode.FAILED)


def exit_code_of_state(state: JobState) -> ExitCode:
    """Return the exit code for how a job ended."""
    return _BY_STATE.get(state, ExitCode.FINE)


def explain_error(error: RPCError) -> LongtakeError:
    """Return Temporal's own error as a sentence with a fix."""
    if error.status in _REFUSALS:
        return NotReachableError(f"Temporal does not serve this request ({error.message}); `longtake doctor` says more")
    return LongtakeError(f"Temporal refuses this request ({error.message}); `longtake doctor` may say why")


T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What the options in front of the command say; `None` is left to `temporal.toml` and `TEMPORAL_*`."""

    address: str | None = None
    namespace: str | None = None
    profile: str | None = None
    task_queue: str = DEFAULT_TASK_QUEUE
    debug: bool = False


def read_settings(context: typer.Context) -> Settings:
    """Return the settings of this call."""
    found = context.find_object(Settings)
    return found or Settings(debug=bool(os.environ.get("LONGTAKE_DEBUG")))


def run_with_client(
    context: typer.Context,
    work: Callable[[RenderClient], Awaitable[T]],
    *,
    interrupted: Callable[[], str] = lambda: "interrupted",
) -> T:
    """Connect, do the work and return what it returns.

    Args:
        context: Of the command.
        work: Given the connected client.
        interrupted: What to say when a Ctrl-C ends the work early; the job itself never hears of it.

    Raises:
        LongtakeError: As the work raises them.
        typer.Exit: 130, after a Ctrl-C.
    """
    settings = read_settings(context)

    async def connected() -> T:
        client = await connect(
            address=settings.address,
            namespace=settings.namespace,
            profile=settings.profile,
            # The SDK's own log goes to stdout, between the lines of results, while a server is away.
            runtime=Runtime(telemetry=TelemetryConfig(logging=None)),
        )
        return await work(RenderClient(client, task_queue=settings.task_queue))

    try:
        return asyncio.run(connected())
    except KeyboardInterrupt as error:
        print_message(interrupted())
        raise typer.Exit(ExitCode.INTERRUPTED) from error

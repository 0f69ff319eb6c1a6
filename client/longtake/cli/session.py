"""One command's talk with Temporal: connect, do the work, and part well when interrupted."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import typer
from temporalio.runtime import Runtime, TelemetryConfig

from longtake.cli.exits import ExitCode
from longtake.cli.terminal import say
from longtake.client import RenderClient
from longtake.connection import connect
from longtake.names import DEFAULT_TASK_QUEUE

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What the options in front of the command say; `None` is left to `temporal.toml` and `TEMPORAL_*`."""

    address: str | None = None
    namespace: str | None = None
    profile: str | None = None
    task_queue: str = DEFAULT_TASK_QUEUE
    debug: bool = False


def settings_of(context: typer.Context) -> Settings:
    """Return the settings of this call."""
    found = context.find_object(Settings)
    return found or Settings(debug=bool(os.environ.get("LONGTAKE_DEBUG")))


def run(
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
    settings = settings_of(context)

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
        say(interrupted())
        raise typer.Exit(ExitCode.INTERRUPTED) from error

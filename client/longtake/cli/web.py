"""The command `web`: serve the HTTP API of the farm and its page."""

import asyncio
from typing import Annotated

import typer
from temporalio.runtime import Runtime, TelemetryConfig

from longtake.cli.session import read_settings
from longtake.cli.terminal import print_message
from longtake.client import RenderClient
from longtake.connection import connect
from longtake.errors import LongtakeError


def web(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8080,
) -> None:
    """Serve the page of the farm and its HTTP API to this host.

    Example: longtake web --port 8080
    """
    try:
        from longtake.web.server import serve  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise LongtakeError(f"{error.name} is not installed; `pip install 'longtake[web]'` brings it") from error
    settings = read_settings(context)

    async def run() -> None:
        client = await connect(
            address=settings.address,
            namespace=settings.namespace,
            profile=settings.profile,
            runtime=Runtime(telemetry=TelemetryConfig(logging=None)),
            lazy=True,
        )
        farm = RenderClient(client, task_queue=settings.task_queue)
        await serve(farm, port=port, task_queue=settings.task_queue, on_message=print_message)

    asyncio.run(run())

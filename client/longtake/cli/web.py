"""The command `web`: serve the HTTP API of the farm and its page, and keep the tokens of those who may ask."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RetryConfig

from longtake.allowed_paths import read_roots
from longtake.cli.formatting import format_count
from longtake.cli.session import ExitCode, read_settings
from longtake.cli.terminal import print_message, print_result
from longtake.client import RenderClient
from longtake.concurrency import run_beside
from longtake.connection import connect
from longtake.errors import BadJobError, LongtakeError

if TYPE_CHECKING:
    from longtake.web.server import WebServer
    from longtake.web.tokens import TokenFile


# A person waits; the page asks again anyway.
_CALLS_OF_TEMPORAL = RetryConfig(initial_interval_millis=100, max_interval_millis=500, max_elapsed_time_millis=2000)

web_app = typer.Typer(no_args_is_help=False)
token_app = typer.Typer(help="Make, list and remove the tokens of those who may ask `longtake web`.")
web_app.add_typer(token_app, name="token")

TokenPath = Annotated[
    Path, typer.Option("--token-file", metavar="FILE", help="File of the tokens' digests.", show_default=False)
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who has the token.", show_default=False)]


@web_app.callback(invoke_without_command=True)
def web(
    context: typer.Context,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = 8080,
    listen: Annotated[
        str,
        typer.Option("--listen", metavar="ADDRESS", help="Address; beyond this host it asks who you are."),
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", metavar="FILE", help="Ask for a token of this file; see `longtake web token add`."
        ),
    ] = None,
    trusted_header: Annotated[
        str | None,
        typer.Option("--trusted-header", metavar="NAME", help="Header by which a proxy tells who has logged in there."),
    ] = None,
    trusted_peer: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-peer",
            metavar="ADDRESS",
            help="Address or network of that proxy; the header of others is not believed. Repeatable.",
            show_default=False,
        ),
    ] = None,
    trusted_role: Annotated[
        str, typer.Option("--trusted-role", metavar="ROLE", help="What they may do: look, steer or submit.")
    ] = "look",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Name that this server goes by, as in farm.example.org. Repeatable.",
            show_default=False,
        ),
    ] = None,
    job_source: Annotated[
        list[str] | None,
        typer.Option(
            "--job-source",
            metavar="URL",
            help="Where job files may be fetched from that are named by URL: https://host or s3://bucket/prefix. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    job_network: Annotated[
        list[str] | None,
        typer.Option(
            "--job-network",
            metavar="NETWORK",
            help="Network that is no public one, and in which those hosts may be: 10.0.0.0/8. Repeatable.",
            show_default=False,
        ),
    ] = None,
    ui: Annotated[
        str | None, typer.Option("--ui", metavar="URL", help="Address of Temporal's own page, for links to it.")
    ] = None,
) -> None:
    """Serve the page of the farm and its HTTP API; Ctrl-C ends it, and no job.

    To this host alone it asks for nothing: whoever has an account here may do what you may. Beyond it, it starts only
    with --token-file, or with --trusted-header and --trusted-peer for a proxy that asks for passwords; TLS is the
    proxy's. Roles: look reads everything, steer also pauses, cancels and retries, submit also starts and deletes.

    The page is at the address that is printed, and the API's own description below it at /api/v1/openapi.json.

    Example: longtake web --listen 0.0.0.0 --token-file tokens --allow-host farm.example.org
    """
    if context.invoked_subcommand is not None:
        return
    try:
        from longtake.web.server import WebServer  # noqa: PLC0415  # an extra
        from longtake.web.settings import make_settings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise LongtakeError(f"{error.name} is not installed; `pip install 'longtake[web]'` brings it") from error
    options = read_settings(context)
    settings = make_settings(
        listen=listen,
        token_file=token_file,
        trusted_header=trusted_header,
        trusted_peers=trusted_peer or (),
        trusted_role=trusted_role,
        allowed_hosts=allow_host or (),
        roots=read_roots(os.environ),
        ui=ui,
        job_sources=job_source or (),
        job_networks=job_network or (),
    )

    async def run() -> None:
        client = await connect(
            address=options.address,
            namespace=options.namespace,
            profile=options.profile,
            runtime=Runtime(telemetry=TelemetryConfig(logging=None)),
            # It starts without Temporal too, and says so.
            retries=_CALLS_OF_TEMPORAL,
            lazy=True,
        )
        farm = RenderClient(client, task_queue=options.task_queue)
        server = WebServer(farm, host=listen, port=port, settings=settings, task_queue=options.task_queue)
        print_message(f"the farm is at {server.address}; Ctrl-C ends this, and no job")
        async with run_beside(tell_outage(server)):
            await server.run()

    asyncio.run(run())


async def tell_outage(server: "WebServer") -> None:
    """Say at the start where Temporal does not answer: the server goes on, and is of use when it is back."""
    if away := await server.find_outage():
        print_message(f"{away}; the page goes on by itself when it is back")


@token_app.command()
def add(
    name: Name,
    token_file: TokenPath,
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="What it allows: look, steer or submit.")
    ] = "look",
) -> None:
    """Make a token and print it, once: the file keeps its digest alone. A server takes it within a second.

    Example: longtake web token add anna --role steer --token-file tokens
    """
    from longtake.web.tokens import Role  # noqa: PLC0415  # an extra

    if role not in list(Role):
        raise BadJobError(f"--role: is '{role}'; use {', '.join(Role)}")
    print_result(_open(token_file).add(name, Role(role)))


@token_app.command(name="list")
def list_tokens(token_file: TokenPath) -> None:
    """Show who has a token, and what it allows.

    Example: longtake web token list --token-file tokens
    """
    for name, role in _open(token_file).names():
        print_result(f"{name}\t{role}")


@token_app.command()
def remove(name: Name, token_file: TokenPath) -> None:
    """Remove all tokens of a name, with the sessions that began with them; servers know within a second.

    Example: longtake web token remove anna --token-file tokens
    """
    count = _open(token_file).remove(name)
    if not count:
        raise typer.Exit(_tell_nothing(name))
    print_message(f"{name}: {format_count(count, 'token')} removed")


def _tell_nothing(name: str) -> int:
    print_message(f"{name} has no token; `longtake web token list` shows who has")
    return ExitCode.USAGE


def _open(path: Path) -> "TokenFile":
    from longtake.web.tokens import TokenFile  # noqa: PLC0415  # an extra

    return TokenFile(path)

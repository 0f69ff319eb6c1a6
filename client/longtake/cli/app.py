"""The application `longtake`: its global options, its commands, and its errors as sentences with exit codes."""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer
from temporalio.service import RPCError
from typer.core import TyperGroup

from longtake.cli.codec_server import codec_server
from longtake.cli.control import cancel, pause, resume, retry, skip
from longtake.cli.doctor import doctor
from longtake.cli.files import delete, fetch
from longtake.cli.logs import logs
from longtake.cli.plan import plan
from longtake.cli.report import report
from longtake.cli.session import ExitCode, Settings, exit_code_of_error, explain_error
from longtake.cli.status import list_, status
from longtake.cli.submit import film, submit, watch
from longtake.cli.terminal import print_message
from longtake.cli.top import top
from longtake.cli.web import web_app
from longtake.errors import LongtakeError
from longtake.names import DEFAULT_TASK_QUEUE
from longtake.text import strip_controls

_EPILOG = (
    "These options may also stand behind the command. `longtake COMMAND --help` shows an example of each. "
    "Exit codes: 0 fine or job completed, 1 job failed, 2 bad input, 3 job cancelled, 4 no such job, "
    "5 Temporal not reachable, 130 interrupted."
)

_OPTIONS_WITH_VALUE = ("--address", "--namespace", "--profile", "--task-queue")
_FLAGS = ("--debug",)


class GlobalOptionsGroup(TyperGroup):
    """Accept the global options in front of the command and behind it."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the arguments; errors control no terminal, whatever the arguments hold."""
        with _plain_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command and run it; errors control no terminal, whatever the arguments hold."""
        with _plain_usage_errors():
            return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after moving the global options to the front."""
        return super().parse_args(ctx, _move_globals_first(args))


# The base of all errors of usage, which Typer exports by no name of its own.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    try:
        yield
    except _UsageError as error:
        # Typer prints what this returns, and quotes arguments in it, by a console of its own.
        said = "\n".join(map(strip_controls, error.format_message().split("\n")))
        error.format_message = lambda: said
        raise


app = typer.Typer(
    cls=GlobalOptionsGroup,
    help="Durable distributed rendering on Temporal: films in pieces, and no finished piece is ever lost.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _panel, _commands in {
    "Render": (plan, submit, film, watch),
    "Steer": (pause, resume, cancel, retry, skip),
    "Look": (status, list_, top, logs, report, doctor, codec_server),
    "Files": (fetch, delete),
}.items():
    for _command in _commands:
        app.command(name=_command.__name__.strip("_").replace("_", "-"), rich_help_panel=_panel)(_command)
app.add_typer(web_app, name="web", rich_help_panel="Look")


def _print_version(is_given: bool) -> None:
    if is_given:
        print(f"longtake {version('longtake')}")
        raise typer.Exit


@app.callback()
def read_options(
    context: typer.Context,
    address: Annotated[
        str | None, typer.Option("--address", metavar="HOST:PORT", help="Temporal server; or TEMPORAL_ADDRESS.")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Temporal namespace; or TEMPORAL_NAMESPACE.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Profile of temporal.toml; or TEMPORAL_PROFILE.")
    ] = None,
    task_queue: Annotated[
        str,
        typer.Option("--task-queue", metavar="NAME", envvar="LONGTAKE_TASK_QUEUE", help="Queue of the workers."),
    ] = DEFAULT_TASK_QUEUE,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="LONGTAKE_DEBUG", help="Show tracebacks of unexpected errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keep the global options as `Settings` in the context of the command."""
    context.obj = Settings(address, namespace, profile, task_queue, debug)


# Built once: a call of `app` builds all commands anew, which takes half of the time of a call in a process.
COMMAND = typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; tracebacks are printed with --debug only.

    Args:
        arguments: The arguments behind the program's name; those of this process when None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # A character that the locale lacks becomes a question mark; without this, printing it raises.
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    debug = "--debug" in words or os.environ.get("LONGTAKE_DEBUG", "") not in ("", "0")
    try:
        COMMAND(words, prog_name="longtake")
        return ExitCode.FINE
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else ExitCode.FINE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (LongtakeError, RPCError) as error:
        explained = explain_error(error) if isinstance(error, RPCError) else error
        if debug:
            traceback.print_exc()
        print_message(f"longtake: {explained}")
        return exit_code_of_error(explained)
    except Exception as error:
        if debug:
            traceback.print_exc()
        print_message(f"longtake: unexpected {type(error).__name__}: {error}; --debug or LONGTAKE_DEBUG=1 shows where")
        return ExitCode.FAILED


def _move_globals_first(arguments: list[str]) -> list[str]:
    front: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _OPTIONS_WITH_VALUE)):
            front.append(word)
        elif word in _OPTIONS_WITH_VALUE:
            front += [word, *rest[:1]]
            rest = rest[1:]
        else:
            others.append(word)
    return [*front, *others, *rest]

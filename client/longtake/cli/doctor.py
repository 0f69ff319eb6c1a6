"""`doctor`: what works on this host, what does not, and how to mend it."""

from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

from longtake.cli.checks import Check, check_host, check_temporal
from longtake.cli.exits import ExitCode
from longtake.cli.session import run, settings_of
from longtake.cli.submit import Json
from longtake.cli.terminal import answer_json, show
from longtake.client import RenderClient
from longtake.errors import NotReachableError
from longtake.plaintext import plain


def doctor(context: typer.Context, json: Json = False) -> None:
    """Check this host, the Temporal server and the workers; each line says what to do if it must.

    Example: longtake doctor
    """
    checks = check_host()
    task_queue = settings_of(context).task_queue

    async def work(farm: RenderClient) -> list[Check]:
        return await check_temporal(farm.temporal, task_queue)

    code = ExitCode.FINE
    try:
        checks += run(context, work)
    except NotReachableError as error:
        code = ExitCode.NOT_REACHABLE
        checks.append(Check("Temporal", ok=False, found="", fix=str(error)))
    if code is ExitCode.FINE and any(check.needed and not check.ok for check in checks):
        code = ExitCode.FAILED
    if json:
        answer_json({"ok": code is ExitCode.FINE, "checks": [asdict(check) for check in checks]})
    else:
        show(_table(checks))
    raise typer.Exit(code)


def _table(checks: list[Check]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for check in checks:
        style = "green" if check.ok else "red" if check.needed else "yellow"
        word = "ok" if check.ok else "missing" if check.needed else "absent"
        text = plain(check.found) if check.ok else plain("; ".join(filter(None, (check.found, check.fix))))
        grid.add_row(Text(word, style=style), check.name, text)
    return grid

"""`delete`: what a job wrote is removed from its store, and nothing else."""

import sys
from typing import Annotated

import typer

from longtake.cli.exits import ExitCode
from longtake.cli.fetching import Store
from longtake.cli.formatting import plural, size
from longtake.cli.session import run
from longtake.cli.submit import JobId
from longtake.cli.terminal import answer, one_line, say
from longtake.cli.transfer import TransferView
from longtake.client import RenderClient
from longtake.errors import BadJobError
from longtake.transfer.delete import Deleted
from longtake.transfer.stored_job import StoredJob

# Of many files that stay, so many are named.
_MOST_NAMED = 10


def delete(
    context: typer.Context,
    id: JobId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = None,
) -> None:
    """Remove what an ended job has written: its outputs that still are what it published, its logs and records.

    Files that were changed since, or that other jobs have too, stay and are named; so do inputs, which jobs share.
    The history in Temporal stays until its retention ends. The same command finishes what was interrupted.

    Example: longtake delete film-1a2b3c4d
    """
    where = run(context, lambda farm: StoredJob(farm.job(id), store).check_deletable())
    if where is None:
        answer(f"{id} has written nothing")
        return
    if not yes:
        _ask(id, where)

    async def work(farm: RenderClient) -> Deleted:
        with TransferView("deleting") as view:
            return await StoredJob(farm.job(id), store).delete(tell=view.tell)

    _tell(id, where, run(context, work, interrupted=lambda: "interrupted; the same command deletes the rest"))


def _ask(id: str, where: str) -> None:
    if not sys.stdin.isatty():
        raise BadJobError(f"--yes: is missing, and there is nobody here to be asked whether {id} is to be deleted")
    if not typer.confirm(one_line(f"Delete what {id} wrote to {where}?"), err=True):
        say("nothing was deleted")
        raise typer.Exit(ExitCode.FAILED)


def _tell(id: str, where: str, end: Deleted) -> None:
    for sentence in end.left[:_MOST_NAMED]:
        say(f"left: {sentence}")
    if len(end.left) > _MOST_NAMED:
        say(f"left: {len(end.left) - _MOST_NAMED:,} more")
    if end.aside:
        say(f"left: what was set aside for {id}, in {end.aside}; remove it when nobody misses it")
    if not end.files and not end.records:
        answer(f"nothing of {id} is left in {where} to be deleted")
        return
    records = f"{plural(end.records, 'file')} of logs and records ({size(end.record_bytes)})"
    answer(f"deleted {plural(end.files, 'output')} ({size(end.size_bytes)}) and {records} from {where}")
    say(f"the history of {id} stays in Temporal until its retention ends, and inputs stay for other jobs")

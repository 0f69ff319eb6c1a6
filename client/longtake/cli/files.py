"""The commands `fetch` and `delete`: download or remove the files of a job."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from longtake.cli.formatting import format_count
from longtake.cli.session import ExitCode, run_with_client
from longtake.cli.submit import JobId
from longtake.cli.terminal import TransferView, print_message, print_result
from longtake.client import RenderClient
from longtake.errors import BadJobError
from longtake.text import flatten_text, format_bytes
from longtake.transfer.delete import DeleteResult
from longtake.transfer.fetch import FetchResult

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Its store, when Temporal has forgotten the job: s3://bucket/prefix, or a folder.",
        show_default=False,
    ),
]

# Files that are named one by one.
_MOST_NAMED = 10


def fetch(
    context: typer.Context,
    id: JobId,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where to; a folder named after the job when absent.", show_default=False),
    ] = None,
    film_only: Annotated[bool, typer.Option("--film-only", help="Nothing but the film.")] = False,
    logs: Annotated[bool, typer.Option("--logs/--no-logs", help="The logs too, into logs/.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace other files that stand in the way.")] = False,
    store: StoreOption = None,
) -> None:
    """Bring home what a job has made, from its bucket or folder; each file is proven by its digest.

    What is there already is not fetched again, so that the same command goes on where one was interrupted.

    Example: longtake fetch film-1a2b3c4d films/
    """
    into = folder or Path(id)

    async def work(farm: RenderClient) -> FetchResult:
        with TransferView("fetching") as view:
            stored = farm.job(id).stored_in(store)
            return await stored.fetch(into, film_only=film_only, logs=logs, force=force, on_progress=view.on_progress)

    fetched = run_with_client(
        context, work, describe_interrupt=lambda: "interrupted; the same command fetches the rest"
    )
    new = f"{fetched.new_files:,} of them new ({format_bytes(fetched.new_bytes)})"
    if fetched.files:
        files = f"{format_count(fetched.files, 'file')} ({format_bytes(fetched.size_bytes)})"
        print_result(f"{files} in {into}; {new if fetched.new_files else 'nothing was new'}")
    for sentence in fetched.lost[:_MOST_NAMED]:
        print_message(sentence)
    if fetched.lost:
        lost = format_count(len(fetched.lost), "file")
        print_message(f"{lost} could not be fetched; `longtake retry {id}` renders what is damaged")
        raise typer.Exit(ExitCode.FAILED)


def delete(
    context: typer.Context,
    id: JobId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove what an ended job has written: its outputs that still are what it published, its logs and records.

    Files that were changed since, or that other jobs have too, stay and are named; so do inputs, which jobs share.
    The history in Temporal stays until its retention ends. The same command finishes what was interrupted.

    Example: longtake delete film-1a2b3c4d
    """
    where = run_with_client(context, lambda farm: farm.job(id).stored_in(store).check_deletable())
    if where is None:
        print_result(f"{id} has written nothing")
        return
    if not yes:
        _confirm_delete(id, where)

    async def work(farm: RenderClient) -> DeleteResult:
        with TransferView("deleting") as view:
            return await farm.job(id).stored_in(store).delete(on_progress=view.on_progress)

    deleted = run_with_client(
        context, work, describe_interrupt=lambda: "interrupted; the same command deletes the rest"
    )
    _print_deleted(id, where, deleted)


def _confirm_delete(id: str, where: str) -> None:
    if not sys.stdin.isatty():
        raise BadJobError(f"--yes: is missing, and there is nobody here to be asked whether {id} is to be deleted")
    if not typer.confirm(flatten_text(f"Delete what {id} wrote to {where}?"), err=True):
        print_message("nothing was deleted")
        raise typer.Exit(ExitCode.FAILED)


def _print_deleted(id: str, where: str, deleted: DeleteResult) -> None:
    for sentence in deleted.left[:_MOST_NAMED]:
        print_message(f"left: {sentence}")
    if len(deleted.left) > _MOST_NAMED:
        print_message(f"left: {len(deleted.left) - _MOST_NAMED:,} more")
    if deleted.aside:
        print_message(f"left: what was set aside for {id}, in {deleted.aside}; remove it when nobody misses it")
    if not deleted.files and not deleted.records:
        print_result(f"nothing of {id} is left in {where} to be deleted")
        return
    outputs = f"{format_count(deleted.files, 'output')} ({format_bytes(deleted.size_bytes)})"
    records = f"{format_count(deleted.records, 'file')} of logs and records ({format_bytes(deleted.record_bytes)})"
    print_result(f"deleted {outputs} and {records} from {where}")
    print_message(f"the history of {id} stays in Temporal until its retention ends, and inputs stay for other jobs")

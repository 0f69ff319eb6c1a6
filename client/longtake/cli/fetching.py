"""`fetch`: film, frames, chunk files and logs of a job, brought home from its store."""

from pathlib import Path
from typing import Annotated

import typer

from longtake.cli.exits import ExitCode
from longtake.cli.formatting import plural, size
from longtake.cli.session import run
from longtake.cli.submit import JobId
from longtake.cli.terminal import answer, say
from longtake.cli.transfer import TransferView
from longtake.client import RenderClient
from longtake.transfer.fetch import Fetched
from longtake.transfer.stored_job import StoredJob

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Its store, when Temporal has forgotten the job: s3://bucket/prefix, or a folder.",
        show_default=False,
    ),
]

# Of many lost files, so many are named.
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
    store: Store = None,
) -> None:
    """Bring home what a job has made, from its bucket or folder; each file is proven by its digest.

    What is there already is not fetched again, so that the same command goes on where one was interrupted.

    Example: longtake fetch film-1a2b3c4d films/
    """
    into = folder or Path(id)

    async def work(farm: RenderClient) -> Fetched:
        with TransferView("fetching") as view:
            stored = StoredJob(farm.job(id), store)
            return await stored.fetch(into, film_only=film_only, logs=logs, force=force, tell=view.tell)

    found = run(context, work, interrupted=lambda: "interrupted; the same command fetches the rest")
    news = f"{found.new_files:,} of them new ({size(found.new_bytes)})" if found.new_files else "nothing was new"
    if found.files:
        answer(f"{plural(found.files, 'file')} ({size(found.size_bytes)}) in {into}; {news}")
    for sentence in found.lost[:_MOST_NAMED]:
        say(sentence)
    if found.lost:
        say(f"{plural(len(found.lost), 'file')} could not be fetched; `longtake retry {id}` renders what is damaged")
        raise typer.Exit(ExitCode.FAILED)

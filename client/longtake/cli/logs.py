"""`logs`: what the renderers of a job printed."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from longtake.cli.logmirror import log_folder
from longtake.cli.logreader import LogReader
from longtake.cli.session import run
from longtake.cli.submit import JobId
from longtake.client import RenderClient
from longtake.concurrency import in_thread
from longtake.errors import BadJobError, LongtakeError

_LOOK_SECONDS = 0.5


def logs(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[int | None, typer.Option("--chunk", min=0, help="Only this chunk.", show_default=False)] = None,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", min=1, help="Only this try of the chunk, counted from 1.", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as more is printed, until the job ends.")] = False,
) -> None:
    """Print what renderers wrote, try by try, from the job's store.

    A bucket is read from anywhere; a folder must be visible on this host. Of a try that prints very much, beginning
    and end are kept. Names of tries go to stderr, and how much is left out.

    Example: longtake logs film-1a2b3c4d --chunk 7 --attempt 2
    """
    if attempt is not None and chunk is None:
        raise BadJobError(f"--attempt: counts the tries of one chunk; name it, as in --chunk 7 --attempt {attempt}")

    async def work(farm: RenderClient) -> LogReader:
        job = farm.job(id)
        status = await job.status()
        with log_folder(status.base_dir, id, chunk) as folder:
            reader = LogReader(folder.path, chunk, attempt)
            while follow and not status.state.ended:
                await in_thread(folder.sync)
                reader.print_new()
                await asyncio.sleep(_LOOK_SECONDS)
                status = await job.status()
            await in_thread(partial(folder.sync, now=True))
            reader.print_new(to_the_end=True)
            return reader

    reader = run(context, work)
    if reader.count == 0:
        raise LongtakeError(_nothing(id, chunk, attempt, reader.tries))


def _nothing(id: str, chunk: int | None, attempt: int | None, tries: int) -> str:
    """Return the sentence on why nothing was printed."""
    if attempt is None or tries == 0:
        which = id if chunk is None else f"chunk {chunk} of {id}"
        return f"there is no log of {which}; it has not begun, or needed no rendering"
    known = "try 1 only" if tries == 1 else f"tries 1 to {tries}"
    return f"there is no log of try {attempt} of chunk {chunk} of {id}; there is one of {known}"

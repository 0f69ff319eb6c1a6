"""`logs`: what the renderers of a job printed."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from longtake.cli.jobs import JobId
from longtake.cli.logreader import LogReader
from longtake.cli.session import run
from longtake.client import RenderClient
from longtake.errors import LongtakeError
from longtake.outputs import BOOKKEEPING_FOLDER
from longtake.status import JobStatus

_LOOK_SECONDS = 0.5


def logs(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[int | None, typer.Option("--chunk", min=0, help="Only this chunk.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as more is printed, until the job ends.")] = False,
) -> None:
    """Print what renderers wrote, try by try, from the job's store.

    The store must be visible on this host. Names of tries go to stderr.

    Example: longtake logs film-1a2b3c4d --chunk 7
    """

    async def work(farm: RenderClient) -> int:
        job = farm.job(id)
        status = await job.status()
        reader = LogReader(_folder(status), chunk)
        while follow and not status.state.ended:
            reader.print_new()
            await asyncio.sleep(_LOOK_SECONDS)
            status = await job.status()
        reader.print_new(to_the_end=True)
        return reader.count

    if run(context, work) == 0:
        which = id if chunk is None else f"chunk {chunk} of {id}"
        raise LongtakeError(f"there is no log of {which}; it has not begun, or needed no rendering")


def _folder(status: JobStatus) -> Path:
    """Return where the job's logs lie, if that can be seen from here.

    Raises:
        LongtakeError: It cannot.
    """
    if status.base_dir is None:
        raise LongtakeError(
            f"{status.id} has no store yet: no worker has planned it; `longtake doctor` shows the workers"
        )
    folder = Path(status.base_dir) / BOOKKEEPING_FOLDER / status.id
    if not folder.is_dir():
        raise LongtakeError(
            f"{folder} is not visible on this host; run `longtake logs {status.id}` where the job's store is mounted"
        )
    return folder / "logs"

"""`logs`: what the renderers of a job printed."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from longtake.cli.jobs import JobId
from longtake.cli.session import run
from longtake.cli.terminal import clean, say
from longtake.client import RenderClient
from longtake.errors import LongtakeError
from longtake.outputs import BOOKKEEPING_FOLDER

# `000007.<attempt>.log` and `film.<attempt>.log`, as workers name them.
_LOG_NAME = re.compile(r"(\d{6,}|film)\.(.+)\.log", re.ASCII)


@dataclass(frozen=True)
class Log:
    """What one try of a chunk, or of the film, printed."""

    path: Path
    what: str
    attempt: str
    changed: float


def logs(
    context: typer.Context,
    id: JobId,
    chunk: Annotated[int | None, typer.Option("--chunk", min=0, help="Only this chunk.", show_default=False)] = None,
) -> None:
    """Print what renderers wrote, one try after the other, as the job's store holds it.

    Example: longtake logs film-1a2b3c4d --chunk 7
    """

    async def folder_of(farm: RenderClient) -> Path:
        status = await farm.job(id).status()
        if status.base_dir is None:
            raise LongtakeError(f"{id} has no store yet: no worker has planned it; `longtake doctor` shows the workers")
        return Path(status.base_dir) / BOOKKEEPING_FOLDER / id / "logs"

    folder = run(context, folder_of)
    found = _find(folder, id, chunk)
    if not found:
        which = id if chunk is None else f"chunk {chunk} of {id}"
        raise LongtakeError(f"there is no log of {which} in {folder}; it has not begun, or needed no rendering")
    for what, group in groupby(found, key=lambda log: log.what):
        tries = list(group)
        for number, log in enumerate(tries, start=1):
            say(f"==> {what}, try {number} of {len(tries)} ({log.path.name})")
            _print(log.path)


def _find(folder: Path, id: str, chunk: int | None) -> list[Log]:
    """Return the logs in the order of chunks and time, the film's last."""
    if not folder.parent.is_dir():
        raise LongtakeError(
            f"{folder.parent} is not visible on this host; run `longtake logs {id}` where the job's store is mounted"
        )
    names = f"{chunk:06}.*.log" if chunk is not None else "*.log"
    found = [log for path in folder.glob(names) if (log := _log(path))]
    return sorted(found, key=lambda log: (log.what == "film", len(log.what), log.what, log.changed))


def _log(path: Path) -> Log | None:
    match = _LOG_NAME.fullmatch(path.name)
    if match is None:
        return None
    what = "film" if match[1] == "film" else f"chunk {int(match[1])}"
    return Log(path, what, match[2], path.stat().st_mtime)


def _print(path: Path) -> None:
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in _readable(lines):
                print(line)
    except OSError as error:
        say(f"{path} cannot be read ({error.strerror})")


def _readable(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines as a terminal would have left them: of a line drawn over and over, the last drawing."""
    for line in lines:
        yield clean(line.rstrip("\r\n").rpartition("\r")[2])

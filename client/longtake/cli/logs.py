"""The command `logs`: print the logs of a job's renderers from the store, and follow them as they grow."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from longtake.cli.session import run_with_client
from longtake.cli.submit import JobId
from longtake.cli.terminal import print_message
from longtake.client import RenderClient
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, LongtakeError
from longtake.models.status import JobStatus
from longtake.stored_logs import LogLines, LogTexts, StoredLog, find_logs
from longtake.stores.factory import is_bucket, open_client_store, require_visible_store
from longtake.stores.job_layout import describe_key, job_folder_path
from longtake.stores.job_records import JobRecords
from longtake.stores.store import StoreError
from longtake.text import format_bytes

# How often a followed log is read.
_POLL_SECONDS = 0.5

# Workers send what has grown every few seconds; more requests would find nothing new and cost money.
_BUCKET_POLL_SECONDS = 2.0


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

    async def work(farm: RenderClient) -> tuple[LogReader, JobStatus]:
        job = farm.job(id)
        status = await job.status()
        with open_records(status.base_dir, id) as records:
            reader = LogReader(records, chunk, attempt)
            while follow and not status.state.has_ended:
                await run_in_thread(reader.print_new)
                await asyncio.sleep(_POLL_SECONDS if records.store.is_local else _BUCKET_POLL_SECONDS)
                status = await job.status()
            await run_in_thread(partial(reader.print_new, final=True))
            return reader, status

    reader, status = run_with_client(context, work)
    if reader.log_count == 0 and attempt is None and (chunk or 0) < status.completed_chunks == status.total_chunks:
        print_message(f"{id} has rendered all of its chunks, and its renderers have printed nothing")
    elif reader.log_count == 0:
        raise LongtakeError(_describe_missing(id, chunk, attempt, reader.try_count))


def _describe_missing(id: str, chunk: int | None, attempt: int | None, tries: int) -> str:
    """Return why no log was printed, and which tries have logs."""
    if attempt is None or tries == 0:
        which = id if chunk is None else f"chunk {chunk} of {id}"
        return f"there is no log of {which}; it has not begun, printed nothing, or needed no rendering"
    known = "try 1 only" if tries == 1 else f"tries 1 to {tries}"
    return f"there is no log of try {attempt} of chunk {chunk} of {id}; there is one of {known}"


@contextmanager
def open_records(url: str | None, job_id: str) -> Iterator[JobRecords]:
    """Open the records of a job, whose logs are read from where they are.

    Args:
        url: The job's store.
        job_id: The job.

    Raises:
        LongtakeError: The store is not visible on this host, or not usable.
    """
    url = require_visible_store(url, job_id)
    if not is_bucket(url):
        require_visible_store(job_folder_path(url, job_id), job_id)
    with open_client_store(url) as store:
        yield JobRecords(store, job_id)


class LogReader:
    """Print the logs of a job to stdout, each under a line on stderr that names its try; methods block.

    Args:
        records: The job.
        chunk: The only chunk to print; None for all chunks and the film.
        attempt: The only try of that chunk to print, counted from 1; None for all tries.
    """

    def __init__(self, records: JobRecords, chunk: int | None = None, attempt: int | None = None) -> None:
        self._records = records
        self._key = None if chunk is None else str(chunk)
        self._attempt = attempt
        self._texts = LogTexts()
        self._lines: dict[str, LogLines] = {}
        self._found: list[StoredLog] = []
        self._headed = ""

    @property
    def log_count(self) -> int:
        """Number of logs that are printed."""
        return len(self._select_logs())

    @property
    def try_count(self) -> int:
        """Number of tries that have a log, printed or not."""
        return len(self._found)

    def print_new(self, *, final: bool = False) -> None:
        """Print what was added to the logs since the last call.

        Args:
            final: Whether nothing more is written: incomplete last lines and tries that printed nothing count, too.

        Raises:
            StoreError: The store is away.
        """
        self._found = find_logs(self._records, self._key)
        for log in self._select_logs():
            lines = self._lines.setdefault(log.name, LogLines(self._texts, self._records))
            if final and not lines.has_begun:
                # Of a try that printed nothing the heading alone is shown.
                self._print_heading(log)
            self._print(log, lines, final)

    def _select_logs(self) -> list[StoredLog]:
        return [log for log in self._found if self._attempt in (None, log.attempt)]

    def _print(self, log: StoredLog, lines: LogLines, final: bool) -> None:
        try:
            for left_out, new in lines.read_new(log, final=final):
                if new or left_out:
                    self._print_heading(log)
                if left_out:
                    print_message(f"... {format_bytes(left_out)} are left out here: it printed more than is kept")
                sys.stdout.write("".join(f"{line}\n" for line in new))
                sys.stdout.flush()
        except (BrokenPipeError, StoreError):
            raise
        except OSError as error:
            print_message(f"{log.name} cannot be read ({error.strerror})")

    def _print_heading(self, log: StoredLog) -> None:
        if log.name != self._headed:
            self._headed = log.name
            print_message(f"==> {describe_key(log.key).removeprefix('the ')}, try {log.attempt} ({log.name})")

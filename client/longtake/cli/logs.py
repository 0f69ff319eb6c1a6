"""The command `logs`: print the logs of a job's renderers from the store, and follow them as they grow."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from longtake.attempt_log import LOG_NAME, AttemptLog
from longtake.cli.session import run_with_client
from longtake.cli.submit import JobId
from longtake.cli.terminal import print_message
from longtake.client import RenderClient
from longtake.concurrency import run_in_thread
from longtake.errors import BadJobError, LongtakeError
from longtake.models.status import JobStatus
from longtake.stores.factory import is_bucket, open_client_store, require_visible_store
from longtake.stores.job_layout import LOGS, describe_key, find_film_number, job_folder_path
from longtake.stores.store import Store, StoredFile, map_parallel
from longtake.text import Redactor, format_bytes, strip_controls

# How often a followed log is read.
_POLL_SECONDS = 0.5

# Workers send what has grown every few seconds; more requests would find nothing new and cost money.
_SYNC_SECONDS = 2.0

# Bytes read at a time; memory holds a few times as much, however long a log or a line is.
_PIECE_BYTES = 256 * 1024

# A longer line is printed in parts.
_LINE_BYTES = 64 * 1024


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
        with open_log_folder(status.base_dir, id, chunk) as folder:
            reader = LogReader(folder.path, chunk, attempt)
            while follow and not status.state.has_ended:
                await run_in_thread(folder.sync)
                reader.print_new()
                await asyncio.sleep(_POLL_SECONDS)
                status = await job.status()
            await run_in_thread(partial(folder.sync, force=True))
            reader.print_new(final=True)
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


class LogFolder:
    """Read logs from a folder that this host sees.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def sync(self, *, force: bool = False) -> None:
        """Bring the folder up to date; a folder that workers write to always is."""


class LogMirror(LogFolder):
    """Copy the logs of a job from a bucket to a folder of this host, again and again as they grow.

    Args:
        store: The job's store.
        folder: Folder of the logs in the store.
        path: Folder of this host, empty.
        chunk: The only chunk whose logs are copied; None for all chunks and the film.
    """

    def __init__(self, store: Store, folder: str, path: Path, chunk: int | None) -> None:
        super().__init__(path)
        self._store = store
        self._folder = folder
        self._prefix = "" if chunk is None else f"{chunk:06}."
        self._copied: dict[str, tuple[int, int]] = {}
        self._due = 0.0

    def sync(self, *, force: bool = False) -> None:
        """Download logs that are new or have grown, and remove those that the store no longer has. Blocking.

        Args:
            force: Download even if the last time was a moment ago.
        """
        if time.monotonic() < self._due and not force:
            return
        stored = {file.name: file for file in self._store.files(self._folder) if self._is_wanted(file)}
        changed = [
            file for file in stored.values() if self._copied.get(file.name) != (file.size_bytes, file.modified_ns)
        ]
        map_parallel(self._store, self._download, changed)
        for name in set(self._copied) - set(stored):
            (self.path / name).unlink(missing_ok=True)
            del self._copied[name]
        self._due = time.monotonic() + _SYNC_SECONDS

    def _is_wanted(self, file: StoredFile) -> bool:
        return file.name.startswith(self._prefix) and LOG_NAME.fullmatch(file.name) is not None

    def _download(self, file: StoredFile) -> None:
        # A segment may be gone by now: workers remove the oldest ones of a long log.
        with suppress(FileNotFoundError):
            partial_copy = self._store.download(file.location, self.path / f".{file.name}")
            # `LogReader` numbers the tries of a chunk by these times.
            os.utime(partial_copy, ns=(file.modified_ns, file.modified_ns))
            partial_copy.replace(self.path / file.name)
            self._copied[file.name] = file.size_bytes, file.modified_ns


@contextmanager
def open_log_folder(url: str | None, job_id: str, chunk: int | None) -> Iterator[LogFolder]:
    """Open a local folder with the logs of a job; the copy of logs in a bucket is removed at the end.

    Args:
        url: The job's store.
        job_id: The job.
        chunk: The only chunk whose logs are copied from a bucket; None for all chunks and the film.

    Raises:
        LongtakeError: The store is not visible on this host, or not usable.
    """
    url = require_visible_store(url, job_id)
    folder = job_folder_path(url, job_id)
    if not is_bucket(url):
        require_visible_store(folder, job_id)
        yield LogFolder(Path(folder) / LOGS)
        return
    with open_client_store(url) as store, TemporaryDirectory(prefix="longtake-logs-") as copy:
        yield LogMirror(store, f"{folder}/{LOGS}", Path(copy), chunk)


class LogReader:
    """Print the logs in a folder to stdout, each under a line on stderr that names its try.

    Args:
        folder: Folder of a job's logs.
        chunk: The only chunk to print; None for all chunks and the film.
        attempt: The only try of that chunk to print, counted from 1; None for all tries.
    """

    def __init__(self, folder: Path, chunk: int | None = None, attempt: int | None = None) -> None:
        self._folder = folder
        self._chunk = chunk
        self._attempt = attempt
        self._names: dict[str, list[str]] = {}
        self._logs: dict[str, _Log] = {}
        self._try_counts: dict[str, int] = {}
        self._headed: _Log | None = None

    @property
    def log_count(self) -> int:
        """Number of logs that are printed."""
        return len(self._select_logs())

    @property
    def try_count(self) -> int:
        """Number of tries that have a log, printed or not."""
        return len(self._logs)

    def print_new(self, *, final: bool = False) -> None:
        """Print what was added to the logs since the last call.

        Args:
            final: Whether nothing more is written: incomplete last lines and tries that printed nothing count, too.
        """
        self._scan_folder()
        for log in self._select_logs():
            if final and not log.lines.has_begun:
                # Of a try that printed nothing the heading alone is shown.
                self._print_heading(log)
            self._print(log, final)

    def _print(self, log: "_Log", final: bool) -> None:
        try:
            for left_out, lines in log.lines.read_new(final=final):
                if lines or left_out:
                    self._print_heading(log)
                if left_out:
                    print_message(f"... {format_bytes(left_out)} are left out here: it printed more than is kept")
                text = "".join(f"{log.format_line(line)}\n" for line in lines)
                sys.stdout.write(text)
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            print_message(f"{log.name} cannot be read ({error.strerror})")

    def _select_logs(self) -> "list[_Log]":
        selected = [log for log in self._logs.values() if self._attempt in (None, log.number)]
        return sorted(selected, key=lambda log: log.sort_key)

    def _scan_folder(self) -> None:
        # The folder is listed once for all logs: there may be 100,000.
        prefix = "" if self._chunk is None else f"{self._chunk:06}."
        self._names = {}
        heads = []
        for entry in _list_folder(self._folder):
            if entry.name.startswith(prefix) and (match := LOG_NAME.fullmatch(entry.name)):
                self._names.setdefault(match[1], []).append(entry.name)
                if entry.name == match[1] and entry.name not in self._logs:
                    heads.append((_read_mtime(entry), entry.name))
        for _, name in sorted(heads):
            key = name.partition(".")[0]
            self._try_counts[key] = number = self._try_counts.get(key, 0) + 1
            log = AttemptLog(self._folder / name, partial(self._names_of, name))
            self._logs[name] = _Log(key, number, name, log)

    def _names_of(self, head: str) -> list[str]:
        return self._names.get(head, [])

    def _print_heading(self, log: "_Log") -> None:
        if log is not self._headed:
            self._headed = log
            print_message(f"==> {log.title}, try {log.number} ({log.name})")


class _Log:
    """The log of one try, with its place among the others."""

    def __init__(self, key: str, number: int, name: str, log: AttemptLog) -> None:
        film = find_film_number(key)
        self.name = name
        self.number = number
        self.title = describe_key(key).removeprefix("the ")
        self.sort_key = (film is not None, int(key) if film is None else film, number)
        self.lines = LogLines(log)
        self._redactor = Redactor()

    def format_line(self, line: bytes) -> str:
        """Return a line without control characters and declared secrets."""
        return self._redactor.mask(clean_line(line.decode(errors="replace")))


def clean_line(line: str) -> str:
    """Return the last state of a line that a program drew over and over, without control characters."""
    return strip_controls(line.rstrip("\r\n").rpartition("\r")[2])


def _list_folder(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        # Nothing was rendered yet.
        return


def _read_mtime(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class LogLines:
    """Read each line of a growing log once, in order.

    Args:
        log: The log.
    """

    def __init__(self, log: AttemptLog) -> None:
        self._log = log
        self._offset = 0
        self._line = b""

    @property
    def has_begun(self) -> bool:
        """Whether any line was read."""
        return self._offset > 0

    def read_new(self, *, final: bool) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the new lines in pieces, each with the number of bytes before it that the log has not kept.

        Args:
            final: Whether nothing more is written: an incomplete last line is yielded, too.

        Raises:
            OSError: The log exists and cannot be read.
        """
        if final:
            # `size` follows the newest segment, and misses later ones where the segment between has gone by.
            self._log.segments()
        # What is added meanwhile is left for the next call: a try that prints without end would hold up the others.
        size = self._log.size
        while self._offset < size and (piece := self._log.read(self._offset, _PIECE_BYTES)).data:
            left_out = piece.offset - self._offset
            self._offset = piece.stop
            if left_out and self._line:
                yield 0, self._take_partial()
            yield left_out, self._split(piece.data)
        if final and self._line:
            yield 0, self._take_partial()

    def _split(self, data: bytes) -> list[bytes]:
        *complete, self._line = (self._line + data).split(b"\n")
        lines = [part for line in complete for part in _split_line(line)]
        while len(self._line) > _LINE_BYTES:
            lines.append(self._line[:_LINE_BYTES])
            self._line = self._line[_LINE_BYTES:]
        return lines

    def _take_partial(self) -> list[bytes]:
        line, self._line = self._line, b""
        return [line]


def _split_line(line: bytes) -> list[bytes]:
    return [line[at : at + _LINE_BYTES] for at in range(0, len(line), _LINE_BYTES)] or [b""]

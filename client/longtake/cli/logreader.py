"""Reading the logs of a job's tries, also while they grow."""

import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from longtake.attempt_log import AttemptLog
from longtake.cli.formatting import size
from longtake.cli.loglines import LogLines
from longtake.cli.terminal import say
from longtake.plaintext import Redactor, plain

# `000007.<attempt>.log` and `film.<attempt>.log`, as workers name them; `.<offset>` behind that in segments.
LOG_NAME = re.compile(r"((?:\d{6,}|film)\..+?\.log)(?:\.\d+)?", re.ASCII)


class LogReader:
    """Prints logs to stdout, each under a line on stderr that names its try.

    Args:
        folder: The job's logs.
        chunk: The only chunk to print; all of them and the film when None.
        attempt: The only try of that chunk to print, counted from 1; all of them when None.
    """

    def __init__(self, folder: Path, chunk: int | None = None, attempt: int | None = None) -> None:
        self._folder = folder
        self._chunk = chunk
        self._attempt = attempt
        self._names: dict[str, list[str]] = {}
        self._logs: dict[str, _Log] = {}
        self._tries: dict[str, int] = {}
        self._named: _Log | None = None

    @property
    def count(self) -> int:
        """How many logs were found that are to be printed."""
        return len(self._wanted())

    @property
    def tries(self) -> int:
        """How many tries have a log, printed or not."""
        return len(self._logs)

    def print_new(self, *, to_the_end: bool = False) -> None:
        """Print what was added since the last time; a line that is not complete yet only `to_the_end`."""
        self._find()
        for log in self._wanted():
            if to_the_end and not log.lines.begun:
                # A try that printed nothing is worth knowing of.
                self._name(log)
            self._print(log, to_the_end)

    def _print(self, log: "_Log", to_the_end: bool) -> None:
        try:
            for left_out, lines in log.lines.new(to_the_end=to_the_end):
                if lines or left_out:
                    self._name(log)
                if left_out:
                    say(f"... {size(left_out)} are left out here: it printed more than is kept")
                text = "".join(f"{log.shown(line)}\n" for line in lines)
                sys.stdout.write(text)
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            say(f"{log.name} cannot be read ({error.strerror})")

    def _wanted(self) -> "list[_Log]":
        wanted = [log for log in self._logs.values() if self._attempt in (None, log.number)]
        return sorted(wanted, key=lambda log: log.place)

    def _find(self) -> None:
        """List the folder once for all logs: there may be 100,000."""
        begins = "" if self._chunk is None else f"{self._chunk:06}."
        self._names = {}
        heads = []
        for entry in _entries(self._folder):
            if entry.name.startswith(begins) and (match := LOG_NAME.fullmatch(entry.name)):
                self._names.setdefault(match[1], []).append(entry.name)
                if entry.name == match[1] and entry.name not in self._logs:
                    heads.append((_written_at(entry), entry.name))
        for _, name in sorted(heads):
            key = name.partition(".")[0]
            self._tries[key] = number = self._tries.get(key, 0) + 1
            log = AttemptLog(self._folder / name, partial(self._names_of, name))
            self._logs[name] = _Log(key, number, name, log)

    def _names_of(self, head: str) -> list[str]:
        return self._names.get(head, [])

    def _name(self, log: "_Log") -> None:
        if log is not self._named:
            self._named = log
            say(f"==> {log.what}, try {log.number} ({log.name})")


class _Log:
    """The log of one try."""

    def __init__(self, key: str, number: int, name: str, log: AttemptLog) -> None:
        film = key == "film"
        self.name = name
        self.number = number
        self.what = "film" if film else f"chunk {int(key)}"
        self.place = (film, 0 if film else int(key), number)
        self.lines = LogLines(log)
        self._redactor = Redactor()

    def shown(self, line: bytes) -> str:
        """Return a line as it may be shown."""
        return self._redactor.mask(readable(line.decode(errors="replace")))


def readable(line: str) -> str:
    """Return a line as a terminal would have left it: of one that was drawn over and over, the last drawing."""
    return plain(line.rstrip("\r\n").rpartition("\r")[2])


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        # Nothing was rendered yet.
        return


def _written_at(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0

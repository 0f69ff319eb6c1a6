"""Reading the logs of a job's tries, also while they grow."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from longtake.cli.terminal import clean, say

# `000007.<attempt>.log` and `film.<attempt>.log`, as workers name them.
_LOG_NAME = re.compile(r"(\d{6,}|film)\.(.+)\.log", re.ASCII)


class LogReader:
    """Prints logs to stdout, each under a line on stderr that names its try.

    Args:
        folder: The job's logs.
        chunk: The only chunk to print; all of them and the film when None.
    """

    def __init__(self, folder: Path, chunk: int | None = None) -> None:
        self._folder = folder
        self._pattern = "*.log" if chunk is None else f"{chunk:06}.*.log"
        self._logs: dict[Path, _Log] = {}
        self._tries: dict[str, int] = {}
        self._named: _Log | None = None

    @property
    def count(self) -> int:
        """How many logs were found."""
        return len(self._logs)

    def print_new(self, *, to_the_end: bool = False) -> None:
        """Print what was added since the last time; a line that is not complete yet only `to_the_end`."""
        self._find()
        for log in sorted(self._logs.values(), key=lambda log: log.place):
            if to_the_end and not log.begun:
                # A try that printed nothing is worth knowing of.
                self._name(log)
            for line in log.read(to_the_end=to_the_end):
                self._name(log)
                print(line, flush=True)

    def _find(self) -> None:
        new = [path for path in self._folder.glob(self._pattern) if path not in self._logs]
        for path in sorted(new, key=lambda path: path.stat().st_mtime):
            if match := _LOG_NAME.fullmatch(path.name):
                what = "film" if match[1] == "film" else f"chunk {int(match[1])}"
                self._tries[what] = number = self._tries.get(what, 0) + 1
                order = (what == "film", 0 if what == "film" else int(match[1]), number)
                self._logs[path] = _Log(path, f"{what}, try {number}", order)

    def _name(self, log: "_Log") -> None:
        if log is not self._named:
            self._named = log
            say(f"==> {log.name} ({log.path.name})")


@dataclass(eq=False)
class _Log:
    """The log of one try, and how far it was printed."""

    path: Path
    name: str
    place: tuple[bool, int, int]
    _offset: int = field(default=0, init=False)

    @property
    def begun(self) -> bool:
        """Whether any of it was read."""
        return self._offset > 0

    def read(self, *, to_the_end: bool) -> Iterator[str]:
        """Yield the lines that were added."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n") and not to_the_end:
                        break
                    self._offset += len(line)
                    yield readable(line.decode(errors="replace"))
        except OSError as error:
            say(f"{self.path} cannot be read ({error.strerror})")


def readable(line: str) -> str:
    """Return a line as a terminal would have left it: of one that was drawn over and over, the last drawing."""
    return clean(line.rstrip("\r\n").rpartition("\r")[2])

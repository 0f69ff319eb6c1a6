"""A job's own regular expressions on what its renderer prints."""

import json
import logging
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence

from activities.progress import pattern_matcher
from activities.progress.formats import ProgressUpdate, percent, share_of

# What is searched of one line. Together with the matcher's limit on CPU time this bounds what a pattern can cost:
# one that runs away costs the limit once, and is not asked again.
_LINE_CHARACTERS = 4096

_NUMBER = re.compile(r"-?[0-9]{1,9}")

_log = logging.getLogger(__name__)

Match = tuple[int, dict[str, str]]


class UserPatterns:
    """Searches lines for a job's patterns, in a process of its own that lives as long as this object.

    Args:
        progress: Patterns with groups `frame`, `done`, `total` or `percent`.
        fatal: Patterns of lines that make the try fail.
    """

    def __init__(self, progress: Sequence[str], fatal: Sequence[str]) -> None:
        self.progress = list(progress)
        self.fatal = list(fatal)
        self._process: subprocess.Popen[bytes] | None = None

    def signs(self, lines: Sequence[str]) -> Iterator[ProgressUpdate]:
        """Yield what the lines say, pattern by pattern."""
        for pattern in tuple(self.progress):
            for _, groups in self._matches(pattern, lines):
                yield update_from_groups(groups)

    def first_fatal(self, lines: Sequence[str]) -> str | None:
        """Return the first line that makes the try fail, if there is one."""
        found = [self._matches(pattern, lines) for pattern in tuple(self.fatal)]
        first = min((matches[0][0] for matches in found if matches), default=None)
        return None if first is None else lines[first]

    def _matches(self, pattern: str, lines: Sequence[str]) -> list[Match]:
        if not lines:
            return []
        request = json.dumps({"pattern": pattern, "lines": [line[:_LINE_CHARACTERS] for line in lines]})
        try:
            answer = self._ask(request.encode() + b"\n")
        except OSError:
            answer = b""
        if not answer:
            _log.warning("pattern %r takes too long and is no longer looked for in this try", pattern)
            self._forget(pattern)
            return []
        return [(index, groups) for index, groups in json.loads(answer)]

    def _ask(self, request: bytes) -> bytes:
        if self._process is None:
            # -I and -S: started in 15 ms, and nothing of the environment reaches it.
            command = [sys.executable, "-I", "-S", pattern_matcher.__file__]
            self._process = subprocess.Popen(
                command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            weakref.finalize(self, _end, self._process)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request)
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def _forget(self, pattern: str) -> None:
        for patterns in (self.progress, self.fatal):
            if pattern in patterns:
                patterns.remove(pattern)
        if self._process is not None:
            _end(self._process)
            self._process = None


def update_from_groups(groups: dict[str, str]) -> ProgressUpdate:
    """Return what the named groups of a match say; groups that are no numbers say nothing."""
    numbers = {name: int(text) for name, text in groups.items() if _NUMBER.fullmatch(text)}
    done, total = numbers.get("done"), numbers.get("total")
    share = percent(groups.get("percent", ""))
    if share is None and done is not None and total is not None and done >= 0:
        share, done = share_of(done, total), None
    return ProgressUpdate(done=done, share=share, begun=numbers.get("frame"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process and no open pipe behind; there is nothing in it to lose."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                # What it was sent last it never read.
                continue


class LogPatternSearch:
    """Searches one text for patterns; each costs a bounded time, because `re` itself cannot be interrupted.

    Args:
        text: The end of a log. A pattern is looked for in each line, so that `^` and `$` are those of the line, and
            then in all of it, so that it may span lines.
    """

    def __init__(self, text: str) -> None:
        self._lines = [*text.splitlines(), text]

    def has(self, pattern: str) -> bool:
        """Tell whether the text holds the pattern; one that takes too long is taken for not found. Blocking."""
        request = json.dumps({"pattern": pattern, "lines": self._lines})
        # -I and -S: started in 15 ms, and nothing of the environment reaches it. It bounds its own CPU time.
        answer = subprocess.run(
            [sys.executable, "-I", "-S", pattern_matcher.__file__],
            input=request.encode() + b"\n",
            env={},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return bool(answer.stdout and json.loads(answer.stdout))

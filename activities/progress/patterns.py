"""Searching for a job's own regular expressions, in a process of bounded CPU time (`longtake.pattern_matcher`)."""

import json
import logging
import re
import subprocess
import weakref
from collections.abc import Iterator, Sequence

from activities.progress.formats import ProgressUpdate, compute_share, parse_percent
from longtake.pattern_check import encode_request, matcher_command

# Longest part of a line that is searched. With the matcher's limit on CPU time this bounds the cost of a pattern: one
# that runs away costs the limit once, and is not searched again.
_LINE_CHARACTERS = 4096

_NUMBER = re.compile(r"-?[0-9]{1,9}")

_log = logging.getLogger(__name__)

Match = tuple[int, dict[str, str]]


class UserPatterns:
    """Searches printed lines for a job's patterns, in a process that lives as long as this object.

    Args:
        progress: Patterns with groups `frame`, `done`, `total` or `percent`.
        fatal: Patterns of lines that make the try fail.
    """

    def __init__(self, progress: Sequence[str], fatal: Sequence[str]) -> None:
        self.progress = list(progress)
        self.fatal = list(fatal)
        self._process: subprocess.Popen[bytes] | None = None

    def find_updates(self, lines: Sequence[str]) -> Iterator[ProgressUpdate]:
        """Yield the progress that the lines report, pattern by pattern."""
        for pattern in tuple(self.progress):
            for _, groups in self._matches(pattern, lines):
                yield parse_groups(groups)

    def find_fatal_line(self, lines: Sequence[str]) -> str | None:
        """Find the first line that makes the try fail; None where there is none."""
        found = [self._matches(pattern, lines) for pattern in tuple(self.fatal)]
        first = min((matches[0][0] for matches in found if matches), default=None)
        return None if first is None else lines[first]

    def _matches(self, pattern: str, lines: Sequence[str]) -> list[Match]:
        if not lines:
            return []
        request = encode_request(pattern, [line[:_LINE_CHARACTERS] for line in lines])
        try:
            answer = self._ask(request)
        except OSError:
            answer = b""
        if not answer:
            _log.warning("pattern %r takes too long and is no longer looked for in this try", pattern)
            self._forget(pattern)
            return []
        return _matches_in(answer)

    def _ask(self, request: bytes) -> bytes:
        if self._process is None:
            self._process = subprocess.Popen(
                matcher_command(), env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
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


def _matches_in(answer: bytes) -> list[Match]:
    """Return the matches; none where the pattern is no regular expression, as only an unchecked job can have."""
    found = json.loads(answer)
    return [] if isinstance(found, dict) else [(index, groups) for index, groups in found]


def parse_groups(groups: dict[str, str]) -> ProgressUpdate:
    """Parse the named groups of a match; groups that are no numbers are ignored."""
    numbers = {name: int(text) for name, text in groups.items() if _NUMBER.fullmatch(text)}
    done, total = numbers.get("done"), numbers.get("total")
    share = parse_percent(groups.get("percent", ""))
    if share is None and done is not None and total is not None and done >= 0:
        share, done = compute_share(done, total), None
    return ProgressUpdate(frames_done=done, share=share, current_frame=numbers.get("frame"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the matcher and close its pipes; it holds nothing that could be lost."""
    process.kill()
    # Which closes pipes also where the last request was never read, when `close` raises.
    process.communicate()


class LogPatternSearch:
    """Searches one text for patterns, each in a process of its own with bounded CPU time.

    Args:
        text: The end of a log. A pattern is searched in each line, so that `^` and `$` are those of the line, and
            then in the whole text, so that it may span lines.
    """

    def __init__(self, text: str) -> None:
        self._lines = [*text.splitlines(), text]

    def has_match(self, pattern: str) -> bool:
        """Return whether the text holds a pattern; one that takes too long counts as not found. Blocking."""
        request = encode_request(pattern, self._lines)
        answer = subprocess.run(
            matcher_command(),
            input=request,
            env={},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return bool(answer.stdout and _matches_in(answer.stdout))

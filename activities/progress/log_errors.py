"""What the end of a log says of why a renderer failed."""

import re
from collections.abc import Iterator
from pathlib import Path

from longtake.attempt_log import AttemptLog
from longtake.text import Redactor, plain, short_line

# What a renderer prints without a line's end, such as a picture, must not pile up in memory; OpenJD has the same cap.
LONGEST_LINE_BYTES = 64 * 1024

_ENDS = re.compile(rb"[\r\n]+")


class LineSplitter:
    """Makes lines of bytes; a carriage return ends one too, because that is how progress is drawn over and over."""

    def __init__(self) -> None:
        self._begun = b""
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete now, without their ends; empty ones are left out."""
        *ended, rest = _ENDS.split(data)
        for line in ended:
            whole = b"" if self._skipping else (self._begun + line)[:LONGEST_LINE_BYTES]
            self._begun, self._skipping = b"", False
            if whole:
                yield whole
        self._begun = (self._begun + rest)[:LONGEST_LINE_BYTES]

    def skip(self) -> None:
        """Hear that bytes are left out here: what comes up to the next line's end is no whole line."""
        self._begun, self._skipping = b"", True

    def finish(self) -> Iterator[bytes]:
        """Yield the last line, which nothing has ended."""
        begun, self._begun = self._begun, b""
        if begun and not self._skipping:
            yield begun


def text_of(line: bytes) -> str:
    """Return a line as plain text, whatever it holds."""
    return plain(line.decode("utf-8", "replace"))


# Errors are followed by progress, summaries and farewells, and seldom by more than this.
_TAIL_BYTES = 64 * 1024

# Lines that draw progress: they say nothing of why a renderer ended.
_PROGRESS = re.compile(
    r"\s*(?:(?:frame|fps|stream_\d+_\d+_\w+|bitrate|total_size|out_time(?:_us|_ms)?|(?:dup|drop)_frames|speed|progress)"
    r"=\s*\S*|(?:frame|size)=.*(?:time|bitrate)=.*|(?:Progress:\s+)?Rendered\s+\d+\s*/\s*\d+.*|openjd_progress: .*"
    r"|(?:[\d:.]+\s+\w+\s*\|\s*)?(?:Fra:.*|Saved:.*|Time:.*\(Saving:.*|Append frame.*|Blender quit))\s*"
)

_TELLING = re.compile(
    r"error|\bfatal|\bfail(?:ed|s|ure|ing)?\b|exception\b|\bcannot\b|\bcan't\b|could ?n.t\b|\bunable to\b|out of memory"
    r"|no space left|no such file|not found|not divisible|\bdenied\b|\binvalid\b|\bsegmentation fault|\bpanic|\babort"
    r"|\bassert|\bunknown (?:encoder|decoder|option|argument)|unrecogni[sz]ed|unsupported|^openjd_fail: ",
    re.IGNORECASE,
)
_NOT_TELLING = re.compile(r"\b(?:0|no|without) (?:errors?|failures?|exceptions?)\b|^\s*File \"", re.IGNORECASE)
# Errors further apart than this are of different causes.
_BURST_LINES = 4
_TRACEBACK = "Traceback (most recent call last)"


_SECRET = re.compile(rb"openjd_redacted_env:[^\r\n]*")
_SCANNED_BYTES = 1024 * 1024


def error_lines(log: Path, *, lines: int = 3, most: int = 600, since: int = 0) -> str:
    """Return the last lines that matter, as one line of plain text, for an error; empty where nothing was printed.

    Lines that look like errors matter most; else the last ones that are no progress; else the last ones.

    Args:
        log: The head of the log.
        lines: How many at most.
        most: How many characters at most.
        since: Where in the log the output of the command in question begins.
    """
    printed = _last_lines(log, since)
    said = [line for line in printed if not _PROGRESS.fullmatch(line)] or printed
    chosen = _errors(said, lines) or said[-lines:]
    return short_line(" | ".join(short_line(line, most // max(1, len(chosen)) - 3) for line in chosen), most)


def log_tail(log: Path, *, since: int = 0) -> str:
    """Return the last of a log, up to 64 KiB, as lines of plain text; empty where it cannot be read."""
    return "\n".join(_last_lines(log, since))


def _errors(said: list[str], most: int) -> list[str]:
    """Return the lines of the last burst of errors: its first one, which names the cause, and its last ones."""
    telling = [index for index, line in enumerate(said) if _TELLING.search(line) and not _NOT_TELLING.search(line)]
    telling = sorted({*telling, *_raised(said)})
    if not telling:
        return []
    burst = telling[:1]
    for index in telling[1:]:
        if index - burst[-1] > _BURST_LINES:
            burst = []
        burst.append(index)
    kept = burst if len(burst) <= most else [burst[0], *burst[len(burst) - most + 1 :]]
    return [said[index] for index in kept]


def _raised(said: list[str]) -> list[int]:
    """Return where the exceptions of tracebacks stand: the first line after one that is not indented."""
    found, inside = [], False
    for index, line in enumerate(said):
        if _TRACEBACK in line:
            inside = True
        elif inside and not line.startswith(" "):
            found.append(index)
            inside = False
    return found


def _last_lines(log: Path, since: int) -> list[str]:
    attempt_log, splitter = AttemptLog(log), LineSplitter()
    try:
        raw = [*splitter.feed(attempt_log.tail(_TAIL_BYTES, since=since)), *splitter.finish()]
        redactor = _redactor_of(attempt_log)
    except OSError:
        # The error that these lines would have explained matters more.
        return []
    lines = (redactor.mask(text_of(line)).rstrip() for line in raw)
    return [line for line in lines if line.strip()]


def _redactor_of(log: AttemptLog) -> Redactor:
    """Return a redactor that knows the secrets declared anywhere in the log; a scan of 12 MiB takes 10 ms."""
    redactor, offset = Redactor(), 0
    while (piece := log.read(offset, _SCANNED_BYTES)).data:
        for declaration in _SECRET.findall(piece.data):
            redactor.mask(text_of(declaration))
        # A declaration may be cut by the end of the piece: a little is read twice.
        whole = len(piece.data) == _SCANNED_BYTES
        offset = piece.stop - (LONGEST_LINE_BYTES if whole else 0)
    return redactor

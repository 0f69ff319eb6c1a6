"""Lines of a renderer's log, and those of its end that say why the renderer failed."""

import re
from collections.abc import Iterator
from pathlib import Path

from longtake.attempt_log import AttemptLog
from longtake.text import Redactor, shorten_line, strip_controls

# Output without line ends, such as a picture, must not pile up in memory. OpenJD has the same limit.
LONGEST_LINE_BYTES = 64 * 1024

_ENDS = re.compile(rb"[\r\n]+")


class LineSplitter:
    """Splits bytes into lines; a carriage return ends a line too, because renderers redraw progress with it."""

    def __init__(self) -> None:
        self._partial = b""
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take in bytes and yield the lines that are complete now, without their ends and without empty ones."""
        *ended, rest = _ENDS.split(data)
        for line in ended:
            whole = b"" if self._skipping else (self._partial + line)[:LONGEST_LINE_BYTES]
            self._partial, self._skipping = b"", False
            if whole:
                yield whole
        self._partial = (self._partial + rest)[:LONGEST_LINE_BYTES]

    def skip(self) -> None:
        """Skip to the next line end: bytes are missing here, so the line around them is dropped."""
        self._partial, self._skipping = b"", True

    def finish(self) -> Iterator[bytes]:
        """Yield the last line, which has no line end."""
        partial, self._partial = self._partial, b""
        if partial and not self._skipping:
            yield partial


def decode_line(line: bytes) -> str:
    """Decode a line as plain text, whatever bytes it holds."""
    return strip_controls(line.decode("utf-8", "replace"))


# Errors stand near the end: what follows (progress, summaries) is seldom longer than this.
_TAIL_BYTES = 64 * 1024

# Lines that show progress, which say nothing of why a renderer ended.
_PROGRESS = re.compile(
    r"\s*(?:(?:frame|fps|stream_\d+_\d+_\w+|bitrate|total_size|out_time(?:_us|_ms)?|(?:dup|drop)_frames|speed|progress)"
    r"=\s*\S*|(?:frame|size)=.*(?:time|bitrate)=.*|(?:Progress:\s+)?Rendered\s+\d+\s*/\s*\d+.*|openjd_progress: .*"
    r"|(?:[\d:.]+\s+\w+\s*\|\s*)?(?:Fra:.*|Saved:.*|Time:.*\(Saving:.*|Append frame.*|Blender quit))\s*"
)

_ERROR = re.compile(
    r"error|\bfatal|\bfail(?:ed|s|ure|ing)?\b|exception\b|\bcannot\b|\bcan't\b|could ?n.t\b|\bunable to\b|out of memory"
    r"|no space left|no such file|not found|not divisible|\bdenied\b|\binvalid\b|\bsegmentation fault|\bpanic|\babort"
    r"|\bassert|\bunknown (?:encoder|decoder|option|argument)|unrecogni[sz]ed|unsupported|^openjd_fail: ",
    re.IGNORECASE,
)
_NO_ERROR = re.compile(r"\b(?:0|no|without) (?:errors?|failures?|exceptions?)\b|^\s*File \"", re.IGNORECASE)
# Errors further apart than this are of different causes.
_BURST_LINES = 4
_TRACEBACK = "Traceback (most recent call last)"


_SECRET = re.compile(rb"openjd_redacted_env:[^\r\n]*")
_SCANNED_BYTES = 1024 * 1024


def find_error_lines(log: Path, *, lines: int = 3, most: int = 600, since: int = 0) -> str:
    """Find the last lines that matter and join them to one line for an error; empty where nothing was printed.

    These are lines that look like errors; else the last ones that are no progress; else the last ones.

    Args:
        log: The head of the log.
        lines: Most lines that are returned.
        most: Most characters that are returned.
        since: Offset in the log where the output of the command begins.
    """
    printed = _last_lines(log, since)
    said = [line for line in printed if not _PROGRESS.fullmatch(line)] or printed
    chosen = _errors(said, lines) or said[-lines:]
    return shorten_line(" | ".join(shorten_line(line, most // max(1, len(chosen)) - 3) for line in chosen), most)


def read_log_tail(log: Path, *, since: int = 0) -> str:
    """Read the last 64 KiB of a log as lines of plain text; empty where the log cannot be read."""
    return "\n".join(_last_lines(log, since))


def _errors(said: list[str], most: int) -> list[str]:
    """Find the last burst of error lines: its first one, which names the cause, and its last ones."""
    errors = [index for index, line in enumerate(said) if _ERROR.search(line) and not _NO_ERROR.search(line)]
    errors = sorted({*errors, *_raised(said)})
    if not errors:
        return []
    burst = errors[:1]
    for index in errors[1:]:
        if index - burst[-1] > _BURST_LINES:
            burst = []
        burst.append(index)
    kept = burst if len(burst) <= most else [burst[0], *burst[len(burst) - most + 1 :]]
    return [said[index] for index in kept]


def _raised(said: list[str]) -> list[int]:
    """Find the indexes of exceptions of tracebacks: the first line after each that is not indented."""
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
        # The caller reports an error that these lines would only have explained.
        return []
    lines = (redactor.mask(decode_line(line)).rstrip() for line in raw)
    return [line for line in lines if line.strip()]


def _redactor_of(log: AttemptLog) -> Redactor:
    """Make a redactor that knows the secrets declared anywhere in the log; a scan of 12 MiB takes 10 ms."""
    redactor, offset = Redactor(), 0
    while (piece := log.read(offset, _SCANNED_BYTES)).data:
        for declaration in _SECRET.findall(piece.data):
            redactor.mask(decode_line(declaration))
        # The end of the piece may cut a declaration, so a little is read twice.
        whole = len(piece.data) == _SCANNED_BYTES
        offset = piece.stop - (LONGEST_LINE_BYTES if whole else 0)
    return redactor

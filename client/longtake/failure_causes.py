"""Group the failed tries of a job by their cause, with the lines of logs that matter and what helps."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import Field

from longtake.frame_list import describe_frames
from longtake.models.fields import Contract
from longtake.models.status import ChunkFailure
from longtake.ranges import Range, RangeSet
from longtake.stores.try_records import FailedTry
from longtake.text import cut_middle, flatten_text

# Ranges of chunks, names of hosts, and causes that are told one by one.
_MOST_RANGES = 50
_MOST_HOSTS = 12
_MOST_CAUSES = 50

_LONGEST_KEY = 240
_LONGEST_CAUSE = 220

# How errors quote a log, see `activities.backends.exit_status`: what happened, then lines with bars between.
_QUOTED = re.compile(
    r"(?P<what>[^:]*\b(?:exited with code -?\d+|was ended by [^:;]+(?:; the system may[^:]*)?|made its outputs)[^:]*)"
    r": (?P<said>.+)|(?P<stopped>.+); it said last: (?P<last>.+)",
    re.DOTALL,
)
_BEGINS_WITH_CHUNK = re.compile(r"^chunk \d+ (?:\(frames? [^)]*\))?: ")
# What a sentence measures, in brackets; and what tells of a cause more than other lines.
_MEASURED = re.compile(r" \([^()]*\d[^()]*\)")
_TELLS_CAUSE = re.compile(
    r"error|fatal|fail|exception|cannot|can't|could ?n.t|unable|denied|invalid|not (?:found|divisible|permitted)"
    r"|no such|out of|no space|null|abort|assert|panic|segmentation|unknown|unsupported",
    re.IGNORECASE,
)

# What differs from try to try: paths and numbered files but their endings, addresses, numbers.
_PATHS = re.compile(r"(?:s3://|/|[A-Za-z]:\\)[^\s'\":|,;)]+|\b[\w.-]*\d[\w.-]*\.[A-Za-z]\w{1,4}\b")
_ENDING = re.compile(r"\.[A-Za-z]\w{1,4}$")
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b|\d+(?:[.:]\d+)*")
# Exit codes and signals are the cause, and no measurement.
_KEPT = re.compile(r"\b(exit(?:ed with)? code|signal) (-?\d+)")

# What helps where an error names no fix itself.
_KNOWN_HELPS = (
    (
        re.compile(r"out of memory|bad_alloc|malloc returns null|cannot allocate|SIGKILL", re.IGNORECASE),
        "a host with more memory, fewer slots on it, or `retry.rules: [{pattern: ..., then: another_host}]`",
    ),
    (re.compile(r"no space left|disk is full|quota", re.IGNORECASE), "room on the disk of these hosts"),
    (
        re.compile(r"licen[sc]e", re.IGNORECASE),
        "more licences, a lower max_parallel, or a rule of `retry.rules` with wait_seconds",
    ),
    (re.compile(r"permission denied|not permitted", re.IGNORECASE), "rights on that file for the account that renders"),
    (
        re.compile(r"no such file|cannot (?:open|read|find|load)|not found|missing", re.IGNORECASE),
        "the file where all hosts see it: in the store, or under `inputs` of the job",
    ),
    (
        re.compile(r"no progress or output", re.IGNORECASE),
        "a longer `timeouts.stall_seconds`, if the renderer may be silent for so long",
    ),
)
_LOST_HELPS = "a look into the worker's log and the memory of its host; `retry.lost_workers` allows more"


class FailureCause(Contract):
    """Failed tries of a job that have one cause."""

    cause: str = Field(description="one line; where its tries differ, paths and numbers are masked")
    tries: int = Field(default=0, description="how many tries it has ended")
    open_chunks: int = Field(default=0, description="chunks that it has ended and that are not finished since")
    chunk_count: int = Field(default=0, description="how many chunks have met it")
    chunks: tuple[Range, ...] = Field(default=(), description="those chunks, the first 50 ranges")
    frames: str = Field(default="", description="their frames, as in 12-15,20")
    hosts: tuple[str, ...] = Field(default=(), description="where it was met, the most frequent first")
    lines: tuple[str, ...] = Field(default=(), description="lines of the log of its last try that matter")
    helps: str = Field(default="", description="what helps against it, where that is known")
    example: int = Field(default=0, description="chunk of its last try")
    log: str = Field(default="", description="path of the log of that try")
    first_at: datetime | None = Field(default=None, description="when it was met first")
    last_at: datetime | None = Field(default=None, description="when it was met last")
    gave_up: bool = Field(default=False, description="a chunk was given up for it")


@dataclass(frozen=True)
class ParsedError:
    """An error of a try, in its parts.

    Args:
        what: What happened.
        lines: Lines of the log that it quotes.
        fix: What helps, where it says so.
    """

    what: str
    lines: tuple[str, ...] = ()
    fix: str = ""

    @property
    def headline(self) -> str:
        """What happened and the line that names why."""
        what = _MEASURED.sub("", self.what)
        line = next(filter(_TELLS_CAUSE.search, self.lines), self.lines[0] if self.lines else "")
        return cut_middle(f"{what}: {line}" if line else what, _LONGEST_CAUSE)


def parse_error(error: str) -> ParsedError:
    """Split the error of a try into what happened, the lines of its log, and the fix."""
    text = _BEGINS_WITH_CHUNK.sub("", flatten_text(error), count=1)
    quoted = _QUOTED.fullmatch(text)
    if quoted is None:
        what, _, fix = text.partition("; ")
        return ParsedError(what, fix=fix)
    said = quoted["said"] or quoted["last"]
    lines = tuple(line.strip() for line in said.split(" | ") if line.strip())
    return ParsedError(quoted["what"] or quoted["stopped"], lines)


def mask_details(text: str) -> str:
    """Replace paths, names of numbered files, addresses and numbers, but exit codes and signals."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return "\0"

    masked = _NUMBERS.sub("#", _PATHS.sub(_mask_path, _KEPT.sub(keep, text)))
    return re.sub("\0", lambda _: kept.pop(0), masked)


def _mask_path(path: re.Match[str]) -> str:
    ending = _ENDING.search(path[0])
    return f"\N{HORIZONTAL ELLIPSIS}{ending[0] if ending else ''}"


def find_help(parsed: ParsedError, *, lost: bool = False) -> str:
    """Return what helps against an error: the fix that it names, or what is known of its kind; empty for others."""
    if parsed.fix:
        return parsed.fix
    if lost:
        return _LOST_HELPS
    text = " ".join((parsed.what, *parsed.lines))
    return next((helps for pattern, helps in _KNOWN_HELPS if pattern.search(text)), "")


@dataclass
class _Group:
    """Tries of one cause."""

    # As their errors tell it, and with all masked that differs from try to try.
    headlines: set[str] = field(default_factory=set)
    masked: str = ""
    tries: list[FailedTry] = field(default_factory=list)


def group_failures(
    tries: Iterable[FailedTry],
    failures: Iterable[ChunkFailure] = (),
    *,
    is_done: Callable[[int], bool] = lambda _: False,
    frames: Callable[[int], range] = lambda _: range(0),
) -> list[FailureCause]:
    """Group failed tries by their cause: those that keep chunks from being finished first, then the most frequent.

    Args:
        tries: The tries.
        failures: Chunks that were given up, as the status tells them; for those that no record of a try is of.
        is_done: Tells whether a chunk is finished by now.
        frames: Returns the frame numbers of a chunk.
    """
    groups: dict[str, _Group] = {}
    known: set[int] = set()

    def add(failed: FailedTry) -> None:
        headline = parse_error(failed.error).headline
        masked = mask_details(headline)
        group = groups.setdefault(masked[:_LONGEST_KEY].lower(), _Group(masked=masked))
        group.tries.append(failed)
        if len(group.headlines) < 2:
            group.headlines.add(headline)

    for each in tries:
        known.add(each.chunk)
        add(each)
    for failure in failures:
        if failure.chunk not in known:
            add(_as_try(failure))
    causes = [_describe(group, is_done, frames) for group in groups.values()]
    return sorted(causes, key=lambda cause: (not cause.open_chunks, -cause.open_chunks, -cause.tries))[:_MOST_CAUSES]


def _as_try(failure: ChunkFailure) -> FailedTry:
    return FailedTry(
        chunk=failure.chunk,
        number=failure.attempts,
        host=failure.host,
        error=failure.error,
        log=failure.log,
        last=True,
    )


def _describe(group: _Group, is_done: Callable[[int], bool], frames: Callable[[int], range]) -> FailureCause:
    tries = group.tries
    last = max(tries, key=lambda each: each.ended.timestamp() if each.ended else 0)
    parsed = parse_error(last.error)
    chunks = RangeSet((chunk, chunk + 1) for chunk in {each.chunk for each in tries})
    times = [each.ended for each in tries if each.ended is not None]
    hosts = Counter(each.host for each in tries if each.host)
    return FailureCause(
        cause=group.masked if len(group.headlines) > 1 else next(iter(group.headlines)),
        tries=len(tries),
        open_chunks=sum(not is_done(chunk) for chunk in chunks),
        chunk_count=len(chunks),
        chunks=chunks.ranges[:_MOST_RANGES],
        frames=_list_frames(chunks.ranges[:_MOST_RANGES], frames),
        hosts=tuple(host for host, _ in hosts.most_common(_MOST_HOSTS)),
        lines=parsed.lines,
        helps=find_help(parsed, lost=last.lost),
        example=last.chunk,
        log=last.log,
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        gave_up=any(each.last for each in tries),
    )


def _list_frames(chunks: Sequence[Range], frames: Callable[[int], range]) -> str:
    """Return the frames of ranges of chunks as text; chunks of one range follow each other."""
    parts: list[str] = []
    for start, stop in chunks:
        first, last = frames(start), frames(stop - 1)
        if not first or not last:
            continue
        is_whole = first.step == last.step == 1
        parts += (
            [describe_frames(range(first[0], last[-1] + 1))]
            if is_whole
            else [describe_frames(frames(chunk)) for chunk in range(start, min(stop, start + _MOST_RANGES))]
        )
    return ",".join(parts)

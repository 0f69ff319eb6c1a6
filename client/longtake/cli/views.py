"""Show the progress of a job that is followed: as a live picture, as plain lines, or as JSON lines."""

import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtake.cli.formatting import (
    STATE_STYLES,
    describe_advice,
    describe_stops,
    elapsed_seconds,
    format_count,
    format_duration,
    format_state,
    format_unusual_counts,
    format_usd,
)
from longtake.cli.terminal import print_json_line, print_message, stderr_console
from longtake.models.status import ChunkFailure, JobState, JobStatus, RunningChunk
from longtake.text import flatten_text, format_bytes, shorten_line, strip_controls

# A line each 5 %: a log of a job that takes days stays readable.
_STEP_PERCENT = 5

# Fields of a running chunk that change all the while.
_VOLATILE = {"frames_done": 0, "span_frames": 0, "message": "", "cpu_seconds": 0.0, "memory_bytes": 0, "io_bytes": 0}

_VOLATILE_TOTALS = {"progress": 0.0, "progress_at": None, "updated_at": None, "eta_seconds": None}

# Rows of running chunks that a person can take in at a glance.
_MOST_ROWS = 20

# Lines of the picture beside the rows of the table, and one for the prompt.
_OTHER_LINES = 8

# A narrower screen needs its columns for bars, hosts and errors.
_WIDE_COLUMNS = 90

_BAR_WIDTH = 20

# Failed tries reported one by one: on a farm where every chunk fails, more of them would hide everything else.
_MOST_REPORTED_TRIES = 20

# Characters of an error: three lines of a terminal. `longtake status` and `longtake logs` have the rest.
_LONGEST_ERROR = 245

# Long enough to smooth over renderers that report every few seconds.
_WINDOW_SECONDS = 60.0

# An estimate from less would jump about.
_LEAST_SECONDS = 3.0


class View(ABC):
    """Show the progress of one job; entered before the first status and left after the last."""

    def __init__(self) -> None:
        self._message = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def show(self, status: JobStatus) -> None:
        """Show the newest status of the job."""

    def show_message(self, text: str) -> None:
        """Show a message once, however often the same text is given in a row."""
        if text != self._message:
            self._print_message(text)
        self._message = text

    def _print_message(self, text: str) -> None:
        print_message(text)


def make_view(*, json: bool) -> View:
    """Return a view of JSON lines, or a live picture on stderr, or plain lines where stderr is no terminal."""
    if json:
        return JsonView()
    console = stderr_console()
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineView()


class LiveView(View):
    """Draw a picture of the job at the foot of a terminal, four times a second; events scroll by above the picture."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._status: JobStatus | None = None
        self._speed = SpeedEstimate()
        self._events = JobEvents()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, status: JobStatus) -> None:
        self._message = ""
        for line, is_final in self._events.find_new(status):
            self._console.print(Text(line, style="red" if is_final else "yellow"))
        self._speed.update(status)
        self._status = status

    def _print_message(self, text: str) -> None:
        self._console.print(Text(flatten_text(text), style="yellow"))

    def _draw(self) -> RenderableType:
        status = self._status
        if status is None:
            return Text("looking ...", style="dim")
        parts: list[RenderableType] = [make_headline(status), *make_totals(status, self._speed)]
        if status.running and not status.state.has_ended:
            rows = max(1, min(_MOST_ROWS, self._console.height - _OTHER_LINES))
            parts += [Text(""), make_running_table(status.running, rows, width=self._console.width)]
        # The ^C that a terminal echoes lands on this line; on a full one it would wrap and shift the picture.
        parts.append(Text(""))
        return Group(*parts)


class LineView(View):
    """Print one plain line to stderr for each event, each change of state and each 5 % of progress."""

    def __init__(self) -> None:
        super().__init__()
        self._state = ""
        self._step = 0
        self._events = JobEvents()

    def show(self, status: JobStatus) -> None:
        self._message = ""
        for line, _ in self._events.find_new(status):
            print_message(line)
        state, step = format_state(status), int(status.progress // _STEP_PERCENT)
        if state != self._state or step > self._step:
            self._state, self._step = state, step
            print_message(f"{status.id} {state}: {self._format_progress(status)}")

    def _format_progress(self, status: JobStatus) -> str:
        parts = [
            f"{status.progress:.0f} %",
            f"{status.completed_frames:,} of {format_count(status.total_frames, 'frame')}",
        ]
        parts.append(f"{status.completed_chunks:,} of {format_count(status.total_chunks, 'chunk')}")
        if status.failed_chunks:
            parts.append(f"{status.failed_chunks:,} failed")
        parts += format_unusual_counts(status)
        if status.eta_seconds:
            parts.append(f"{format_duration(status.eta_seconds)} to go")
        return ", ".join(parts)


class JsonView(View):
    """Print a status as one line of JSON to stdout each time that the job has changed."""

    def __init__(self) -> None:
        super().__init__()
        self._last: JobStatus | None = None

    def show(self, status: JobStatus) -> None:
        # Times, partial frames and measurements change with every status: alone they are no reason for a line.
        running = tuple(chunk.model_copy(update=_VOLATILE) for chunk in status.running)
        essence = status.model_copy(update={"running": running, **_VOLATILE_TOTALS})
        if essence != self._last:
            self._last = essence
            print_json_line(status)


class JobEvents:
    """Find what is new in each status of one job: failures, failed tries, what it waits for, and confirmed stops."""

    def __init__(self) -> None:
        self._failed: set[int] = set()
        self._tries: set[tuple[int, int, str]] = set()
        self._advice: str | None = None
        self._reason = ""
        self._stopped: str | None = None

    def find_new(self, status: JobStatus) -> Iterator[tuple[str, bool]]:
        """Yield a line for each event that no earlier status had, and whether the event is the failure of a chunk."""
        # A chunk that is rendered again and fails again is a new failure.
        self._failed &= {failure.chunk for failure in status.failures}
        for failure in status.failures:
            if failure.chunk not in self._failed:
                self._failed.add(failure.chunk)
                yield describe_failure(failure), True
        for chunk in status.running:
            key = (chunk.chunk, chunk.attempt, chunk.error)
            if not chunk.error or key in self._tries or len(self._tries) > _MOST_REPORTED_TRIES:
                continue
            self._tries.add(key)
            if len(self._tries) > _MOST_REPORTED_TRIES:
                yield "more tries go wrong; `longtake logs` has them all", False
            else:
                error = chunk.error if chunk.error.startswith("chunk ") else f"chunk {chunk.chunk}: {chunk.error}"
                yield shorten_line(error, _LONGEST_ERROR), False
        yield from self._find_reason(status)
        last, self._advice = self._advice, describe_advice(status)
        if self._advice and self._advice != last:
            yield f"{status.id} holds: {self._advice}", False
        # While a job is pausing, stops are still being confirmed; of a job that has ended, its last line names them.
        if status.state is JobState.PAUSED:
            before, self._stopped = self._stopped, describe_stops(status.remote_stops)
            if self._stopped and self._stopped != before:
                yield self._stopped, False

    def _find_reason(self, status: JobStatus) -> Iterator[tuple[str, bool]]:
        # The number of tries is no news.
        last, self._reason = self._reason, re.sub(r"\d+", "", status.waiting_for or "")
        if status.waiting_for and self._reason != last:
            yield f"{status.id} waits: {status.waiting_for}", False


def describe_failure(failure: ChunkFailure) -> str:
    """Return one line on a chunk that has used up its tries."""
    tries = "1 try" if failure.attempts == 1 else f"{failure.attempts} tries"
    where = f" on {strip_controls(failure.host)}" if failure.host else ""
    return f"chunk {failure.chunk} failed for good after {tries}{where}: {shorten_line(failure.error, _LONGEST_ERROR)}"


class SpeedEstimate:
    """Count the finished frames of a job, those of unfinished chunks included, and estimate the time to go.

    Args:
        clock: Returns seconds that never go back.

    Attributes:
        frames: Number of finished frames.
        eta_seconds: Estimated seconds to go; None where no estimate can be made.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self.frames = 0
        self.eta_seconds: float | None = None

    def update(self, status: JobStatus) -> None:
        """Update the count and the estimate with a status of the job."""
        partial = sum(chunk.span_frames + chunk.frames_done for chunk in status.running)
        frames = min(status.completed_frames + partial, status.total_frames)
        # The frames of a chunk that fails are lost, and the count falls: a speed over that time would be too low.
        if frames < self.frames or status.state is not JobState.RUNNING:
            self._samples.clear()
        self.frames = frames
        now = self._clock()
        self._samples.append((now, frames))
        while now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        self.eta_seconds = self._estimate(status)

    def _estimate(self, status: JobStatus) -> float | None:
        if status.state is not JobState.RUNNING:
            return None
        left = status.total_frames - self.frames
        if status.eta_seconds is not None:
            # The job estimates by whole chunks: finished frames of unfinished chunks shorten its estimate.
            unfinished = max(1, status.total_frames - status.completed_frames)
            return status.eta_seconds * left / unfinished
        (first, before), (last, after) = self._samples[0], self._samples[-1]
        if last - first < _LEAST_SECONDS or after <= before:
            return None
        return (last - first) / (after - before) * left


def make_headline(status: JobStatus) -> RenderableType:
    """Return a line with the name, the id and the state of a job."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    name = strip_controls(status.name)
    who = Text.assemble((f"{name}  ", "bold"), (status.id, "dim")) if name else Text(status.id, style="bold")
    grid.add_row(who, Text(format_state(status), style=f"bold {STATE_STYLES[status.state]}"))
    return grid


def make_totals(status: JobStatus, speed: SpeedEstimate) -> Iterator[RenderableType]:
    """Yield the bar of a whole job and the line of numbers below the bar."""
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    style = STATE_STYLES[status.state]
    bar.add_row(
        ProgressBar(total=100, completed=status.progress, complete_style=style, finished_style=style),
        Text(f"{status.progress:5.1f} %", style="bold"),
    )
    yield bar
    numbers = [
        f"{speed.frames:,}/{status.total_frames:,} frames",
        f"{status.completed_chunks:,}/{status.total_chunks:,} chunks",
        f"{status.running_chunks:,} running",
    ]
    numbers += format_unusual_counts(status)
    if status.metrics.cost_usd:
        numbers.append(format_usd(status.metrics.cost_usd))
    line = Text(" · ".join(numbers), style="dim", no_wrap=True, overflow="ellipsis")
    if status.failed_chunks:
        line.append(f" · {status.failed_chunks:,} failed", style="red")
    if speed.eta_seconds is not None:
        line.append(" · ").append(f"{format_duration(speed.eta_seconds)} to go", style="bold not dim")
    elif status.state.has_ended:
        line.append(f" · {format_duration(elapsed_seconds(status))}")
    yield line


def make_running_table(running: Sequence[RunningChunk], most: int, *, width: int | None, whole: bool = False) -> Table:
    """Return a table of the chunks that render or stand frozen, then of those that wait for their next try.

    Args:
        running: The chunks; a last row counts those that are not shown.
        most: Number of rows at most.
        width: Columns of the screen, which the table fills; None for files and pipes, which have no width.
        whole: Whether an error takes as many lines as needed; else the error is cut at the end of its line.
    """
    listed = [chunk for chunk in running if not chunk.waiting or chunk.error]
    listed.sort(key=lambda chunk: (chunk.waiting, chunk.chunk))
    measured = (
        any(chunk.cpu_seconds or chunk.memory_bytes for chunk in listed) and (width or _WIDE_COLUMNS) >= _WIDE_COLUMNS
    )
    table = _make_empty_table(width, whole=whole, measured=measured)
    shown = listed if len(listed) <= most and len(listed) == len(running) else listed[: max(1, most - 1)]
    for chunk in shown:
        known = chunk.cpu_seconds or chunk.memory_bytes
        usage = (format_duration(chunk.cpu_seconds), format_bytes(chunk.memory_bytes)) if known else ("", "")
        table.add_row(
            f"{chunk.chunk}",
            f"{chunk.attempt}",
            _make_chunk_bar(chunk),
            f"{chunk.frames_done:,}/{chunk.frames:,}" if chunk.frames and not chunk.waiting else "",
            *(usage if measured else ()),
            _describe_running(chunk, whole=whole),
        )
    if more := len(running) - len(shown):
        waiting = sum(chunk.waiting for chunk in running) - sum(chunk.waiting for chunk in shown)
        rest = f"{waiting:,} of them in a queue" if waiting != more else "in a queue"
        gaps = [""] * (len(table.columns) - 4)
        table.add_row("", "", Text(format_count(more, "more chunk"), style="dim"), *gaps, Text(rest, style="dim"))
    return table


def _make_empty_table(width: int | None, *, whole: bool, measured: bool) -> Table:
    table = Table(box=None, pad_edge=False, expand=width is not None, header_style="dim", show_edge=False)
    table.add_column("chunk", justify="right", no_wrap=True)
    table.add_column("try", justify="right", no_wrap=True)
    bar_width = _BAR_WIDTH if width is None or measured else None
    table.add_column("", ratio=None if bar_width else 2, width=bar_width, min_width=8, no_wrap=True)
    table.add_column("frames", justify="right", no_wrap=True)
    if measured:
        table.add_column("cpu", justify="right", no_wrap=True)
        table.add_column("memory", justify="right", no_wrap=True)
    table.add_column(
        "host", ratio=None if width is None else 3, no_wrap=not whole, overflow="fold" if whole else "ellipsis"
    )
    return table


def _make_chunk_bar(chunk: RunningChunk) -> RenderableType:
    if chunk.waiting:
        return Text("waits", style="yellow")
    if chunk.frozen:
        return Text("frozen", style="blue")
    if not chunk.frames:
        return Text("starts", style="dim")
    return ProgressBar(total=chunk.frames, completed=chunk.frames_done, complete_style="cyan", finished_style="cyan")


def _describe_running(chunk: RunningChunk, *, whole: bool) -> Text:
    error = flatten_text(chunk.error)
    # The sentence of a try begins with "chunk 7 (frames 70-79): ", which the row says already.
    if error.startswith(f"chunk {chunk.chunk} "):
        error = error.partition(": ")[2] or error
    overflow: OverflowMethod = "fold" if whole else "ellipsis"
    line = Text(no_wrap=not whole, overflow=overflow)
    if chunk.waiting:
        return line.append(error, style="yellow")
    parts = [
        (strip_controls(chunk.host), ""),
        (flatten_text(chunk.message), "dim"),
        (error and f"before: {error}", "yellow"),
    ]
    for index, (text, style) in enumerate(part for part in parts if part[0]):
        line.append("  " if index else "").append(text, style=style)
    return line

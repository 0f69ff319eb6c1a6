"""Show a job while it is followed: a live picture, plain lines, or JSON lines."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtake.cli.formatting import STATE_STYLES, describe_advice, describe_stops, elapsed_seconds, format_bytes, format_duration, format_usd, format_count, format_state, format_unusual_counts
from longtake.cli.terminal import print_json_line, one_line, print_message, shortened, stderr_console
from longtake.models.status import ChunkFailure, JobState, JobStatus, RunningChunk
from longtake.text import strip_controls

# Failed tries told one by one; on a farm where every chunk fails they would hide everything else.
_MOST_REPORTED_TRIES = 20


class JobEvents:
    """Remembers what was told of one job."""

    def __init__(self) -> None:
        self._failed: set[int] = set()
        self._tries: set[tuple[int, int, str]] = set()
        self._advice: str | None = None
        self._stopped: str | None = None

    def news(self, status: JobStatus) -> Iterator[tuple[str, bool]]:
        """Yield a line for each thing that is new, and whether it is for good."""
        # A chunk that is taken up again and fails again is news.
        self._failed &= {failure.chunk for failure in status.failures}
        for failure in status.failures:
            if failure.chunk not in self._failed:
                self._failed.add(failure.chunk)
                yield describe_failure(failure), True
        for chunk in status.running:
            key = (chunk.chunk, chunk.attempt, chunk.error)
            if chunk.error and key not in self._tries and len(self._tries) <= _MOST_REPORTED_TRIES:
                self._tries.add(key)
                quiet = len(self._tries) > _MOST_REPORTED_TRIES
                error = chunk.error if chunk.error.startswith("chunk ") else f"chunk {chunk.chunk}: {chunk.error}"
                yield "more tries go wrong; `longtake logs` has them all" if quiet else shortened(error), False
        last, self._advice = self._advice, describe_advice(status)
        if self._advice and self._advice != last:
            yield f"{status.id} holds: {self._advice}", False
        # Told when all of it is known; how a job ended says the same by itself.
        if status.state is JobState.PAUSED:
            before, self._stopped = self._stopped, describe_stops(status.remote_stops)
            if self._stopped and self._stopped != before:
                yield self._stopped, False


def describe_failure(failure: ChunkFailure) -> str:
    """Return the end of a chunk that has used up its tries."""
    tries = "1 try" if failure.attempts == 1 else f"{failure.attempts} tries"
    where = f" on {strip_controls(failure.host)}" if failure.host else ""
    return f"chunk {failure.chunk} failed for good after {tries}{where}: {shortened(failure.error)}"


# Long enough to smooth over renderers that report every few seconds.
_WINDOW_SECONDS = 60.0

# An estimate from less would jump about.
_LEAST_SECONDS = 3.0


class SpeedEstimate:
    """Counts frames, those of unfinished chunks included, and estimates the time to go.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque()
        self.frames = 0
        self.eta_seconds: float | None = None

    def look(self, status: JobStatus) -> None:
        """Take in a look at the job."""
        partial = sum(chunk.frames_done for chunk in status.running)
        frames = min(status.completed_frames + partial, status.total_frames)
        # A chunk that fails takes its frames back; the bar shows that, an average over time must forget it.
        if frames < self.frames or status.state is not JobState.RUNNING:
            self._looks.clear()
        self.frames = frames
        now = self._clock()
        self._looks.append((now, frames))
        while now - self._looks[0][0] > _WINDOW_SECONDS:
            self._looks.popleft()
        self.eta_seconds = self._estimate(status)

    def _estimate(self, status: JobStatus) -> float | None:
        if status.state is not JobState.RUNNING:
            return None
        left = status.total_frames - self.frames
        if status.eta_seconds is not None:
            # The job counts whole chunks; what is done of the unfinished ones shortens its estimate.
            unfinished = max(1, status.total_frames - status.completed_frames)
            return status.eta_seconds * left / unfinished
        (first, before), (last, after) = self._looks[0], self._looks[-1]
        if last - first < _LEAST_SECONDS or after <= before:
            return None
        return (last - first) / (after - before) * left


# A narrower screen needs its columns for bars, hosts and what went wrong.
_WIDE_COLUMNS = 90

_BAR_WIDTH = 20


def make_headline(status: JobStatus) -> RenderableType:
    """Return a line with the job's name, its id and what it does."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    name = strip_controls(status.name)
    who = Text.assemble((f"{name}  ", "bold"), (status.id, "dim")) if name else Text(status.id, style="bold")
    grid.add_row(who, Text(format_state(status), style=f"bold {STATE_STYLES[status.state]}"))
    return grid


def make_totals(status: JobStatus, pace: SpeedEstimate) -> Iterator[RenderableType]:
    """Yield the bar over the whole job and the line of numbers below it."""
    total = max(1, status.total_frames)
    percent = 100.0 if status.progress >= 100 else min(99.0, 100 * pace.frames / total)
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    style = STATE_STYLES[status.state]
    bar.add_row(
        ProgressBar(total=100, completed=percent, complete_style=style, finished_style=style),
        Text(f"{percent:5.1f} %", style="bold"),
    )
    yield bar
    numbers = [
        f"{pace.frames:,}/{status.total_frames:,} frames",
        f"{status.completed_chunks:,}/{status.total_chunks:,} chunks",
        f"{status.running_chunks:,} running",
    ]
    numbers += format_unusual_counts(status)
    if status.metrics.cost_usd:
        numbers.append(format_usd(status.metrics.cost_usd))
    line = Text(" · ".join(numbers), style="dim", no_wrap=True, overflow="ellipsis")
    if status.failed_chunks:
        line.append(f" · {status.failed_chunks:,} failed", style="red")
    if pace.eta_seconds is not None:
        line.append(" · ").append(f"{format_duration(pace.eta_seconds)} to go", style="bold not dim")
    elif status.state.ended:
        line.append(f" · {format_duration(elapsed_seconds(status))}")
    yield line


def make_running_table(running: Sequence[RunningChunk], most: int, *, width: int | None, whole: bool = False) -> Table:
    """Return a row for each chunk that renders, stands frozen or waits for its next try, in this order.

    Args:
        running: The chunks.
        most: Rows at most.
        width: Columns of the screen, which the table fills; None for files and pipes, which have none to fill.
        whole: Errors take the lines they need; else they are cut at the end of theirs.
    """
    told = [chunk for chunk in running if not chunk.waiting or chunk.error]
    told.sort(key=lambda chunk: (chunk.waiting, chunk.chunk))
    measured = any(chunk.cpu_seconds or chunk.memory_bytes for chunk in told) and (width or _WIDE_COLUMNS) >= _WIDE_COLUMNS
    table = _make_empty_table(width, whole=whole, measured=measured)
    shown = told if len(told) <= most and len(told) == len(running) else told[: max(1, most - 1)]
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
        word = f"{waiting:,} of them in a queue" if waiting != more else "in a queue"
        gaps = [""] * (len(table.columns) - 4)
        table.add_row("", "", Text(format_count(more, "more chunk"), style="dim"), *gaps, Text(word, style="dim"))
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
    error = one_line(chunk.error)
    # The sentence of a try begins with "chunk 7 (frames 70-79): ", which the row says already.
    if error.startswith(f"chunk {chunk.chunk} "):
        error = error.partition(": ")[2] or error
    overflow: OverflowMethod = "fold" if whole else "ellipsis"
    note = Text(no_wrap=not whole, overflow=overflow)
    if chunk.waiting:
        return note.append(error, style="yellow")
    parts = [
        (strip_controls(chunk.host), ""),
        (one_line(chunk.message), "dim"),
        (error and f"before: {error}", "yellow"),
    ]
    for index, (words, style) in enumerate(part for part in parts if part[0]):
        note.append("  " if index else "").append(words, style=style)
    return note


# More rows than this are no picture any more.
_MOST_ROWS = 20

# Lines of the picture beside the rows of the table, and one for the prompt.
_OTHER_LINES = 8


class LiveView:
    """A picture that is drawn again and again at the foot of the terminal; failures scroll by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: JobStatus | None = None
        self._pace = SpeedEstimate()
        self._happenings = JobEvents()
        self._noted = ""
        self._live = Live(console=console, get_renderable=self._picture, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        if text != self._noted:
            self._console.print(Text(one_line(text), style="yellow"))
        self._noted = text

    def show(self, status: JobStatus) -> None:
        self._noted = ""
        for line, for_good in self._happenings.news(status):
            self._console.print(Text(line, style="red" if for_good else "yellow"))
        self._pace.look(status)
        self._status = status

    def _picture(self) -> RenderableType:
        status = self._status
        if status is None:
            return Text("looking ...", style="dim")
        parts: list[RenderableType] = [make_headline(status), *make_totals(status, self._pace)]
        if status.running and not status.state.ended:
            rows = max(1, min(_MOST_ROWS, self._console.height - _OTHER_LINES))
            parts += [Text(""), make_running_table(status.running, rows, width=self._console.width)]
        # The ^C that a terminal echoes lands on this line; on a full one it would wrap and shift the picture.
        parts.append(Text(""))
        return Group(*parts)


# A line each 5 %: a log of a job that takes days stays readable.
_STEP_PERCENT = 5

_VOLATILE = {"frames_done": 0, "message": "", "cpu_seconds": 0.0, "memory_bytes": 0, "io_bytes": 0}


class View(Protocol):
    """Shows the looks at one job; entered before the first and left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, status: JobStatus) -> None:
        """Show a look at the job."""

    def note(self, text: str) -> None:
        """Show a message once, however often it is given in a row."""


def make_view(*, json: bool) -> View:
    """Return the view for where messages go: a terminal, or a log."""
    if json:
        return JsonView()
    console = stderr_console()
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineView()


class _TextView:
    """What views without a picture share: nothing to set up, and each note said once."""

    def __init__(self) -> None:
        self._noted = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, text: str) -> None:
        if text != self._noted:
            print_message(text)
        self._noted = text


class LineView(_TextView):
    """One plain line on stderr for each thing that happens."""

    def __init__(self) -> None:
        super().__init__()
        self._standing = ""
        self._step = 0
        self._happenings = JobEvents()

    def show(self, status: JobStatus) -> None:
        self._noted = ""
        for line, _ in self._happenings.news(status):
            print_message(line)
        now, step = format_state(status), int(status.progress // _STEP_PERCENT)
        if now != self._standing or step > self._step:
            self._standing, self._step = now, step
            print_message(f"{status.id} {now}: {self._progress(status)}")

    def _progress(self, status: JobStatus) -> str:
        parts = [f"{status.progress:.0f} %", f"{status.completed_frames:,} of {format_count(status.total_frames, 'frame')}"]
        parts.append(f"{status.completed_chunks:,} of {format_count(status.total_chunks, 'chunk')}")
        if status.failed_chunks:
            parts.append(f"{status.failed_chunks:,} failed")
        parts += format_unusual_counts(status)
        if status.eta_seconds:
            parts.append(f"{format_duration(status.eta_seconds)} to go")
        return ", ".join(parts)


class JsonView(_TextView):
    """One JSON object a line on stdout for each change."""

    def __init__(self) -> None:
        super().__init__()
        self._last: JobStatus | None = None

    def show(self, status: JobStatus) -> None:
        # Times, partial frames and measurements move all the while; they travel along with real changes.
        running = tuple(chunk.model_copy(update=_VOLATILE) for chunk in status.running)
        essence = status.model_copy(update={"running": running, "updated_at": None, "eta_seconds": None})
        if essence != self._last:
            self._last = essence
            print_json_line(status)

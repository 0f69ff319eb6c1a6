"""The parts of a job's picture, for the live view and for `status`."""

from collections.abc import Iterator, Sequence

from rich.console import OverflowMethod, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtake.cli.formatting import STATE_STYLES, asides, duration, plural, size, standing, took
from longtake.cli.pace import Pace
from longtake.cli.remotely import money
from longtake.cli.terminal import one_line
from longtake.models.status import JobStatus, RunningChunk
from longtake.plaintext import plain

# A narrower screen needs its columns for bars, hosts and what went wrong.
_WIDE = 90

_BAR_WIDTH = 20


def headline(status: JobStatus) -> RenderableType:
    """Return a line with the job's name, its id and what it does."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    name = plain(status.name)
    who = Text.assemble((f"{name}  ", "bold"), (status.id, "dim")) if name else Text(status.id, style="bold")
    grid.add_row(who, Text(standing(status), style=f"bold {STATE_STYLES[status.state]}"))
    return grid


def overall(status: JobStatus, pace: Pace) -> Iterator[RenderableType]:
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
    numbers += asides(status)
    if status.metrics.cost_usd:
        numbers.append(money(status.metrics.cost_usd))
    line = Text(" · ".join(numbers), style="dim", no_wrap=True, overflow="ellipsis")
    if status.failed_chunks:
        line.append(f" · {status.failed_chunks:,} failed", style="red")
    if pace.eta_seconds is not None:
        line.append(" · ").append(f"{duration(pace.eta_seconds)} to go", style="bold not dim")
    elif status.state.ended:
        line.append(f" · {duration(took(status))}")
    yield line


def running_table(running: Sequence[RunningChunk], most: int, *, width: int | None, whole: bool = False) -> Table:
    """Return a row for each chunk that renders, stands frozen or waits for its next try, in this order.

    Args:
        running: The chunks.
        most: Rows at most.
        width: Columns of the screen, which the table fills; None for files and pipes, which have none to fill.
        whole: Errors take the lines they need; else they are cut at the end of theirs.
    """
    told = [chunk for chunk in running if not chunk.waiting or chunk.error]
    told.sort(key=lambda chunk: (chunk.waiting, chunk.chunk))
    measured = any(chunk.cpu_seconds or chunk.memory_bytes for chunk in told) and (width or _WIDE) >= _WIDE
    table = _columns(width, whole=whole, measured=measured)
    shown = told if len(told) <= most and len(told) == len(running) else told[: max(1, most - 1)]
    for chunk in shown:
        known = chunk.cpu_seconds or chunk.memory_bytes
        usage = (duration(chunk.cpu_seconds), size(chunk.memory_bytes)) if known else ("", "")
        table.add_row(
            f"{chunk.chunk}",
            f"{chunk.attempt}",
            _bar(chunk),
            f"{chunk.frames_done:,}/{chunk.frames:,}" if chunk.frames and not chunk.waiting else "",
            *(usage if measured else ()),
            _note(chunk, whole=whole),
        )
    if more := len(running) - len(shown):
        waiting = sum(chunk.waiting for chunk in running) - sum(chunk.waiting for chunk in shown)
        word = f"{waiting:,} of them in a queue" if waiting != more else "in a queue"
        gaps = [""] * (len(table.columns) - 4)
        table.add_row("", "", Text(plural(more, "more chunk"), style="dim"), *gaps, Text(word, style="dim"))
    return table


def _columns(width: int | None, *, whole: bool, measured: bool) -> Table:
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


def _bar(chunk: RunningChunk) -> RenderableType:
    if chunk.waiting:
        return Text("waits", style="yellow")
    if chunk.frozen:
        return Text("frozen", style="blue")
    if not chunk.frames:
        return Text("starts", style="dim")
    return ProgressBar(total=chunk.frames, completed=chunk.frames_done, complete_style="cyan", finished_style="cyan")


def _note(chunk: RunningChunk, *, whole: bool) -> Text:
    error = one_line(chunk.error)
    # The sentence of a try begins with "chunk 7 (frames 70-79): ", which the row says already.
    if error.startswith(f"chunk {chunk.chunk} "):
        error = error.partition(": ")[2] or error
    overflow: OverflowMethod = "fold" if whole else "ellipsis"
    note = Text(no_wrap=not whole, overflow=overflow)
    if chunk.waiting:
        return note.append(error, style="yellow")
    parts = [(plain(chunk.host), ""), (one_line(chunk.message), "dim"), (error and f"before: {error}", "yellow")]
    for index, (words, style) in enumerate(part for part in parts if part[0]):
        note.append("  " if index else "").append(words, style=style)
    return note

"""The parts of a job's picture, for the live view and for `status`."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtake.cli.pace import Pace
from longtake.cli.terminal import clean, one_line
from longtake.cli.words import STATE_STYLES, duration, plural, standing, took
from longtake.status import JobStatus, RunningChunk


def headline(status: JobStatus) -> RenderableType:
    """Return a line with the job's name, its id and what it does."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    name = clean(status.name)
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
    numbers += [f"{status.skipped_chunks:,} kept"] if status.skipped_chunks else []
    line = Text(" · ".join(numbers), style="dim", no_wrap=True, overflow="ellipsis")
    if status.failed_chunks:
        line.append(f" · {status.failed_chunks:,} failed", style="red")
    if pace.eta_seconds is not None:
        line.append(" · ").append(f"{duration(pace.eta_seconds)} to go", style="bold not dim")
    elif status.state.ended:
        line.append(f" · {duration(took(status))}")
    yield line


def running_table(running: Sequence[RunningChunk], most: int, *, expand: bool = True) -> Table:
    """Return a row for each chunk that renders or waits for its next try, the former first, at most so many.

    `expand` fills the width of a screen; files and pipes have none to fill.
    """
    told = [chunk for chunk in running if not chunk.waiting or chunk.error]
    told.sort(key=lambda chunk: (chunk.waiting, chunk.chunk))
    table = Table(box=None, pad_edge=False, expand=expand, header_style="dim", show_edge=False)
    table.add_column("chunk", justify="right", no_wrap=True)
    table.add_column("try", justify="right", no_wrap=True)
    table.add_column("", ratio=2 if expand else None, width=None if expand else 20, min_width=8, no_wrap=True)
    table.add_column("frames", justify="right", no_wrap=True)
    table.add_column("host", ratio=3 if expand else None, no_wrap=True, overflow="ellipsis")
    shown = told if len(told) <= most and len(told) == len(running) else told[: max(1, most - 1)]
    for chunk in shown:
        table.add_row(f"{chunk.chunk}", f"{chunk.attempt}", *_row(chunk))
    if more := len(running) - len(shown):
        waiting = sum(chunk.waiting for chunk in running) - sum(chunk.waiting for chunk in shown)
        word = f"{waiting:,} of them in a queue" if waiting != more else "in a queue"
        table.add_row("", "", Text(f"{plural(more, 'more chunk')}", style="dim"), "", Text(word, style="dim"))
    return table


def _row(chunk: RunningChunk) -> tuple[RenderableType, RenderableType, RenderableType]:
    error = one_line(chunk.error)
    # The sentence of a try begins with "chunk 7 (frames 70-79): ", which the row says already.
    if error.startswith(f"chunk {chunk.chunk} "):
        error = error.partition(": ")[2] or error
    if chunk.waiting:
        return Text("waits", style="yellow"), "", Text(error, style="yellow", no_wrap=True, overflow="ellipsis")
    note = Text(clean(chunk.host), no_wrap=True, overflow="ellipsis")
    if error:
        note.append(f"  before: {error}", style="yellow")
    if not chunk.frames:
        return Text("starts", style="dim"), "", note
    bar = ProgressBar(total=chunk.frames, completed=chunk.frames_done, complete_style="cyan", finished_style="cyan")
    return bar, f"{chunk.frames_done:,}/{chunk.frames:,}", note

"""Draw the farm for a terminal of any size: its jobs and hosts, one job with its chunks, and the end of a log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longtake.cli.formatting import STATE_STYLES, format_duration, format_state
from longtake.farm_overview import FarmHost
from longtake.models.status import ChunkFailure, JobPhase, JobState, JobStatus, RunningChunk
from longtake.text import format_bytes, strip_controls

# A job that failed longer ago is history, and stands with the others that have ended.
_RECENT = timedelta(hours=24)

# Columns of a terminal below which what is least needed is left out.
_WIDE, _NARROW = 100, 64

_KEYS = {
    "jobs": "↑↓ move  enter open  p pause  r resume  c cancel  R retry  / filter  q quit",
    "job": "↑↓ move  enter log  p pause  r resume  c cancel  R retry  esc back  q quit",
    "log": "↑↓ scroll  end newest  esc back  q quit",
}


@dataclass
class TopView:
    """What is shown, and what was chosen in it.

    Args:
        place: Where the farm is, for the head of the screen.
    """

    place: str = ""
    page: str = "jobs"
    jobs: list[JobStatus] = field(default_factory=list)
    hosts: list[FarmHost] = field(default_factory=list)
    # The job that is open, with its chunks.
    job: JobStatus | None = None
    selected: str = ""
    chunk: int | None = None
    log_lines: Sequence[str] = ()
    log_title: str = ""
    # Lines from the end of the log up to the last one that is shown.
    scroll: int = 0
    filter: str = ""
    is_typing: bool = False
    question: str = ""
    message: str = ""
    trouble: str = ""
    away_since: datetime | None = None
    is_loaded: bool = False

    def listed(self) -> list[JobStatus]:
        """Return the jobs that the filter leaves, failures first."""
        words = self.filter.lower().split()
        found = [job for job in self.jobs if all(word in f"{job.id} {job.name} {job.state}".lower() for word in words)]
        return sorted(found, key=_rank)

    def find_selected(self) -> JobStatus | None:
        """Return the job that is chosen: the open one, or that of the cursor."""
        if self.page != "jobs":
            return self.job
        listed = self.listed()
        return next((job for job in listed if job.id == self.selected), listed[0] if listed else None)

    def move(self, steps: int) -> None:
        """Move the cursor by rows."""
        if self.page == "log":
            self.scroll = max(0, min(self.scroll - steps, max(0, len(self.log_lines) - 1)))
        elif self.page == "job":
            chunks = [entry.chunk for entry in list_chunks(self.job)]
            if chunks:
                at = chunks.index(self.chunk) if self.chunk in chunks else 0
                self.chunk = chunks[max(0, min(at + steps, len(chunks) - 1))]
        elif ids := [job.id for job in self.listed()]:
            at = ids.index(self.selected) if self.selected in ids else 0
            self.selected = ids[max(0, min(at + steps, len(ids) - 1))]


def _rank(job: JobStatus) -> tuple[int, float]:
    """Return what sorts jobs: those that need somebody, those at work, those that wait, those that have ended."""
    changed = job.updated_at or job.created_at
    is_recent = changed is not None and datetime.now(UTC) - changed < _RECENT
    if not job.state.has_ended and (job.phase is JobPhase.HOLDING or job.failed_chunks):
        rank = 0
    elif job.state is JobState.FAILED and is_recent:
        rank = 1
    else:
        rank = {JobState.RUNNING: 2, JobState.PAUSED: 3, JobState.PENDING: 4}.get(job.state, 5)
    return rank, -(job.created_at.timestamp() if job.created_at else 0)


@dataclass(frozen=True)
class ChunkEntry:
    """A chunk of a job that failed, runs or waits."""

    chunk: int
    running: RunningChunk | None = None
    failure: ChunkFailure | None = None


def list_chunks(job: JobStatus | None) -> list[ChunkEntry]:
    """Return the chunks of a job that are told one by one: failed ones first, then what runs, then what waits."""
    if job is None:
        return []
    running = {chunk.chunk for chunk in job.running}
    failed = [ChunkEntry(each.chunk, failure=each) for each in job.failures if each.chunk not in running]
    runs = sorted(job.running, key=lambda chunk: (chunk.waiting, chunk.chunk))
    return failed + [ChunkEntry(each.chunk, running=each) for each in runs]


def draw_screen(view: TopView, width: int, height: int) -> RenderableType:
    """Return what is shown on a terminal of this size; a larger screen than the terminal is never drawn."""
    head, foot = _draw_head(view, width), _draw_foot(view, width)
    room = max(3, height - len(head) - len(foot))
    match view.page:
        case "log":
            body = _draw_log(view, width, room)
        case "job":
            body = _draw_job(view, width, room)
        case _:
            body = _draw_farm(view, width, room)
    # A table of no rows still draws its head.
    return Group(*head, *body, *foot)


def draw_snapshot(view: TopView) -> RenderableType:
    """Return the farm as it is now, whole, for files and pipes."""
    jobs = view.listed()
    parts: list[RenderableType] = [_count_jobs(view.jobs)]
    if jobs:
        parts += [Text(""), _make_job_table(jobs, "", None)]
    if view.hosts:
        parts += [Text(""), _make_host_table(view.hosts, None)]
    return Group(*parts)


def _draw_head(view: TopView, width: int) -> list[RenderableType]:
    clock = f"{datetime.now().astimezone():%H:%M:%S}"
    line = Text("longtake", style="bold", no_wrap=True, overflow="ellipsis")
    if width >= _NARROW:
        line.append(f"  {strip_controls(view.place)}", style="not bold dim")
    counts = _count_jobs(view.jobs)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(line, counts, Text(clock, style="dim"))
    head: list[RenderableType] = [grid]
    if view.away_since is not None:
        since = (datetime.now(UTC) - view.away_since).total_seconds()
        told = f"away since {view.away_since.astimezone():%H:%M:%S} ({format_duration(since)}): {view.trouble}"
        head.append(_line(f"{told}; asking again, and this is what was known last", "bold yellow"))
    return head


def _count_jobs(jobs: Sequence[JobStatus]) -> Text:
    text = Text(no_wrap=True)
    for state in (JobState.RUNNING, JobState.PAUSED, JobState.PENDING, JobState.FAILED):
        if count := sum(job.state is state for job in jobs):
            text.append(" · " if text.plain else "").append(f"{count:,} {state}", style=STATE_STYLES[state])
    text.append(" · " if text.plain else "").append(f"{len(jobs):,} job{'' if len(jobs) == 1 else 's'}", style="dim")
    return text


def _draw_foot(view: TopView, width: int) -> list[RenderableType]:
    if view.question:
        return [_line(view.question, "bold reverse")]
    if view.is_typing:
        return [_line(f"filter: {view.filter}_   enter keeps it, esc clears it", "bold")]
    said: list[RenderableType] = [_line(view.message, "bold")] if view.message else []
    keys = _KEYS[view.page] + (f"   [{view.filter}]" if view.filter and view.page == "jobs" else "")
    return [*said, _line(keys, "dim")]


def _line(text: str, style: str = "") -> Text:
    return Text(" ".join(strip_controls(text).splitlines()), style=style, no_wrap=True, overflow="ellipsis")


def _draw_farm(view: TopView, width: int, room: int) -> list[RenderableType]:
    jobs = view.listed()
    if not jobs:
        return _draw_nothing(view, room)
    wanted = len(view.hosts) + 2 if view.hosts else 0
    for_hosts = min(wanted, max(room // 3, room - len(jobs) - 1)) if room >= 9 else 0
    rows = max(1, room - for_hosts - 1)
    selected = view.find_selected()
    at = jobs.index(selected) if selected in jobs else 0
    first = _find_first(at, len(jobs), rows)
    parts: list[RenderableType] = [
        _make_job_table(
            jobs[first : first + rows], selected.id if selected else "", width, dim=view.away_since is not None
        )
    ]
    parts += [Text("")] * max(0, rows - len(jobs))
    if for_hosts > 2:
        shown = view.hosts[: for_hosts - 2]
        parts += [Text(""), _make_host_table(shown, width, more=len(view.hosts) - len(shown))]
    elif for_hosts:
        parts += [Text("")] * for_hosts
    return parts


def _find_first(at: int, count: int, rows: int) -> int:
    """Return the first of the rows that are shown, so that the one of the cursor is among them."""
    return max(0, min(at - rows // 2, count - rows))


def _draw_nothing(view: TopView, room: int) -> list[RenderableType]:
    if not view.is_loaded:
        said = ["looking ..."]
    elif view.filter:
        said = [f"no job has all of: {view.filter}", "/ changes the filter"]
    else:
        said = ["no job yet", "`longtake submit examples/plasma.yaml` starts one"]
    lines: list[RenderableType] = [Text(""), *(_line(f"  {text}", "dim") for text in said)]
    return [*lines[:room], *[Text("")] * max(0, room - len(lines))]


def _make_job_table(jobs: Sequence[JobStatus], selected: str, width: int | None, *, dim: bool = False) -> Table:
    columns = width or _WIDE
    table = Table(box=None, pad_edge=False, expand=width is not None, header_style="dim", style="dim" if dim else "")
    if width is not None:
        table.add_column("", width=1, no_wrap=True)
    table.add_column("JOB", ratio=1 if width else None, no_wrap=True, overflow="ellipsis", min_width=10)
    table.add_column("STATE", no_wrap=True)
    if width is not None and columns >= _NARROW:
        table.add_column("", width=10 if columns < _WIDE else 20, no_wrap=True)
    table.add_column("%", no_wrap=True, justify="right")
    if columns >= _NARROW:
        table.add_column("CHUNKS", no_wrap=True, justify="right")
    table.add_column("FAILED", no_wrap=True, justify="right")
    table.add_column("TO GO", no_wrap=True, justify="right")
    for job in jobs:
        is_chosen = job.id == selected
        cells: list[RenderableType] = [Text(">" if is_chosen else " ", style="bold")] if width is not None else []
        cells += [Text(strip_controls(job.id)), Text(_name_state(job), style=STATE_STYLES[job.state])]
        if width is not None and columns >= _NARROW:
            style = STATE_STYLES[job.state]
            cells.append(ProgressBar(total=100, completed=job.progress, complete_style=style, finished_style=style))
        cells.append(f"{job.progress:.0f}")
        if columns >= _NARROW:
            cells.append(f"{job.completed_chunks:,}/{job.total_chunks:,}")
        cells.append(Text(f"{job.failed_chunks:,}" if job.failed_chunks else "", style="red"))
        cells.append(format_duration(job.eta_seconds) if job.eta_seconds and not job.state.has_ended else "")
        table.add_row(*cells, style="bold" if is_chosen else "")
    return table


def _name_state(job: JobStatus) -> str:
    if job.phase in (JobPhase.PAUSING, JobPhase.HOLDING, JobPhase.CLEANING_UP, JobPhase.STITCHING):
        return format_state(job).replace(f"{job.state}, ", "")
    if job.state is JobState.PAUSED and job.frozen_chunks:
        return "paused, frozen"
    return job.state.value if not job.waiting_for else f"{job.state}, waits"


def _make_host_table(hosts: Sequence[FarmHost], width: int | None, *, more: int = 0) -> Table:
    table = Table(box=None, pad_edge=False, expand=width is not None, header_style="dim")
    table.add_column("HOST", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("SLOTS", no_wrap=True, justify="right")
    rest = f"RENDERS NOW{f'   ({more:,} more hosts)' if more > 0 else ''}"
    table.add_column(rest, ratio=1 if width else None, no_wrap=True, overflow="ellipsis")
    for host in hosts:
        slots = f"{host.used_slots or 0}/{host.slots}" if host.slots else f"{len(host.running) or ''}"
        table.add_row(Text(strip_controls(host.name)), slots, _describe_renders(host))
    return table


def _describe_renders(host: FarmHost) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    if host.is_silent and host.last_heard is not None:
        silent = (datetime.now(UTC) - host.last_heard).total_seconds()
        return text.append(f"not heard of for {format_duration(silent)}", style="yellow")
    if not host.running:
        return text.append(f"{host.used_slots:,} at work" if host.used_slots else "idle", style="dim")
    for each in host.running:
        text.append("  " if text.plain else "")
        text.append(strip_controls(each.job)).append(f" {each.chunk}", style="cyan")
        if each.frozen:
            text.append(" frozen", style="blue")
        elif each.frames:
            text.append(f" {100 * each.frames_done // each.frames}%", style="dim")
    return text


def _draw_job(view: TopView, width: int, room: int) -> list[RenderableType]:
    job = view.job
    if job is None:
        return [_line("looking ...", "dim"), *[Text("")] * (room - 1)]
    style = STATE_STYLES[job.state]
    title = Text(strip_controls(job.id), style="bold", no_wrap=True, overflow="ellipsis")
    title.append(f"  {format_state(job)}", style=style)
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    bar.add_row(
        ProgressBar(total=100, completed=job.progress, complete_style=style, finished_style=style),
        f"{job.progress:.1f} %",
    )
    head: list[RenderableType] = [title, bar, _line(" · ".join(_list_facts(job)), "dim")]
    for said, colour in ((job.error, "red"), (job.waiting_for, "yellow")):
        if said:
            head.append(_line(said, colour))
    head = head[: max(1, room - 3)]
    entries = list_chunks(job)
    rows = max(1, room - len(head) - 2)
    if not entries:
        return [*head, Text(""), _line("no chunk runs now", "dim"), *[Text("")] * rows]
    chunks = [entry.chunk for entry in entries]
    at = chunks.index(view.chunk) if view.chunk in chunks else 0
    first = _find_first(at, len(entries), rows)
    shown = entries[first : first + rows]
    table = _make_chunk_table(shown, chunks[at], width)
    return [*head, Text(""), table, *[Text("")] * max(0, rows - len(shown))]


def _list_facts(job: JobStatus) -> list[str]:
    facts = [
        f"{job.completed_frames:,}/{job.total_frames:,} frames",
        f"{job.completed_chunks:,}/{job.total_chunks:,} chunks",
        f"{job.running_chunks:,} running",
    ]
    facts += [f"{job.frozen_chunks:,} frozen"] if job.frozen_chunks else []
    facts += [f"{job.failed_chunks:,} failed"] if job.failed_chunks else []
    if job.eta_seconds and not job.state.has_ended:
        facts.append(f"{format_duration(job.eta_seconds)} to go")
    return facts


def _make_chunk_table(entries: Sequence[ChunkEntry], selected: int, width: int) -> Table:
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    table.add_column("", width=1, no_wrap=True)
    table.add_column("CHUNK", justify="right", no_wrap=True)
    table.add_column("TRY", justify="right", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("FRAMES", justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("MEMORY", justify="right", no_wrap=True)
    table.add_column("HOST", no_wrap=True, overflow="ellipsis", ratio=1)
    for entry in entries:
        is_chosen = entry.chunk == selected
        cells: list[RenderableType] = [Text(">" if is_chosen else " ", style="bold"), f"{entry.chunk}"]
        cells += _describe_chunk(entry, width >= _WIDE)
        table.add_row(*cells, style="bold" if is_chosen else "")
    return table


def _describe_chunk(entry: ChunkEntry, has_memory: bool) -> list[RenderableType]:
    failure, chunk = entry.failure, entry.running
    if failure is not None:
        where = f"{failure.host}: {failure.error}" if failure.host else failure.error
        return [f"{failure.attempts}", Text("failed", style="red"), "", *[""] * has_memory, _line(where, "red")]
    assert chunk is not None  # it is one of both
    state, style = ("waits", "yellow") if chunk.waiting else ("frozen", "blue") if chunk.frozen else ("renders", "cyan")
    frames = f"{chunk.frames_done:,}/{chunk.frames:,}" if chunk.frames and not chunk.waiting else ""
    memory = [format_bytes(chunk.memory_bytes) if chunk.memory_bytes else ""] * has_memory
    said = "  ".join(filter(None, (chunk.host, chunk.message, chunk.error)))
    return [f"{chunk.attempt}", Text(state, style=style), frames, *memory, _line(said)]


def _draw_log(view: TopView, width: int, room: int) -> list[RenderableType]:
    rows = room - 1
    stop = max(0, len(view.log_lines) - view.scroll)
    shown = list(view.log_lines)[max(0, stop - rows) : stop]
    title = _line(view.log_title + (f"   {view.scroll:,} lines below" if view.scroll else ""), "bold")
    lines: list[RenderableType] = [Text(line, no_wrap=True, overflow="ellipsis") for line in shown]
    return [title, *lines, *[Text("")] * (rows - len(lines))]

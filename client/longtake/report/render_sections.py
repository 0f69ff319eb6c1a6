"""Write the sections of a report on its renders: maps, pictures, the timeline, frame times, hosts, failures."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from longtake.chunk_history import ChunkHistory
from longtake.failure_causes import FailureCause
from longtake.ranges import format_ranges
from longtake.render_timeline import HostWork, find_quantile
from longtake.report.charts import (
    draw_host_map,
    draw_sign,
    draw_state_map,
    draw_timeline,
    draw_times,
    draw_value_map,
)
from longtake.report.job_report import JobReport
from longtake.report.looks import BAR_LOOKS, HOST_COLOURS, RAMP, STATE_LOOKS
from longtake.report.markup import (
    count_nouns,
    format_span,
    format_when,
    format_work,
    to_code,
    to_text,
    write_legend,
    write_section,
    write_table,
)
from longtake.text import format_bytes

_MOST_HOSTS = 60
# Rows of a table beside which others stand.
_MOST_ROWS = 16
_MOST_SLOW = 8
_MOST_CAUSES = 20

# A longer list of frames hides what stands beside it.
_LONGEST_FRAMES = 120


def write_map(report: JobReport, history: ChunkHistory) -> str:
    """Return the map of all chunks: by state, and by time, memory and host where those are known."""
    if not len(history):
        return ""
    counts = report.counts
    signs = [
        (draw_sign(state), f"{look.words} {counts[state]:,}")
        for state, look in STATE_LOOKS.items()
        if counts.get(state)
    ]
    maps = [("State", draw_state_map(history), write_legend(signs)), *_make_value_maps(history)]
    hosts = [host.host for host in report.hosts if host.host and host.chunks]
    if hosts:
        maps.append(("Host", draw_host_map(history, hosts), _write_host_legend(hosts)))
    first, last = history.frames(0), history.frames(len(history) - 1)
    per_cell = max(1, report.chunks.frames_per_chunk)
    note = f"a cell is {'a frame' if per_cell == 1 else f'a chunk of {per_cell:,} frames'}"
    note += f" · frames {first[0]:,} to {last[-1]:,}" if first and last else ""
    if history.unread:
        note += f" · times and hosts of {history.unread:,} chunks were not read"
    return write_section("Frame map", note, _write_tabs(maps))


def _write_tabs(tabs: Sequence[tuple[str, str, str]]) -> str:
    """Return drawings with their legends, of which one is shown at a time, without a script."""
    heads = "".join(
        f'<input type="radio" name="map" id="map{number}"{"" if number else " checked"}>'
        f'<label for="map{number}">{name}</label>'
        for number, (name, _, _) in enumerate(tabs)
    )
    bodies = "".join(f'<div><div class="scroll">{drawing}</div>{legend}</div>' for _, drawing, legend in tabs)
    return f'<div class="tabs">{heads}{bodies}</div>'


def _make_value_maps(history: ChunkHistory) -> Iterator[tuple[str, str, str]]:
    facts = history.facts
    for name, values, form in (
        ("Time", facts.render_seconds, format_span),
        ("Memory", facts.peak_memory_bytes, format_bytes),
    ):
        known = sorted(value for value in values if value > 0)
        if not known:
            continue
        # Outliers share the last colour, or all others would share the first one.
        low, high = known[0], max(find_quantile(known, 0.98), known[0] * 1.01)
        limits = [low + (high - low) * number / (len(RAMP) - 1) for number in range(1, len(RAMP))]
        ramp = "".join(
            f'<rect x="{number * 10}" width="10.5" height="10" fill="#{colour}"/>' for number, colour in enumerate(RAMP)
        )
        scale = f'<svg viewBox="0 0 {10 * len(RAMP)} 10" preserveAspectRatio="none" aria-hidden="true">{ramp}</svg>'
        legend = f'<span class="wide">{form(low)} {scale} {form(high)} and more, a chunk</span>'
        drawing = draw_value_map(history, values, limits, f"Map of chunks by {name.lower()}")
        yield name, drawing, f'<div class="legend">{legend}</div>'


def _write_host_legend(hosts: Sequence[str]) -> str:
    shown = list(zip(hosts, HOST_COLOURS, strict=False))
    if len(hosts) > len(HOST_COLOURS):
        shown[-1] = (f"{len(hosts) - len(HOST_COLOURS) + 1} others", HOST_COLOURS[-1])
    return write_legend((f'<rect width="12" height="12" fill="#{colour}"/>', to_text(host)) for host, colour in shown)


def write_pictures(report: JobReport) -> str:
    """Return the small pictures, in the order of their frames."""
    figures = "".join(
        f'<figure><img alt="frame {picture.frame}" '
        f'src="data:{picture.kind};base64,{b64encode(picture.data).decode("ascii")}">'
        f"<figcaption>{picture.frame}</figcaption></figure>"
        for picture in report.pictures
    )
    body = f'<div class="film">{figures}</div>' if figures else ""
    return write_section("Pictures", count_nouns(len(report.pictures), "frame"), body)


def write_timeline(report: JobReport) -> str:
    """Return who rendered when."""
    if not report.timeline:
        return ""
    busiest = dict.fromkeys([*(host.host for host in report.hosts), *(bar.host for bar in report.timeline)])
    hosts = sorted(list(busiest)[:_MOST_HOSTS], key=_find_order)
    start, stop = min(bar.start for bar in report.timeline), max(bar.stop for bar in report.timeline)
    note = " to ".join(format_when(datetime.fromtimestamp(each, UTC)) for each in (start, stop))
    if len(busiest) > _MOST_HOSTS:
        note += f" · the {_MOST_HOSTS} busiest of {len(busiest):,} hosts"
    there = {bar.kind for bar in report.timeline}
    legend = write_legend(
        (f'<rect class="{look.css_class}" width="12" height="12"/>', look.words)
        for kind, look in BAR_LOOKS.items()
        if kind in there
    )
    drawing = draw_timeline(report.timeline, hosts)
    return write_section("Hosts over time", note, f'<div class="scroll">{drawing}</div>{legend}')


def _find_order(host: str) -> list[tuple[bool, int, str]]:
    """Return what sorts names with numbers as people count: node-9 before node-10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", host)]


def write_times(report: JobReport) -> str:
    """Return the distribution of frame times, with the outliers."""
    times = report.times
    if not times.chunks:
        return ""
    measured = (("p50", times.p50), ("p95", times.p95), ("mean", times.mean), ("longest", times.longest))
    note = " · ".join(f"{name} {format_span(seconds)}" for name, seconds in measured)
    slow = ""
    if times.slow:
        slow = f'<p class="soft">{count_nouns(times.slow_count, "outlier")}, far beyond the others:</p>' + write_table(
            (("Chunk", ""), ("Host", "name"), ("A frame took", "num")),
            ((f"{each.chunk:,}", to_text(each.host), format_span(each.seconds)) for each in times.slow[:_MOST_SLOW]),
        )
    return write_section("Time a frame", note, draw_times(times) + slow)


def write_hosts(report: JobReport) -> str:
    """Return what each host has done, the busiest first."""
    if not report.hosts:
        return ""
    columns = [("Host", "name"), ("Frames", "num"), ("Rendered", "num"), ("A frame", "num")]
    has_memory = any(host.peak_memory_bytes for host in report.hosts)
    has_failures = any(host.failed_tries for host in report.hosts)
    columns += [("Memory", "num")] * has_memory + [("Failed", "num bad")] * has_failures

    def cells(work: HostWork) -> list[str]:
        known = (format_work(work.render_seconds), format_span(work.render_seconds / max(1, work.frames)))
        row = [to_text(work.host or "unknown"), f"{work.frames:,}", *(known if work.chunks else ("", ""))]
        row += [format_bytes(work.peak_memory_bytes) if work.chunks else ""] * has_memory
        return row + [f"{work.failed_tries or ''}"] * has_failures

    table = write_table(columns, map(cells, report.hosts[:_MOST_ROWS]))
    more = len(report.hosts) - _MOST_ROWS
    rest = f'<p class="faint">and {more:,} more</p>' if more > 0 else ""
    return write_section("Hosts", count_nouns(len(report.hosts), "host"), table + rest)


def write_failures(report: JobReport) -> str:
    """Return the failed tries by cause, those that keep chunks from being finished first."""
    if not report.failures:
        return ""
    tries = f"{count_nouns(report.failed_tries, 'failed try')}, " if report.failed_tries else ""
    causes = "".join(map(_write_cause, report.failures[:_MOST_CAUSES]))
    return write_section("Failures", tries + count_nouns(len(report.failures), "cause"), causes, kind="long")


def _write_cause(cause: FailureCause) -> str:
    where = f"chunk{'s' * (cause.chunk_count > 1)} {format_ranges(cause.chunks, count=cause.chunk_count)}"
    where += f" (frames {to_text(cause.frames)})" if cause.frames and len(cause.frames) < _LONGEST_FRAMES else ""
    times = dict.fromkeys(format_when(when, "%H:%M:%S") for when in (cause.first_at, cause.last_at) if when is not None)
    when = f"{format_when(cause.first_at, '%d %b')} {' to '.join(times)}" if times else ""
    outcome = (
        f'<span class="bad">{count_nouns(cause.open_chunks, "chunk")} not finished since</span>'
        if cause.open_chunks
        else "a later try of each chunk succeeded"
    )
    facts = " · ".join(filter(None, (where, to_text(", ".join(cause.hosts)), when, outcome)))
    newline = "\n"
    parts = [f'<h3>{to_text(cause.cause)}</h3><p class="soft">{facts}</p>']
    parts += [f"<pre>{newline.join(map(to_text, cause.lines))}</pre>"] if cause.lines else []
    parts += [f'<p class="helps"><span>{to_code(cause.helps)}</span></p>'] if cause.helps else []
    if cause.log and cause.open_chunks:
        parts.append(f'<p class="faint">log: <code>{to_text(cause.log)}</code></p>')
    kind = "cause" if cause.open_chunks else "cause over"
    return f'<div class="{kind}"><b title="tries">{cause.tries:,}</b><div>{"".join(parts)}</div></div>'

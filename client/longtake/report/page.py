"""Write a report as one HTML page that needs nothing else: no script, no font, no address of another host."""

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files

from longtake.chunk_history import ChunkState
from longtake.models.status import JobState
from longtake.report.charts import draw_progress
from longtake.report.job_report import FilmProof, GatheredReport, JobReport
from longtake.report.looks import STATE_LOOKS
from longtake.report.markup import (
    count_nouns,
    format_span,
    format_when,
    format_work,
    name_zone,
    to_code,
    to_text,
    write_pairs,
    write_section,
    write_table,
)
from longtake.report.render_sections import (
    write_failures,
    write_hosts,
    write_map,
    write_pictures,
    write_timeline,
    write_times,
)
from longtake.text import format_bytes


@cache
def _read_style() -> str:
    return files("longtake.report").joinpath("style.css").read_text(encoding="utf-8")


@cache
def content_security_policy() -> str:
    """Return the policy of the page: its one style sheet and pictures in it, and nothing else of anybody.

    A server that sends a report sends this policy, and no other: each of several is obeyed.
    """
    digest = b64encode(hashlib.sha256(_read_style().encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def write_page(gathered: GatheredReport) -> str:
    """Return the report as an HTML page."""
    report, history = gathered.report, gathered.history
    sections = [
        _write_head(report),
        _write_trouble(report),
        _write_films(report),
        write_map(report, history),
        write_pictures(report),
        write_timeline(report),
        f'<div class="two">{write_times(report)}{write_hosts(report)}</div>',
        write_failures(report),
        _write_cost(report),
        _write_job(report),
        _write_outputs(report),
    ]
    title, policy = to_text(report.name or report.id), escape(content_security_policy())
    footer = (
        f"Made by longtake {to_text(report.longtake)} from the records in <code>{to_text(report.folder)}</code>. "
        f"Times are of the zone {to_text(name_zone(report.made_at))}."
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{title} - report</title><style>{_read_style()}</style></head>\n"
        f"<body><main>{''.join(sections)}<footer>{footer}</footer></main></body></html>\n"
    )


def _write_head(report: JobReport) -> str:
    counts, total = report.counts, max(1, report.chunks.count)
    shown = {state: look for state, look in STATE_LOOKS.items() if state is not ChunkState.TODO}
    bar = draw_progress((look.css_class, counts.get(state, 0) / total) for state, look in shown.items())
    facts = "".join(f"<div><dt>{what}</dt><dd>{value}</dd></div>" for value, what in _list_facts(report))
    state = report.state if report.state != "unknown" else "not known to Temporal"
    return (
        f'<div class="kicker"><b>Longtake report</b><span>as of {format_when(report.made_at)}</span></div>'
        f'<div class="head"><div class="title"><h1>{to_text(report.name or report.id)}</h1>'
        f'<span class="pill {to_text(report.state)}">{to_text(state)}</span><code>{to_text(report.id)}</code></div>'
        f'<div class="bar">{bar}</div><dl class="facts">{facts}</dl></div>'
    )


def _list_facts(report: JobReport) -> Iterable[tuple[str, str]]:
    counts, total = report.counts, report.total_frames
    share = 100 * report.done_frames / total if total else 0
    # Of a job that lacks a frame in a million not "100 %".
    shown = f"{min(share, 99.9) if report.done_frames < total else share:.3g}"
    yield f"{shown} %", f"{report.done_frames:,} of {count_nouns(total, 'frame')}"
    if failed := counts.get(ChunkState.FAILED, 0):
        open_causes = sum(1 for cause in report.failures if cause.open_chunks)
        yield (
            f'<span class="bad">{failed:,}</span>',
            "failed" + (f", {count_nouns(open_causes, 'cause')}" if open_causes else ""),
        )
    if left_out := counts.get(ChunkState.LEFT_OUT, 0):
        yield f"{left_out:,}", "left out"
    if report.began is not None and report.ended is not None:
        took = (report.ended - report.began).total_seconds()
        yield format_span(took), f"{format_when(report.began)} to {format_when(report.ended, '%H:%M')}"
    if report.times.chunks:
        yield format_span(report.times.p50), f"a frame (p95 {format_span(report.times.p95)})"
    named = [host for host in report.hosts if host.host and host.chunks]
    if named:
        yield f"{len(named):,}", "host" if len(named) == 1 else "hosts"
    if report.cpu_seconds:
        yield format_work(report.cpu_seconds), "CPU time"
    if report.peak_memory_bytes:
        yield format_bytes(report.peak_memory_bytes), "memory of a chunk, at most"


def _write_trouble(report: JobReport) -> str:
    status = report.status
    if status is None or not (status.error or status.waiting_for):
        return ""
    parts = [f'<p class="bad">{to_code(status.error)}</p>'] if status.error else []
    parts += [f"<p>{to_code(status.waiting_for)}</p>"] if status.waiting_for else []
    if status.state in (JobState.FAILED, JobState.CANCELLED) and not status.needs_change:
        parts.append(
            f'<p class="soft"><code>longtake retry {to_text(status.id)}</code> renders only what is missing.</p>'
        )
    title = "Why it failed" if status.state is JobState.FAILED else "What stands in its way"
    return write_section(title, "", "".join(parts), kind="trouble")


def _write_films(report: JobReport) -> str:
    if not report.films:
        return ""
    return write_section("Film" if len(report.films) == 1 else "Films", "", "".join(map(_write_film, report.films)))


def _write_film(film: FilmProof) -> str:
    facts = [count_nouns(film.frames, "frame")] if film.frames else []
    facts += [format_span(film.duration_seconds)] if film.duration_seconds else []
    facts += [format_bytes(film.size_bytes)]
    notes = "".join(f"<li>{to_text(note)}</li>" for note in film.notes)
    return write_pairs(
        (
            ("file", f"<b>{to_text(film.path)}</b>"),
            ("holds", ", ".join(facts)),
            ("sha256", f'<span class="mono">{to_text(film.sha256)}</span>'),
            ("proof", to_code(film.proof)),
            ("not proven", f'<ul class="plain">{notes}</ul>' if notes else ""),
        )
    )


def _write_cost(report: JobReport) -> str:
    metrics = report.status.metrics if report.status is not None else None
    wasted = report.failed_seconds
    whole = report.render_seconds + wasted
    rows = [
        ("rendered", f"{format_work(report.render_seconds)} in tries that succeeded"),
        ("CPU", f"{format_work(report.cpu_seconds)} of the renderers' processes" if report.cpu_seconds else ""),
        ("lost", f"{format_work(wasted)} in tries that failed, {100 * wasted / whole:.2g} % of all" if wasted else ""),
        (
            "billed",
            f"{format_work(metrics.billed_seconds)} of {to_text(report.backend)}"
            if metrics and metrics.billed_seconds
            else "",
        ),
        (
            "costs",
            f"<b>{metrics.cost_usd:,.2f} USD</b>, by the workers' price table" if metrics and metrics.cost_usd else "",
        ),
        (
            "a frame",
            f"{metrics.cost_usd / report.done_frames:.4f} USD"
            if metrics and metrics.cost_usd and report.done_frames
            else "",
        ),
    ]
    return write_section("Cost", "", write_pairs(rows)) if report.render_seconds or wasted else ""


def _write_job(report: JobReport) -> str:
    versions = (
        f"longtake {to_text(report.longtake)}, Temporal SDK {to_text(report.temporal_sdk)}, "
        f"Python {to_text(report.python)} (of this report)"
    )
    rows = [
        ("command", f"<pre>{to_text(' '.join(report.command))}</pre>" if report.command else ""),
        ("outputs", "<br>".join(f"<code>{to_text(path)}</code>" for path in report.outputs_named)),
        ("store", f"<code>{to_text(report.store)}</code>"),
        ("backend", to_text(report.backend)),
        ("renderer", to_text(report.renderer)),
        ("versions", versions),
        ("job digest", _write_digest(report.job_digest, "jobs with one digest render the same files")),
        ("job.json", _write_digest(report.record_sha256, "sha256 of the record in the store")),
    ]
    return write_section("Job and versions", "", write_pairs(rows))


def _write_digest(digest: str, note: str) -> str:
    return f'<span class="mono">{to_text(digest)}</span> <span class="faint">{note}</span>'


def _write_outputs(report: JobReport) -> str:
    outputs = report.outputs
    if not outputs.files:
        return ""
    table = write_table(
        (("File", "path"), ("Chunk", "num wide-only"), ("Size", "num"), ("sha256", "mono")),
        (
            (to_text(file.path), f"{file.chunk:,}", format_bytes(file.size_bytes), to_text(file.sha256))
            for file in outputs.first
        ),
    )
    whole = (
        "Digest of the list of all files, as <code>sha256sum</code> prints it, sorted by path: "
        f'<span class="mono">{outputs.list_sha256}</span>'
        if outputs.list_sha256
        else "So many files have no common digest here; <code>longtake fetch</code> proves each."
    )
    more = outputs.files - len(outputs.first)
    rest = f'<p class="faint">and {more:,} more</p>' if more else ""
    note = f"{count_nouns(outputs.files, 'file')}, {format_bytes(outputs.size_bytes)}"
    note += "; each was checked before it was published"
    return write_section("Outputs", note, f'<p class="soft">{whole}</p>{table}{rest}', kind="long")

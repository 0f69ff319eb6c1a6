"""Format counts, times, states, costs and results of jobs for people, and parse the chunks of `--chunk`."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice

from longtake.errors import BadJobError
from longtake.job_facts import PLATFORMS
from longtake.models.frames import MOST_CHUNKS
from longtake.models.status import (
    FilmResult,
    JobPhase,
    JobState,
    JobStatus,
    PauseMode,
    RemoteStop,
    RemoteStops,
    RenderJobResult,
    RequestRecord,
)
from longtake.ranges import Range, RangeSet, format_range, format_ranges
from longtake.text import flatten_text, strip_controls

STATE_STYLES = {
    JobState.PENDING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.PAUSED: "yellow",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}

# A value of `--chunk`, or a part of one between commas.
_CHUNK_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)


def parse_chunks(words: Iterable[str]) -> tuple[Range, ...]:
    """Return the chunks that values of `--chunk` name: `3`, `3-7` or `3, 7-9`, both ends of a range included.

    Raises:
        BadJobError: A value is neither a chunk nor a range of chunks.
    """
    chunks = RangeSet()
    for word in words:
        for part in word.split(","):
            found = _CHUNK_RANGE.fullmatch(part.strip())
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
            if not found or last >= MOST_CHUNKS:
                raise BadJobError(f"--chunk: {word!r} is no chunk; write its number, as in --chunk 3 or --chunk 3-7")
            if last < first:
                raise BadJobError(f"--chunk: {word!r} ends before it begins; write --chunk {last}-{first}")
            chunks.add(first, last + 1)
    return chunks.ranges


def format_chunks(chunks: Iterable[Range], most: int = 5) -> str:
    """Return the first `most` ranges of chunks as a value of `--chunk`: `3,7-9`."""
    return ",".join(format_range(start, stop) for start, stop in islice(chunks, most))


def format_duration(seconds: float) -> str:
    """Return a duration as text: `0:07`, `12:30`, `3:05:00`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return (f"{hours}:" if hours else "") + f"{minutes}:{rest % 60:02}"


def format_time(when: datetime) -> str:
    """Return a time in the time zone of this host, with how long ago it was."""
    ago = (datetime.now(UTC) - when).total_seconds()
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S} ({format_duration(ago)} ago)"


def format_request(request: RequestRecord) -> str:
    """Return a request that a job has followed, in one line: `pause (freeze) by ada@tower, 2025-06-01 ...`."""
    detail = f" ({flatten_text(request.detail)})" if request.detail else ""
    by = f" by {flatten_text(request.by)}" if request.by else ""
    return f"{request.what}{detail}{by}, {format_time(request.at)}"


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun: `1 chunk`, `2 chunks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_state(status: JobStatus) -> str:
    """Return the state of a job with its phase, as in `running, rendering`; of ended jobs the state alone."""
    state, phase = f"{status.state}", f"{status.phase}".replace("_", " ")
    if status.state.has_ended or (status.state is JobState.PAUSED and status.phase is not JobPhase.HOLDING):
        return state
    if status.phase is JobPhase.PAUSING and status.pause_mode not in (None, PauseMode.DRAIN):
        phase += f" ({status.pause_mode})"
    return f"{state}, {phase}"


def format_unusual_counts(status: JobStatus) -> Iterator[str]:
    """Yield the counts of frozen, left out and kept chunks that are not 0, as in `2 frozen`."""
    for count, word in (
        (status.frozen_chunks, "frozen"),
        (status.left_out_chunks, "left out"),
        (status.skipped_chunks, "kept from before"),
    ):
        if count:
            yield f"{count:,} {word}"


def describe_advice(status: JobStatus) -> str | None:
    """Return the commands with which a job that holds goes on; None for other jobs."""
    if status.phase is not JobPhase.HOLDING or status.state.has_ended:
        return None
    failed = RangeSet((failure.chunk, failure.chunk + 1) for failure in status.failures)
    return (
        f"mend the cause, then `longtake resume {status.id}`; or go on without: "
        f"`longtake skip {status.id} --chunk {format_chunks(failed.ranges) or 'N'} --allow-gaps`"
    )


def describe_film(result: RenderJobResult) -> str:
    """Return the films of a job, or its number of frames where there is no film, and the missing chunks."""
    gaps = format_ranges(result.missing_chunks, count=result.missing_count)
    missing = f", without chunks {gaps}" if result.missing_chunks else ""
    missing += f"; {strip_controls(result.note)}" if result.note else ""
    if result.output is None:
        return f"{format_count(result.frames, 'frame')} in chunks, no film{missing}"
    return ", ".join(map(_describe_one, result.films or (result,))) + missing


def _describe_one(film: FilmResult | RenderJobResult) -> str:
    facts = [format_count(film.frames, "frame")]
    if film.duration_seconds is not None:
        facts.append(f"{film.duration_seconds:g} s")
    if film.sha256:
        facts.append(f"sha256 {film.sha256[:12]}")
    return f"{film.output} ({', '.join(facts)})"


def elapsed_seconds(status: JobStatus) -> float:
    """Return the seconds from the start of a job to its last change."""
    if status.created_at is None or status.updated_at is None:
        return 0.0
    return max(0.0, (status.updated_at - status.created_at).total_seconds())


def format_usd(usd: float) -> str:
    """Return an amount of US dollars: `12.30 USD`, `0.042 USD`, `under 0.001 USD`."""
    if 0 < usd < 0.001:
        return "under 0.001 USD"
    return f"{usd:,.2f} USD" if usd >= 1 or usd == 0 else f"{usd:.3f} USD"


def format_bill(status: JobStatus) -> str | None:
    """Return the billed time and the cost of a job so far; None where nothing was billed."""
    metrics = status.metrics
    if not (metrics.billed_seconds or metrics.cost_usd):
        return None
    return f"{format_duration(metrics.billed_seconds)} of {PLATFORMS[status.backend]}, {format_usd(metrics.cost_usd)}"


def describe_stops(stops: RemoteStops, *, now: datetime | None = None) -> str | None:
    """Return how many chunks on services have confirmed their stop, and when the others end; None without stops.

    Args:
        stops: The stops of a job.
        now: Time that deadlines are compared with; the current time when None.
    """
    parts = []
    if stops.confirmed:
        where = f" on {strip_controls(stops.where)}" if stops.where else ""
        parts.append(
            f"{format_count(stops.confirmed, 'chunk')} stopped{where}, confirmed after {stops.slowest_seconds:.1f} s"
        )
    if stops.unconfirmed_count:
        waited = max((stop.seconds for stop in stops.unconfirmed), default=0.0)
        within = f" within {waited:.0f} s" if waited else ""
        ends = _describe_deadline(stops.unconfirmed, stops.unconfirmed_count == 1, now or datetime.now(UTC))
        parts.append(f"{format_count(stops.unconfirmed_count, 'chunk')} asked to stop, not confirmed{within}; {ends}")
    return "; ".join(parts) or None


def _describe_deadline(stops: tuple[RemoteStop, ...], one: bool, now: datetime) -> str:
    latest = max((stop.ends_at for stop in stops if stop.ends_at is not None), default=None)
    they, themselves, their = ("it", "itself", "its") if one else ("they", "themselves", "their")
    if latest is None:
        return f"{they} {'ends' if one else 'end'} by {themselves} at {their} deadline"
    day = "%H:%M:%S" if latest.astimezone(UTC).date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M:%S"
    moment = f"{latest.astimezone(UTC):{day}} UTC"
    if latest <= now:
        return f"{they} ended by {themselves} by {their} deadline of {moment} at the latest"
    return f"{they} {'ends' if one else 'end'} by {themselves} at {their} deadline of {moment} at the latest"


def describe_end(status: JobStatus) -> str:
    """Return how a job ended, with the command that goes on where it failed or was cancelled."""
    duration = format_duration(elapsed_seconds(status))
    if status.state is JobState.COMPLETED:
        film = describe_film(status.result) if status.result else "nothing to show"
        bill = format_bill(status)
        return f"{status.id} completed in {duration}: {film}" + (f"; billed {bill}" if bill else "")
    again = f"`longtake retry {status.id}` renders only what is missing"
    stops = describe_stops(status.remote_stops)
    if status.state is JobState.CANCELLED:
        return f"{status.id} was cancelled after {duration}" + (f": {stops}" if stops else "") + f"; {again}"
    if status.needs_change:
        again = (
            f"`longtake submit` it again, changed and under another id: a retry of {status.id} would fail the same way"
        )
    reason = status.error or "no reason given"
    return f"{status.id} failed after {duration}: {reason}" + (f"; {stops}" if stops else "") + f"; {again}"

"""Format numbers, times, states and costs as people read them."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from longtake.errors import BadJobError
from longtake.models.backends import BackendKind, RemoteBackend
from longtake.models.job_fields import MOST_CHUNKS
from longtake.models.status import JobPhase, JobState, JobStatus, PauseMode, RemoteStop, RemoteStops, RenderJobResult
from longtake.ranges import Range, RangeSet, format_ranges
from longtake.text import strip_controls

_CHUNK_RANGE = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?", re.ASCII)


def parse_chunks(words: Iterable[str]) -> tuple[Range, ...]:
    """Return the chunks that words such as `3`, `3-7` and `3, 7-9` name, both ends of a range included.

    Raises:
        BadJobError: A word is no chunk.
    """
    named = RangeSet()
    for word in words:
        for part in word.split(","):
            found = _CHUNK_RANGE.fullmatch(part.strip())
            first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
            if not found or last >= MOST_CHUNKS:
                raise BadJobError(f"--chunk: {word!r} is no chunk; write its number, as in --chunk 3 or --chunk 3-7")
            if last < first:
                raise BadJobError(f"--chunk: {word!r} ends before it begins; write --chunk {last}-{first}")
            named.add(first, last + 1)
    return named.ranges


def format_chunks(chunks: Iterable[Range], most: int = 5) -> str:
    """Return the first of these chunks as `--chunk` takes them."""
    parts = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in chunks]
    return ",".join(parts[:most])


STATE_STYLES = {
    JobState.PENDING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.PAUSED: "yellow",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}


def format_duration(seconds: float) -> str:
    """Return a span of time: `0:07`, `12:30`, `3:05:00`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return (f"{hours}:" if hours else "") + f"{minutes}:{rest % 60:02}"


def format_time(when: datetime) -> str:
    """Return a point in time of this host's clock, and how long ago it was."""
    ago = (datetime.now(UTC) - when).total_seconds()
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S} ({format_duration(ago)} ago)"


def format_count(count: int, noun: str) -> str:
    """Return `1 chunk`, `2 chunks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_state(status: JobStatus) -> str:
    """Return state and phase: `running, rendering`, `paused, holding`; other phases of rest are not worth a word."""
    state, phase = f"{status.state}", f"{status.phase}".replace("_", " ")
    if status.state.ended or (status.state is JobState.PAUSED and status.phase is not JobPhase.HOLDING):
        return state
    if status.phase is JobPhase.PAUSING and status.pause_mode not in (None, PauseMode.DRAIN):
        phase += f" ({status.pause_mode})"
    return f"{state}, {phase}"


def format_unusual_counts(status: JobStatus) -> Iterator[str]:
    """Yield the counts of chunks that most jobs have none of, as in `2 frozen`; failed ones apart."""
    for count, word in (
        (status.frozen_chunks, "frozen"),
        (status.left_out_chunks, "left out"),
        (status.skipped_chunks, "kept from before"),
    ):
        if count:
            yield f"{count:,} {word}"


def describe_advice(status: JobStatus) -> str | None:
    """Return what somebody must do for the job to go on; None when it needs nobody."""
    if status.phase is not JobPhase.HOLDING or status.state.ended:
        return None
    failed = RangeSet((failure.chunk, failure.chunk + 1) for failure in status.failures)
    return (
        f"mend the cause, then `longtake resume {status.id}`; or go on without: "
        f"`longtake skip {status.id} --chunk {format_chunks(failed.ranges) or 'N'} --allow-gaps`"
    )


def describe_film(result: RenderJobResult) -> str:
    """Return what a job made: its film, or how many frames it has in chunks, and what it lacks."""
    facts = [format_count(result.frames, "frame")]
    lacks = f", without chunks {format_ranges(result.missing_chunks)}" if result.missing_chunks else ""
    if result.output is None:
        return f"{facts[0]} in chunks, no film{lacks}"
    if result.duration_seconds is not None:
        facts.append(f"{result.duration_seconds:g} s")
    if result.sha256:
        facts.append(f"sha256 {result.sha256[:12]}")
    return f"{result.output} ({', '.join(facts)}){lacks}"


def elapsed_seconds(status: JobStatus) -> float:
    """Return the seconds from the start of a job to its last change."""
    if status.created_at is None or status.updated_at is None:
        return 0.0
    return max(0.0, (status.updated_at - status.created_at).total_seconds())


PLATFORMS = {BackendKind.LOCAL: "hosts of your own", BackendKind.LAMBDA: "Lambda", BackendKind.CLOUD_RUN: "Cloud Run"}


def describe_backend(backend: RemoteBackend) -> str:
    """Return where a job is rendered: `Lambda, function render in eu-central-1`."""
    platform = PLATFORMS[BackendKind(backend.type)]
    if backend.type == "lambda":
        found = f"function {backend.function}" if backend.function else "the first function that its workers may call"
        found += f" in {backend.region}" if backend.region else ""
    else:
        found = backend.url or "the first service that its workers may call"
    return f"{platform}, {strip_controls(found)}"


def format_usd(usd: float) -> str:
    """Return an amount as people read it: `12.30 USD`, `0.042 USD`, `under 0.001 USD`."""
    if 0 < usd < 0.001:
        return "under 0.001 USD"
    return f"{usd:,.2f} USD" if usd >= 1 or usd == 0 else f"{usd:.3f} USD"


def format_bill(status: JobStatus) -> str | None:
    """Return what a job is billed for so far; None where nothing sends bills."""
    metrics = status.metrics
    if not (metrics.billed_seconds or metrics.cost_usd):
        return None
    return f"{format_duration(metrics.billed_seconds)} of {PLATFORMS[status.backend]}, {format_usd(metrics.cost_usd)}"


def describe_stops(stops: RemoteStops, *, now: datetime | None = None) -> str | None:
    """Return what became of the chunks that were told to stop elsewhere; None where none was."""
    parts = []
    if stops.confirmed:
        where = f" on {strip_controls(stops.where)}" if stops.where else ""
        parts.append(
            f"{format_count(stops.confirmed, 'chunk')} stopped{where}, confirmed after {stops.slowest_seconds:.1f} s"
        )
    if stops.unconfirmed_count:
        waited = max((stop.seconds for stop in stops.unconfirmed), default=0.0)
        within = f" within {waited:.0f} s" if waited else ""
        ends = _describe_unconfirmed(stops.unconfirmed, stops.unconfirmed_count == 1, now or datetime.now(UTC))
        parts.append(f"{format_count(stops.unconfirmed_count, 'chunk')} asked to stop, not confirmed{within}; {ends}")
    return "; ".join(parts) or None


def _describe_unconfirmed(stops: tuple[RemoteStop, ...], one: bool, now: datetime) -> str:
    latest = max((stop.ends_at for stop in stops if stop.ends_at is not None), default=None)
    who, itself, its = ("it", "itself", "its") if one else ("they", "themselves", "their")
    if latest is None:
        return f"{who} {'ends' if one else 'end'} by {itself} at {its} deadline"
    day = "%H:%M:%S" if latest.astimezone(UTC).date() == now.astimezone(UTC).date() else "%Y-%m-%d %H:%M:%S"
    moment = f"{latest.astimezone(UTC):{day}} UTC"
    if latest <= now:
        return f"{who} ended by {itself} by {its} deadline of {moment} at the latest"
    return f"{who} {'ends' if one else 'end'} by {itself} at {its} deadline of {moment} at the latest"


def describe_end(status: JobStatus) -> str:
    """Return how a job ended, with what to do about it."""
    took_time = format_duration(elapsed_seconds(status))
    if status.state is JobState.COMPLETED:
        made = describe_film(status.result) if status.result else "nothing to show"
        bill = format_bill(status)
        return f"{status.id} completed in {took_time}: {made}" + (f"; billed {bill}" if bill else "")
    again = f"`longtake retry {status.id}` renders only what is missing"
    told = describe_stops(status.remote_stops)
    if status.state is JobState.CANCELLED:
        return f"{status.id} was cancelled after {took_time}" + (f": {told}" if told else "") + f"; {again}"
    reason = status.error or "no reason given"
    return f"{status.id} failed after {took_time}: {reason}" + (f"; {told}" if told else "") + f"; {again}"

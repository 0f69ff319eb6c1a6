"""Numbers and times as people read them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from longtake.cli.chunks import as_words
from longtake.models.status import JobPhase, JobState, JobStatus, RenderJobResult
from longtake.ranges import RangeSet, shown
from longtake.requests import PauseMode

STATE_STYLES = {
    JobState.PENDING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.PAUSED: "yellow",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
}


def duration(seconds: float) -> str:
    """Return a span of time: `0:07`, `12:30`, `3:05:00`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    minutes = f"{rest // 60:02}" if hours else f"{rest // 60}"
    return (f"{hours}:" if hours else "") + f"{minutes}:{rest % 60:02}"


def moment(when: datetime) -> str:
    """Return a point in time of this host's clock, and how long ago it was."""
    ago = (datetime.now(UTC) - when).total_seconds()
    return f"{when.astimezone():%Y-%m-%d %H:%M:%S} ({duration(ago)} ago)"


def plural(count: int, noun: str) -> str:
    """Return `1 chunk`, `2 chunks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: int) -> str:
    """Return a number of bytes in three digits or so: `812 MiB`, `1.2 GiB`."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        # 999.5 would be shown as 1000.
        if amount < 999.5:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if amount >= 9.95 or unit == "B" else f"{amount:.1f} {unit}"


def standing(status: JobStatus) -> str:
    """Return state and phase: `running, rendering`, `paused, holding`; other phases of rest are not worth a word."""
    state, phase = f"{status.state}", f"{status.phase}".replace("_", " ")
    if status.state.ended or (status.state is JobState.PAUSED and status.phase is not JobPhase.HOLDING):
        return state
    if status.phase is JobPhase.PAUSING and status.pause_mode not in (None, PauseMode.DRAIN):
        phase += f" ({status.pause_mode})"
    return f"{state}, {phase}"


def asides(status: JobStatus) -> Iterator[str]:
    """Yield the counts of chunks that most jobs have none of, as in `2 frozen`; failed ones apart."""
    for count, word in (
        (status.frozen_chunks, "frozen"),
        (status.left_out_chunks, "left out"),
        (status.skipped_chunks, "kept from before"),
    ):
        if count:
            yield f"{count:,} {word}"


def advice(status: JobStatus) -> str | None:
    """Return what somebody must do for the job to go on; None when it needs nobody."""
    if status.phase is not JobPhase.HOLDING or status.state.ended:
        return None
    failed = RangeSet((failure.chunk, failure.chunk + 1) for failure in status.failures)
    return (
        f"mend the cause, then `longtake resume {status.id}`; or go on without: "
        f"`longtake skip {status.id} --chunk {as_words(failed.ranges) or 'N'} --allow-gaps`"
    )


def film(result: RenderJobResult) -> str:
    """Return what a job made: its film, or how many frames it has in chunks, and what it lacks."""
    facts = [plural(result.frames, "frame")]
    lacks = f", without chunks {shown(result.missing_chunks)}" if result.missing_chunks else ""
    if result.output is None:
        return f"{facts[0]} in chunks, no film{lacks}"
    if result.duration_seconds is not None:
        facts.append(f"{result.duration_seconds:g} s")
    if result.sha256:
        facts.append(f"sha256 {result.sha256[:12]}")
    return f"{result.output} ({', '.join(facts)}){lacks}"


def took(status: JobStatus) -> float:
    """Return the seconds from the start of a job to its last change."""
    if status.created_at is None or status.updated_at is None:
        return 0.0
    return max(0.0, (status.updated_at - status.created_at).total_seconds())

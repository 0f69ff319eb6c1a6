"""How a job ended, in one line."""

from longtake.cli.formatting import duration, film, took
from longtake.cli.remotely import billed, stopped
from longtake.models.status import JobState, JobStatus


def ending(status: JobStatus) -> str:
    """Return how a job ended, with what to do about it."""
    took_time = duration(took(status))
    if status.state is JobState.COMPLETED:
        made = film(status.result) if status.result else "nothing to show"
        bill = billed(status)
        return f"{status.id} completed in {took_time}: {made}" + (f"; billed {bill}" if bill else "")
    again = f"`longtake retry {status.id}` renders only what is missing"
    told = stopped(status.remote_stops)
    if status.state is JobState.CANCELLED:
        return f"{status.id} was cancelled after {took_time}" + (f": {told}" if told else "") + f"; {again}"
    reason = status.error or "no reason given"
    return f"{status.id} failed after {took_time}: {reason}" + (f"; {told}" if told else "") + f"; {again}"

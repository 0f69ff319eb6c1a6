"""What the last word of a remote agent means for a try."""

from typing import assert_never

from activities.errors import AttemptError, AttemptLostError
from activities.remote.protocol import RemoteOutcome, RemoteResult


def failure_of(result: RemoteResult, where: str) -> AttemptError | AttemptLostError:
    """Return what a try has come to whose chunk is not published."""
    match result.outcome:
        case RemoteOutcome.PUBLISHED:
            return AttemptError(f"{where} says that it has published, and nothing is there; let both use one store")
        case RemoteOutcome.OUT_OF_TIME if not result.fatal:
            # It has kept frames that the next try need not render: a long chunk takes several calls.
            return AttemptLostError(f"{where} was out of time: {result.error}")
        case RemoteOutcome.FAILED | RemoteOutcome.OUT_OF_TIME:
            return AttemptError(
                result.error or f"{where} has failed and does not say why",
                fatal=result.fatal,
                wait_seconds=result.wait_seconds,
                another_host=result.another_host,
            )
        case RemoteOutcome.STOPPED | RemoteOutcome.LOST:
            return AttemptLostError(f"{where} has stopped: {result.error or 'it was told to'}")
    assert_never(result.outcome)

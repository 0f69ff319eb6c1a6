"""Errors of attempts, stores and services, before an activity turns them into Temporal's errors."""

import socket
from pathlib import Path

from longtake.stores.store import StoreError, find_away_error
from longtake.text import shorten_line


class AttemptError(Exception):
    """One try of a chunk or a stitch went wrong.

    Args:
        sentence: The cause, with the lines of the log that matter.
        fatal: Whether another try is pointless.
        wait_seconds: How long to wait before the next one, where a rule of the job says so.
        another_host: Whether the next one should be made on another host.
        suspect: Whether the renderer's own messages make even sound outputs worthless.
        needs_change: Whether only another job file mends it: then another try, on any host, is pointless too.
        exit_code: Exit code of the renderer, or minus the signal that ended it; None where that was not the end.
    """

    def __init__(
        self,
        sentence: str,
        *,
        fatal: bool = False,
        wait_seconds: float | None = None,
        another_host: bool = False,
        suspect: bool = False,
        needs_change: bool = False,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.fatal = fatal or needs_change
        self.exit_code = exit_code
        self.needs_change = needs_change
        self.wait_seconds = wait_seconds
        self.another_host = another_host
        self.suspect = suspect

    def add_sentence(self, sentence: str) -> None:
        """Add to the cause what else is known of the try."""
        self.args = (f"{self}; {sentence}",)


class AttemptLostError(Exception):
    """A try ended through no fault of its renderer, and is not counted as failed: Temporal or the store is away.

    Args:
        sentence: The cause.
        by_render: Whether the render itself may be the cause, as when its keeper was killed for want of memory: then
            it counts as a lost worker.
    """

    def __init__(self, sentence: str, *, by_render: bool = False) -> None:
        super().__init__(sentence)
        self.by_render = by_render


class ThrottledError(Exception):
    """A service that renders has no room now; nothing was begun, and the try does not count.

    Args:
        sentence: The answer of the service.
        wait_seconds: How long the service asks to wait; None where it names no time.
    """

    def __init__(self, sentence: str, *, wait_seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.wait_seconds = wait_seconds


class WatchEndedError(Exception):
    """The watch of a job has ended by an unexpected error, and the work that it watched was stopped for that."""


class StoreNotSharedError(Exception):
    """This worker does not see the job's folder: the store is not shared with it."""


class RefusedError(Exception):
    """The published files are not what the job needs; trying again changes nothing.

    Args:
        sentence: The cause, with the fix.
        needs_change: Whether only another job file mends it; else a retry of the job does.
    """

    def __init__(self, sentence: str, *, needs_change: bool = False) -> None:
        super().__init__(sentence)
        self.needs_change = needs_change


class DeliveryError(Exception):
    """A receiver was not told.

    Args:
        sentence: The cause.
        wait_seconds: How long the receiver asks to wait before the next try; None where it names no time.
        is_final: Whether the receiver wants no more of it.
    """

    def __init__(self, sentence: str, *, wait_seconds: float | None = None, is_final: bool = False) -> None:
        super().__init__(sentence)
        self.wait_seconds = wait_seconds
        self.is_final = is_final


def attempt_failure(error: OSError, place: Path | str = "the store") -> AttemptError | AttemptLostError:
    """Return the error of a try whose disk or store failed: a lost try where somebody may mend that."""
    if (away := find_away_error(error, str(place))) is not None:
        return AttemptLostError(str(away))
    if isinstance(error, StoreError):
        return AttemptError(str(error))
    return AttemptError(f"{error.filename or place}: {error.strerror or error}")


def describe_unexpected(error: BaseException) -> str:
    """Return a sentence about an error that nothing expects: a fault of Longtake, or of the host it runs on."""
    return f"unexpected {type(error).__name__}: {shorten_line(str(error), 300)}; see the log of {socket.gethostname()}"

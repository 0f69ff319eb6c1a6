"""Exit codes, which scripts rely on, and how errors become them."""

from enum import IntEnum

from temporalio.service import RPCError, RPCStatusCode

from longtake.errors import (
    BadJobError,
    JobCancelledError,
    JobExistsError,
    JobNotEndedError,
    LongtakeError,
    NoSuchJobError,
    NotReachableError,
    StoreUnusableError,
)
from longtake.models.status import JobState


class ExitCode(IntEnum):
    """What the command line ends with."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    NO_SUCH_JOB = 4
    NOT_REACHABLE = 5
    INTERRUPTED = 130


_BY_ERROR: dict[type[LongtakeError], ExitCode] = {
    BadJobError: ExitCode.USAGE,
    JobExistsError: ExitCode.USAGE,
    JobCancelledError: ExitCode.CANCELLED,
    NoSuchJobError: ExitCode.NO_SUCH_JOB,
    NotReachableError: ExitCode.NOT_REACHABLE,
    StoreUnusableError: ExitCode.USAGE,
    JobNotEndedError: ExitCode.USAGE,
}

_BY_STATE = {JobState.FAILED: ExitCode.FAILED, JobState.CANCELLED: ExitCode.CANCELLED}

# Answers that no other request of the same user would better: as good as no server.
_REFUSALS = {
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.UNAUTHENTICATED,
    RPCStatusCode.PERMISSION_DENIED,
    RPCStatusCode.NOT_FOUND,
}


def code_of(error: LongtakeError) -> ExitCode:
    """Return the exit code for an error; those without one of their own are failures."""
    return next((code for kind, code in _BY_ERROR.items() if isinstance(error, kind)), ExitCode.FAILED)


def code_of_end(state: JobState) -> ExitCode:
    """Return the exit code for how a job ended."""
    return _BY_STATE.get(state, ExitCode.FINE)


def explained(error: RPCError) -> LongtakeError:
    """Return Temporal's own error as a sentence with a fix."""
    if error.status in _REFUSALS:
        return NotReachableError(f"Temporal does not serve this request ({error.message}); `longtake doctor` says more")
    return LongtakeError(f"Temporal refuses this request ({error.message}); `longtake doctor` may say why")

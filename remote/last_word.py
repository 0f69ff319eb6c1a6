"""What a carried-out order came to."""

from dataclasses import dataclass
from typing import Self

from activities.errors import AttemptError, AttemptLostError
from activities.remote.protocol import RemoteOutcome
from longtake.plaintext import plain

# Of `RemoteResult.error`.
_LONGEST_ERROR = 4000


@dataclass(frozen=True)
class LastWord:
    """An outcome, with what a worker needs to know of a failure."""

    outcome: RemoteOutcome
    error: str = ""
    fatal: bool = False
    wait_seconds: float | None = None
    another_host: bool = False
    frames_done: int = 0

    @classmethod
    def of_failure(cls, error: Exception, frames_done: int = 0) -> Self:
        """Return what a failed or lost try, a job that cannot run here, or an agent's own mistake comes to."""
        said = _cut(str(error))
        match error:
            case AttemptLostError():
                return cls(RemoteOutcome.LOST, said, frames_done=frames_done)
            case AttemptError():
                return cls(RemoteOutcome.FAILED, said, error.fatal, error.wait_seconds, error.another_host, frames_done)
        # The job asks for what no agent of these settings gives.
        return cls(RemoteOutcome.FAILED, said, fatal=True, frames_done=frames_done)


def _cut(text: str) -> str:
    """Return a text without what would rule a terminal, cut in its middle."""
    lines = "\n".join(map(plain, text.split("\n")))
    half = _LONGEST_ERROR // 2 - 5
    return lines if len(lines) <= _LONGEST_ERROR else f"{lines[:half]} ... {lines[-half:]}"

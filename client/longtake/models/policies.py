"""Model the policies of a job: failures and retries, timeouts, progress, resume."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from longtake.models.fields import Contract, Pattern, ProgramExitCode, Seconds
from longtake.text import quote_value


class FailurePolicy(StrEnum):
    """Reactions of a job to a chunk that has used up its attempts."""

    FAIL = "fail"
    CONTINUE = "continue"
    HOLD = "hold"


class Verdict(StrEnum):
    """Decisions of a failure rule on a failed try."""

    RETRY = "retry"
    ANOTHER_HOST = "another_host"
    GIVE_UP = "give_up"
    ACCEPT = "accept"


class FailureRule(Contract):
    """Rule for tries that end in a certain way; the first rule that fits decides."""

    exit_codes: tuple[ProgramExitCode, ...] = Field(
        default=(), max_length=256, description="exit codes it is for, minus the signal; none: any but 0"
    )
    pattern: Pattern | None = Field(default=None, description="regular expression on the end of the log")
    then: Verdict = Field(
        default=Verdict.RETRY,
        description="retry, another_host, give_up, or accept: the exit code is no failure if the outputs are proven",
    )
    wait_seconds: float | None = Field(default=None, ge=0, le=86_400, description="wait before the next try")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if not self.exit_codes and self.pattern is None:
            raise ValueError("fits every failure; give it exit_codes, or a pattern of words that others lack")
        if self.wait_seconds is not None and self.then in (Verdict.GIVE_UP, Verdict.ACCEPT):
            raise ValueError(f"has wait_seconds, and no try follows on {self.then}; leave wait_seconds out")
        return self


class Retry(Contract):
    """Number of tries of a chunk, the waits between them, and failures that are never retried."""

    attempts: int = Field(default=4, ge=1, le=1000, description="tries of one chunk in one pass")
    initial_seconds: float = Field(default=1, ge=0, le=86_400, description="wait before the second try")
    backoff: float = Field(default=2, ge=1, le=100, description="factor on each further wait")
    max_seconds: float = Field(default=60, ge=0, le=86_400, description="longest wait")
    job_attempts: int = Field(default=1, ge=1, le=100, description="passes over the chunks that failed")
    fatal_exit_codes: tuple[int, ...] = Field(default=(), max_length=256, description="exit codes never retried")
    fatal_patterns: tuple[Pattern, ...] = Field(
        default=(), max_length=64, description="regular expressions on the end of the log, never retried"
    )
    rules: tuple[FailureRule, ...] = Field(default=(), max_length=64, description="what to make of certain failures")
    lost_workers: int = Field(
        default=4, ge=1, le=1000, description="workers lost while they render one chunk, before it counts as failed"
    )
    same_host: int = Field(default=2, ge=1, le=16, description="failed tries on one host before another one is asked")

    def delay_seconds(self, failures: int) -> float:
        """Return the wait after a number of failed tries of a chunk, in seconds."""
        if failures < 1 or self.initial_seconds == 0:
            return 0.0
        # The exponent is bounded: 100.0**999 overflows a float.
        return min(self.max_seconds, self.initial_seconds * self.backoff ** min(failures - 1, 64))


class Timeouts(Contract):
    """Time limits of one try of one chunk."""

    chunk_seconds: Seconds = Field(default=3600, description="longest time one command of a try may take")
    stall_seconds: Seconds = Field(default=600, description="longest time without progress, CPU time or output")
    grace_seconds: float = Field(default=10, ge=0, le=3600, description="time between TERM and KILL")
    linger_seconds: Seconds = Field(default=60, description="longest life of a renderer whose outputs are whole")


class ProgressFormat(StrEnum):
    """Programs whose printed progress can be read."""

    AUTO = "auto"
    FFMPEG = "ffmpeg"
    BLENDER = "blender"
    OPENJD = "openjd"
    REMOTION = "remotion"
    HELIOS = "helios"
    NONE = "none"


# Named groups that a pattern of `progress.patterns` may have.
PROGRESS_GROUPS = ("frame", "done", "total", "percent")


_NAMED_GROUP = re.compile(r"\(\?P<(?:frame|done|percent)>")


def _has_groups(pattern: str) -> str:
    if not _NAMED_GROUP.search(pattern):
        raise ValueError(
            f"{quote_value(pattern)} has no named group that tells how far it is; write one as in "
            r"'Frame (?P<frame>\d+)', with frame, done or percent"
        )
    return pattern


class ProgressSpec(Contract):
    """Settings for reading progress and errors from the output of renderers."""

    format: ProgressFormat = Field(default=ProgressFormat.AUTO, description="whose format; auto knows them all")
    patterns: tuple[Annotated[Pattern, AfterValidator(_has_groups)], ...] = Field(
        default=(), max_length=16, description="own regular expressions, with groups frame, done, total or percent"
    )
    fatal_patterns: tuple[Pattern, ...] = Field(
        default=(), max_length=16, description="lines that make a try fail whatever its exit code"
    )


class ResumeUnit(StrEnum):
    """Units of an interrupted chunk that are kept."""

    FRAMES = "frames"
    CHUNK = "chunk"

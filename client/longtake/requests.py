"""What operators and clients ask of a running job."""

from enum import StrEnum

from pydantic import Field, model_validator

from longtake.contract import Contract
from longtake.ranges import Range


class PauseMode(StrEnum):
    """How a pause treats what runs; of two pauses the harder one holds.

    `drain` lets running chunks finish. `freeze` stops processes where they stand, to go on bit for bit; they keep
    their slots. `now` ends them; frames that are verified are kept.
    """

    DRAIN = "drain"
    FREEZE = "freeze"
    NOW = "now"

    def is_harder_than(self, other: "PauseMode") -> bool:
        """Tell whether this mode overrides the other."""
        order = list(PauseMode)
        return order.index(self) > order.index(other)


class PauseRequest(Contract):
    """Argument of the signal `pause`; the signal may also come without one."""

    mode: PauseMode = PauseMode.DRAIN

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        # By hand, `--input '"freeze"'` is what one writes first.
        return {"mode": value} if isinstance(value, str) else value


class SetMaxParallel(Contract):
    """Argument of the update `set_max_parallel`."""

    max_parallel: int = Field(ge=1, le=500)


class RetryFailed(Contract):
    """Argument of the update `retry_failed`."""

    chunks: tuple[Range, ...] = Field(default=(), description="ranges of failed chunks; none means all of them")


class SkipChunks(Contract):
    """Argument of the update `skip_chunks`."""

    chunks: tuple[Range, ...] = Field(min_length=1, description="ranges of chunks that will not be rendered")
    allow_gaps: bool = Field(default=False, description="make the film without them")

"""What operators and clients ask of a running job."""

from enum import StrEnum

from pydantic import Field

from longtake.contract import Contract


class PauseMode(StrEnum):
    """How a pause treats what runs: `drain` lets running chunks finish and starts no other."""

    DRAIN = "drain"


class PauseRequest(Contract):
    """Argument of the signal `pause`; the signal may also come without one."""

    mode: PauseMode = PauseMode.DRAIN


class SetMaxParallel(Contract):
    """Argument of the update `set_max_parallel`."""

    max_parallel: int = Field(ge=1, le=500)

"""Describe one call of the agent: when it came and must end, and the errors that refuse its order."""

import asyncio
from dataclasses import dataclass, field

from activities.remote.protocol import RefusedOrderError


@dataclass(frozen=True)
class Invocation:
    """When a call of the agent came, when it must end, and what ends it sooner; times are of the monotonic clock."""

    arrived: float
    # When the platform ends whatever still runs.
    deadline: float
    # Set when the caller closes the connection; never set on platforms that do not show it.
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when the platform is about to end this instance.
    shutting_down: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seconds(self) -> float:
        """Seconds from the arrival of the call to its deadline."""
        return self.deadline - self.arrived

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the arrival of the call."""
        return asyncio.get_running_loop().time() - self.arrived

    @property
    def left_seconds(self) -> float:
        """Seconds that are left until the deadline."""
        return self.deadline - asyncio.get_running_loop().time()


class BegunBeforeError(RefusedOrderError):
    """An order that an agent has begun before: replayed, or delivered twice."""


class ForbiddenOrderError(RefusedOrderError):
    """A signed order for a job that this agent must not touch, or does not see."""

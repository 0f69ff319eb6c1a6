"""One call of the agent, as the platform shows it."""

import asyncio
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """When a call came, when it must be over, and what else ends it; times are those of the monotonic clock."""

    arrived: float
    # When the platform ends whatever is left.
    deadline: float
    # The caller has hung up; never set where the platform does not show it.
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)
    # The platform is about to take this instance down.
    going_down: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seconds(self) -> float:
        """How long it may take in all."""
        return self.deadline - self.arrived

    @property
    def elapsed_seconds(self) -> float:
        """How long ago it came."""
        return asyncio.get_running_loop().time() - self.arrived

    @property
    def left_seconds(self) -> float:
        """How long it may still take."""
        return self.deadline - asyncio.get_running_loop().time()

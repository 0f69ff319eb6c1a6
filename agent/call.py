"""Describe one call of the agent: its deadline, its refusals, and threads of its own for the store."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self, TypeVar

from activities.remote.protocol import RefusedOrderError

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

# One for what is reported and one for what is looked for: neither waits for the other.
_THREADS = 2


class Aside:
    """Threads of one call, which no upload of a film can occupy."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="aside")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def do(self, work: Callable[[], Result]) -> Result:
        """Return what blocking work returns; a cancel does not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def try_within(self, seconds: float, work: Callable[[], object]) -> bool:
        """Do blocking work in so much time; return whether that went well. A failure is logged and is no more."""
        try:
            async with asyncio.timeout(seconds):
                await self.do(work)
        except TimeoutError:
            _log.warning("the store does not answer within %.1f s", seconds)
            return False
        except OSError as error:
            _log.warning("the store does not take what it is told: %s", error)
            return False
        return True


@dataclass(frozen=True)
class Invocation:
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


class BegunBeforeError(RefusedOrderError):
    """An order that was begun already, here or on another instance: it was replayed, or delivered twice."""


class ForbiddenOrderError(RefusedOrderError):
    """A good order for a job that this agent must not touch, or does not see."""

"""What a worker offers to every attempt that a service makes for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from pydantic import SecretStr

from activities.remote.protocol import RemoteResult
from longtake.concurrency import to_the_end
from longtake.models.backends import RemoteBackend

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a worker waits for what an agent writes to the store."""

    # Agents say about once a second that they live.
    look_seconds: float = 1.0
    # From the call: a cold start fetches an image of some hundred megabytes.
    begin_seconds: float = 60.0
    # Without a beat of an agent that had begun; the slowest stores answer within a few seconds.
    silent_seconds: float = 15.0
    # The same, once its platform has said that it crashed: it may still have said so of the connection only.
    crashed_seconds: float = 3.0
    # From the order to stop; agents look once a second, and then end what they run.
    stop_seconds: float = 10.0


@dataclass(frozen=True)
class RemoteHost:
    """What all remote attempts of a worker share."""

    # What orders are signed with; empty where the platform alone decides who may call.
    secret: SecretStr
    # Where the store is asked: a hundred attempts look once a second, and no film that is copied must keep them.
    threads: Executor
    # What a service asks for one attempt, in USD.
    price: Callable[[RemoteBackend, RemoteResult], float]
    # Whether the cancel that has just come ends this worker's part only, and another attempt will want the work.
    is_left_running: Callable[[], Awaitable[bool]]
    patience: Patience = field(default_factory=Patience)

    async def read(self, look: Callable[[], Result]) -> Result:
        """Return what a blocking look at the store returns; a cancel does not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, look)

    async def write(self, work: Callable[[], Result]) -> Result:
        """Return what blocking work in the store returns; a cancel is raised when it has ended."""
        return await to_the_end(self.read(work))

    async def write_within(self, seconds: float, work: Callable[[], object]) -> None:
        """Begin blocking work in the store and wait this long for it at most; it goes on, and errors are its own."""
        task = asyncio.get_running_loop().run_in_executor(self.threads, partial(_quietly, work))
        await asyncio.wait([task], timeout=seconds)


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except OSError as error:
        _log.warning("a remote attempt cannot be told through the store: %s", error)

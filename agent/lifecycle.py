"""What ends a render before its own end: orders, deadlines, and callers that are gone."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial

from activities.backends.tasks import end_of
from activities.remote.call_records import RemoteCalls
from agent.call import Aside
from longtake.concurrency import to_the_end
from remote.call import Call

_log = logging.getLogger(__name__)

# With the grace of those who ignore SIGTERM and the kill, what is told to stop is gone within two seconds.
_LOOK_SECONDS = 0.5

# Who hangs up to stop a render says so in the store at the same moment.
_HURRIED_LOOK_SECONDS = 0.1
_HURRIED_SECONDS = 2.0


# Asked of an attempt.
_Question = Callable[[str], bool]


class Stop(Enum):
    """Why a render is stopped."""

    ORDERED = "it was told to stop"
    OUT_OF_TIME = "its time is up"
    ORPHANED = "its caller hung up, and nobody came to wait for it"
    GOING_DOWN = "the platform takes this instance down"


class Stopping:
    """Waits for the first reason to stop one render.

    A store that is away for a while stops nothing: orders to stop are heard when it is back, or at the deadline.

    Args:
        aside: Where the store is asked.
        calls: What lies there about the chunk.
        attempt: The attempt.
        call: How it was called.
        ends_at: When rendering must end, by the loop's clock.
        orphan_seconds: How long it goes on when its caller has hung up and nobody joins.
    """

    def __init__(
        self, aside: Aside, calls: RemoteCalls, attempt: str, call: Call, *, ends_at: float, orphan_seconds: float
    ) -> None:
        self._aside = aside
        self._calls = calls
        self._attempt = attempt
        self._call = call
        self._ends_at = ends_at
        self._orphan_seconds = orphan_seconds

    async def before(self, work: "asyncio.Task[object]") -> Stop | None:
        """Return the first reason to stop; None when the work ends before there is one."""
        reasons = {
            asyncio.create_task(wait): stop
            for wait, stop in (
                (self._ordered(), Stop.ORDERED),
                (self._out_of_time(), Stop.OUT_OF_TIME),
                (self._orphaned(), Stop.ORPHANED),
                (self._going_down(), Stop.GOING_DOWN),
            )
        }
        try:
            await asyncio.wait({work, *reasons}, return_when=asyncio.FIRST_COMPLETED)
            return None if work.done() else next((stop for wait, stop in reasons.items() if wait.done()), None)
        finally:
            for wait in reasons:
                wait.cancel()
            await to_the_end(end_of(*reasons))

    async def _ordered(self) -> None:
        hurried_until: float | None = None
        while not await self._look(self._calls.is_stopped):
            if not self._call.disconnected.is_set():
                await _until(self._call.disconnected, _LOOK_SECONDS)
                continue
            hurried_until = hurried_until or _now() + _HURRIED_SECONDS
            await asyncio.sleep(_HURRIED_LOOK_SECONDS if _now() < hurried_until else _LOOK_SECONDS)

    async def _out_of_time(self) -> None:
        await asyncio.sleep(self._ends_at - _now())

    async def _orphaned(self) -> None:
        await self._call.disconnected.wait()
        _log.info("%s: its caller hung up", self._attempt)
        await asyncio.sleep(self._orphan_seconds)
        while True:
            joined = await self._look(self._calls.is_joined, unknown=None)
            if joined is False:
                return
            if joined:
                _log.info("%s: somebody else waits for it, and it goes on to its end", self._attempt)
                await asyncio.Event().wait()
            # A store that is away cannot say that nobody waits.
            await asyncio.sleep(_LOOK_SECONDS)

    async def _going_down(self) -> None:
        await self._call.going_down.wait()

    async def _look(self, question: _Question, unknown: bool | None = False) -> bool | None:
        try:
            return await self._aside.do(partial(question, self._attempt))
        except OSError as error:
            _log.warning("%s: the store does not say whether it may go on: %s", self._attempt, error)
            return unknown


async def _until(event: asyncio.Event, seconds: float) -> None:
    """Return when the event has happened, or so much later."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()

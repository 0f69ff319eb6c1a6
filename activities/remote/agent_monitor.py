"""Follow a remote agent by its records in the store, and stop the agent through them.

The connection to an agent may break while the agent works on: its records tell whether it lives.
"""

import asyncio
import logging
import math
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from activities.backends.backend import Progress, RenderWatcher
from activities.processes.render_process import Usage
from activities.remote.call_records import AgentTimeouts, CallRecords, RemoteHost
from activities.remote.protocol import RemoteCall, RemoteProgress, RemoteResult
from longtake.concurrency import read_in_thread, run_with_timeout
from longtake.models.status import RemoteStop

_log = logging.getLogger(__name__)

# How soon an order to freeze ends a wait; the store is read less often.
_TICK_SECONDS = 0.25

# Between two reads for the result of an agent that was ordered to stop: a caller waits, and for seconds only.
_STOP_LOOK_SECONDS = 0.1


class AgentMonitor:
    """Follows one agent, and gives its progress to a watcher.

    Hosts' clocks need not agree: an agent lives while its `beat` changes, by the clock of this host.

    Args:
        host: Timeouts of this worker.
        calls: The records of the chunk.
        call: The call that the agent was begun by.
        watcher: Gets the progress, and may order a freeze.
    """

    def __init__(self, host: RemoteHost, calls: CallRecords, call: RemoteCall, watcher: RenderWatcher) -> None:
        self._host = host
        self._calls = calls
        self._attempt = call.attempt
        self._watcher = watcher
        self._beat: int | None = None
        self._called_at = _now() - max(0.0, (datetime.now(UTC) - call.called_at).total_seconds())
        # When the agent was seen alive last; None before it has begun.
        self._seen_at: float | None = None
        # Since when nothing has been heard although the store could be read: while it is away, silence proves nothing.
        self._silent_since = self._called_at

    @property
    def has_begun(self) -> bool:
        """Whether the agent was seen alive."""
        return self._seen_at is not None

    @property
    def must_freeze(self) -> bool:
        """Whether a freeze is ordered."""
        return self._watcher.freeze_order != 0

    @property
    def seconds_since_call(self) -> float:
        """Seconds since the agent was called."""
        return _now() - self._called_at

    @property
    def alive_seconds(self) -> float:
        """Seconds from the call to the last sign of life that this worker has seen; 0 before the first."""
        return 0.0 if self._seen_at is None else max(0.0, self._seen_at - self._called_at)

    async def wait_for_result(
        self,
        connection: asyncio.Future[Any] | None = None,
        *,
        timeouts: AgentTimeouts | None = None,
        ends_at_freeze: bool = True,
    ) -> RemoteResult | None:
        """Wait for the agent's result; None when a freeze is ordered, the connection ends, or the agent is lost.

        Args:
            connection: The call while its connection is open: then a silent agent does not count as lost.
            timeouts: When the agent counts as lost; the host's by default.
            ends_at_freeze: Whether an order to freeze ends the wait.
        """
        timeouts = timeouts or self._host.timeouts
        # An agent that has just been called has written nothing yet.
        looked_at = _now() if connection else -math.inf
        while not (ends_at_freeze and self._watcher.freeze_order):
            if _now() - looked_at >= timeouts.look_seconds:
                if (result := await self._look()) is not None:
                    return result
                looked_at = _now()
                if connection is None and self._is_lost(timeouts):
                    return None
            if connection is None:
                await asyncio.sleep(min(_TICK_SECONDS, timeouts.look_seconds))
            elif (await asyncio.wait([connection], timeout=min(_TICK_SECONDS, timeouts.look_seconds)))[0]:
                return None
        return None

    def _is_lost(self, timeouts: AgentTimeouts) -> bool:
        limit = timeouts.silent_seconds if self.has_begun else timeouts.begin_seconds
        return _now() - self._silent_since > limit

    async def _look(self) -> RemoteResult | None:
        try:
            has_begun, progress, result = await read_in_thread(self._read)
        except OSError as error:
            _log.warning("cannot look after remote attempt %s: %s", self._attempt, error)
            self._silent_since = _now()
            return None
        if progress is not None and progress.beat != self._beat:
            self._beat = progress.beat
            self._seen_at = self._silent_since = _now()
            self._report(progress)
        elif has_begun and self._seen_at is None:
            self._seen_at = self._silent_since = _now()
        return result

    def _read(self) -> tuple[bool, RemoteProgress | None, RemoteResult | None]:
        progress = self._calls.progress(self._attempt)
        if progress is not None and progress.beat != self._beat:
            # The agent is at work, so that there is no result yet: one request a look is enough.
            return True, progress, None
        has_begun = progress is not None or self.has_begun or self._calls.has_begun(self._attempt)
        return has_begun, progress, self._calls.result(self._attempt)

    def _report(self, progress: RemoteProgress) -> None:
        used = Usage(
            cpu_seconds=progress.cpu_seconds,
            io_bytes=progress.io_bytes,
            memory_bytes=progress.memory_bytes,
            peak_memory_bytes=progress.memory_bytes,
        )
        self._watcher.on_progress(Progress(progress.frames_done, progress.message, used))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def stop_agent(
    calls: CallRecords, call: RemoteCall, *, chunk: int, reason: str, most_seconds: float
) -> RemoteStop:
    """Order an agent to stop, and return whether its result has confirmed that; a store that is away confirms nothing.

    Args:
        calls: The records of the chunk.
        call: The call of the agent.
        chunk: Index of the chunk.
        reason: Written into the order, for people.
        most_seconds: How long to wait for the result.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await run_with_timeout(most_seconds, partial(calls.order_stop, call.attempt, reason))
    confirmed = False
    with suppress(TimeoutError):
        async with asyncio.timeout_at(began + most_seconds):
            await _wait_until_ended(calls, call.attempt)
            confirmed = True
    return RemoteStop(
        chunk=chunk,
        where=call.where,
        confirmed=confirmed,
        seconds=round(loop.time() - began, 3),
        ends_at=None if confirmed else call.ends_at,
    )


async def _wait_until_ended(calls: CallRecords, attempt: str) -> None:
    """Return when the result of an agent says that no process of it runs any more."""
    while True:
        with suppress(OSError):
            result = await read_in_thread(partial(calls.result, attempt))
            if result is not None and result.survivors == 0:
                return
        await asyncio.sleep(_STOP_LOOK_SECONDS)

"""Follow a remote agent by its records in the store, and stop it through them.

The connection to an agent may break while the agent works on: the store is what tells whether it lives.
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
from longtake.models.status import RemoteStop

_log = logging.getLogger(__name__)

# How soon a freeze is heard of; the store is asked less often.
_TICK_SECONDS = 0.25


class AgentMonitor:
    """Follows one agent, and passes on to the watcher how far it is.

    Hosts' clocks need not agree: an agent lives while its beat changes, by the clock of this host.

    Args:
        host: What this worker offers.
        calls: What lies in the store.
        call: The call that the agent answers to.
        watcher: Who hears how far it is, and may order a freeze.
    """

    def __init__(self, host: RemoteHost, calls: CallRecords, call: RemoteCall, watcher: RenderWatcher) -> None:
        self._host = host
        self._calls = calls
        self._attempt = call.attempt
        self._watcher = watcher
        self._beat: int | None = None
        self._called_at = _now() - max(0.0, (datetime.now(UTC) - call.called_at).total_seconds())
        # When it was seen alive last; None while it has not begun.
        self._seen_at: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the agent was seen at work."""
        return self._seen_at is not None

    @property
    def must_freeze(self) -> bool:
        """Whether a freeze is ordered."""
        return self._watcher.freeze_order != 0

    @property
    def called_seconds(self) -> float:
        """How long ago it was called."""
        return _now() - self._called_at

    @property
    def lived_seconds(self) -> float:
        """How long it worked, as far as this worker has seen."""
        return 0.0 if self._seen_at is None else max(0.0, self._seen_at - self._called_at)

    async def last_word(
        self,
        call: asyncio.Future[Any] | None = None,
        *,
        patience: AgentTimeouts | None = None,
        heeds_freeze: bool = True,
    ) -> RemoteResult | None:
        """Return the agent's last word; None when a freeze is ordered, the call is over, or the agent is gone.

        Args:
            call: The call, while it is open: what is connected is not judged by its silence.
            patience: When it counts as gone; the host's by default.
            heeds_freeze: Whether the order of a freeze ends the wait.
        """
        patience = patience or self._host.patience
        # What has just been called has nothing to say yet.
        looked_at = _now() if call else -math.inf
        while not (heeds_freeze and self._watcher.freeze_order):
            if _now() - looked_at >= patience.look_seconds:
                if (result := await self._look()) is not None:
                    return result
                looked_at = _now()
                if call is None and self._is_gone(patience):
                    return None
            if call is None:
                await asyncio.sleep(min(_TICK_SECONDS, patience.look_seconds))
            elif (await asyncio.wait([call], timeout=min(_TICK_SECONDS, patience.look_seconds)))[0]:
                return None
        return None

    def _is_gone(self, patience: AgentTimeouts) -> bool:
        if self._seen_at is None:
            return _now() - self._called_at > patience.begin_seconds
        return _now() - self._seen_at > patience.silent_seconds

    async def _look(self) -> RemoteResult | None:
        try:
            has_begun, progress, result = await self._host.read(self._read)
        except OSError as error:
            # Nobody is judged by the silence of a store that is away.
            _log.warning("cannot look after remote attempt %s: %s", self._attempt, error)
            if self._seen_at is not None:
                self._seen_at = _now()
            return None
        if progress is not None and progress.beat != self._beat:
            self._beat = progress.beat
            self._seen_at = _now()
            self._pass_on(progress)
        elif has_begun and self._seen_at is None:
            self._seen_at = _now()
        return result

    def _read(self) -> tuple[bool, RemoteProgress | None, RemoteResult | None]:
        progress = self._calls.progress(self._attempt)
        if progress is not None and progress.beat != self._beat:
            # It works, so that there is no last word yet: one request a look is enough.
            return True, progress, None
        has_begun = progress is not None or self.has_begun or self._calls.has_begun(self._attempt)
        return has_begun, progress, self._calls.result(self._attempt)

    def _pass_on(self, progress: RemoteProgress) -> None:
        used = Usage(
            cpu_seconds=progress.cpu_seconds,
            io_bytes=progress.io_bytes,
            memory_bytes=progress.memory_bytes,
            peak_memory_bytes=progress.memory_bytes,
        )
        self._watcher.on_progress(Progress(progress.frames_done, progress.message, used))


def _now() -> float:
    return asyncio.get_running_loop().time()


# Somebody waits for the word of a stop, and it is for seconds only.
_LOOK_SECONDS = 0.1


async def stop_agent(
    host: RemoteHost, calls: CallRecords, call: RemoteCall, *, chunk: int, reason: str, most_seconds: float
) -> RemoteStop:
    """Order an attempt to stop and return what became of that; a store that is away confirms nothing.

    Args:
        host: What this worker offers.
        calls: What lies in the store about the chunk.
        call: The call of the attempt.
        chunk: The chunk.
        reason: Why, for whoever reads the agent's log.
        most_seconds: How long to wait for its last word.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    await host.write_within(most_seconds, partial(calls.order_stop, call.attempt, reason))
    confirmed = False
    with suppress(TimeoutError):
        async with asyncio.timeout_at(began + most_seconds):
            await _until_over(host, calls, call.attempt)
            confirmed = True
    return RemoteStop(
        chunk=chunk,
        where=call.where,
        confirmed=confirmed,
        seconds=round(loop.time() - began, 3),
        ends_at=None if confirmed else call.ends_at,
    )


async def _until_over(host: RemoteHost, calls: CallRecords, attempt: str) -> None:
    """Return when an agent has said that nothing of it runs any more."""
    while True:
        with suppress(OSError):
            result = await host.read(partial(calls.result, attempt))
            if result is not None and result.survivors == 0:
                return
        await asyncio.sleep(_LOOK_SECONDS)

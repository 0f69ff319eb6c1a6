"""Stopping a remote attempt: telling its agent through the store, and waiting for its last word."""

import asyncio
from contextlib import suppress
from functools import partial

from activities.attempts.remote_host import RemoteHost
from activities.remote.call_records import RemoteCalls
from activities.remote.protocol import RemoteCall
from longtake.models.status import RemoteStop

# Somebody waits for the word of a stop, and it is for seconds only.
_LOOK_SECONDS = 0.1


async def stop_remote(
    host: RemoteHost, calls: RemoteCalls, call: RemoteCall, *, chunk: int, reason: str, most_seconds: float
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


async def _until_over(host: RemoteHost, calls: RemoteCalls, attempt: str) -> None:
    """Return when an agent has said that nothing of it runs any more."""
    while True:
        with suppress(OSError):
            result = await host.read(partial(calls.result, attempt))
            if result is not None and result.survivors == 0:
                return
        await asyncio.sleep(_LOOK_SECONDS)

"""What a worker reads and writes in the store about calls of services, beside the event loop."""

from datetime import UTC, datetime, timedelta
from functools import partial

from activities.attempts.remote_host import RemoteHost
from activities.remote.call_records import RemoteCalls
from activities.remote.protocol import RemoteCall, RemoteOutcome, RemoteResult
from activities.stores.job_folder import JobFolder
from activities.stores.publish import finish_claim
from activities.stores.records import Sidecar

# Agents keep what they are told and say in records of a few kilobytes.
_LONGEST_REASON = 400


class RemoteRecords:
    """The records of one chunk; methods raise `OSError` while the store is away.

    Args:
        host: What this worker offers.
        folder: The job's.
        key: Name of the chunk in the bookkeeping.
    """

    def __init__(self, host: RemoteHost, folder: JobFolder, key: str) -> None:
        self._host = host
        self._folder = folder
        self._key = key
        self.calls = RemoteCalls(folder, key)

    async def published(self) -> Sidecar | None:
        """Return the sidecar if the chunk is finished, by whomever; finishes what a dead winner began to publish."""
        return await self._host.write(partial(finish_claim, self._folder, self._key))

    async def results(self) -> list[RemoteResult]:
        """Return the last words of all attempts at the chunk."""
        return await self._host.read(self.calls.results)

    async def left_behind(self) -> list[RemoteCall]:
        """Return the calls whose agents may still work, the oldest first."""
        return await self._host.read(self._left_behind)

    async def announce(self, attempt: str, where: str, seconds: float) -> RemoteCall:
        """Write down who is about to be called, and return that; a cancel takes it back."""
        now = datetime.now(UTC)
        call = RemoteCall(attempt=attempt, where=where, called_at=now, ends_at=now + timedelta(seconds=seconds))
        try:
            await self._host.write(partial(self.calls.write_call, call))
        except BaseException:
            await self.forget(call)
            raise
        return call

    async def join(self, call: RemoteCall) -> None:
        """Say that somebody waits for this agent, so that it does not end with the connection it was called by."""
        await self._host.write_within(self._host.patience.stop_seconds, partial(self.calls.join, call.attempt))

    async def forget(self, call: RemoteCall) -> None:
        """Take back that anyone was called: nothing was begun, so that nobody must wait for it."""
        await self._host.write_within(self._host.patience.stop_seconds, partial(self.calls.forget, call.attempt))

    async def bury(self, call: RemoteCall, billed_seconds: float, why: str) -> None:
        """Write an agent off: nobody waits for it again, what it cost is known, and it stops if it still lives."""
        await self._host.write(partial(self.calls.order_stop, call.attempt, why[:_LONGEST_REASON]))
        if billed_seconds:
            lost = RemoteResult(
                attempt=call.attempt,
                outcome=RemoteOutcome.LOST,
                error=why[:_LONGEST_REASON],
                billed_seconds=round(billed_seconds, 3),
            )
            await self._host.write(partial(self.calls.finish, lost))

    def _left_behind(self) -> list[RemoteCall]:
        found = []
        for attempt in self.calls.attempts():
            call = self.calls.call(attempt)
            if call is None or call.ends_at <= datetime.now(UTC) or self.calls.result(attempt) is not None:
                continue
            # What was told to stop ends within a second or two, or before it begins.
            if not self.calls.is_stopped(attempt):
                found.append(call)
        return sorted(found, key=lambda call: call.called_at)

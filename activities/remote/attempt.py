"""Try one chunk by a service: call its agent, follow it through the store, join it after a loss, or stop it.

`RemoteAttempt` is to a service what `ChunkAttempt` is to this host's own processes.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, assert_never

from activities.attempts.attempt import Bill
from activities.attempts.store_io import attempt_failure
from activities.backends.backend import RenderWatcher
from activities.backends.render_monitor import LOOK_SECONDS, wait_while_frozen
from activities.errors import AttemptError, AttemptLostError, ThrottledError
from activities.remote.agent_monitor import AgentMonitor, stop_agent
from activities.remote.call_records import ChunkCallRecords, RemoteHost
from activities.remote.protocol import RemoteCall, RemoteOrder, RemoteOutcome, RemoteResult, sign
from activities.remote.service import CallLostError, Service, ServiceAnswer
from activities.stores.job_folder import OpenJob, Sidecar
from longtake.chunks import Chunk
from longtake.concurrency import cancel_and_wait, shield_until_done
from longtake.models.backends import RemoteBackend
from longtake.models.messages import JobRef
from longtake.models.status import RemoteStop
from longtake.stores.job_records import chunk_key


class ServiceCall:
    """One call of a service.

    Args:
        host: What this worker offers.
        service: The service.
        records: What is written down about the chunk.
        call: This call, which has been announced.
    """

    def __init__(self, host: RemoteHost, service: Service, records: ChunkCallRecords, call: RemoteCall) -> None:
        self._host = host
        self._service = service
        self._records = records
        self.call = call
        # Whether an agent may be at work by this call, as far as anyone knows.
        self.is_open = True
        self.is_sent = False
        self._connection: asyncio.Task[ServiceAnswer] | None = None

    async def last_word(self, ref: JobRef, chunk: int, watcher: RenderWatcher) -> RemoteResult | None:
        """Send the signed order and return the agent's last word; None when a freeze is ordered.

        Raises:
            AttemptError: The agent is gone without one, or such a call will never be taken.
            AttemptLostError: The service was not reached.
            ThrottledError: It has no room.
        """
        self._connection = asyncio.create_task(self._service.call(self._order(ref, chunk), sending=self._note_sent))
        signs = AgentMonitor(self._host, self._records.calls, self.call, watcher)
        result = await signs.last_word(self._connection)
        if result is None and self._connection.done():
            result = await self._answered(self._connection, signs)
        self.is_open = result is None
        return result

    def _note_sent(self) -> None:
        self.is_sent = True

    def hang_up(self) -> None:
        """Close the connection at once; nothing is awaited."""
        if self._connection is not None:
            self._connection.cancel()

    async def end(self) -> None:
        """Return when the connection is closed."""
        if self._connection is not None:
            await cancel_and_wait(self._connection)

    def _order(self, ref: JobRef, chunk: int) -> Mapping[str, Any]:
        seconds = self._service.most_seconds
        order = RemoteOrder(ref=ref, chunk=chunk, attempt=self.call.attempt, seconds=seconds, issued_at=time.time())
        return sign(order, self._host.secret.get_secret_value()).model_dump()

    async def _answered(self, connection: asyncio.Task[ServiceAnswer], signs: AgentMonitor) -> RemoteResult | None:
        """Return the last word of an agent whose call is over: what it answered, or what it leaves in the store."""
        patience = self._host.patience
        try:
            answer = connection.result()
        except (AttemptError, ThrottledError):
            await self.take_back()
            raise
        except CallLostError as error:
            if not error.begun:
                await self.take_back()
                raise AttemptLostError(str(error)) from error
            failure = AttemptError(str(error))
        else:
            try:
                return self._service.result_in(answer)
            except AttemptError as error:
                failure = error
            patience = replace(patience, begin_seconds=0, silent_seconds=patience.crashed_seconds)
        worked = signs.called_seconds
        # What has begun may live on although its call is over.
        await self._records.join(self.call)
        result = await signs.last_word(patience=patience)
        if result is None and not signs.must_freeze:
            self.is_open = False
            await self._records.bury(self.call, worked if signs.has_begun else 0.0, str(failure))
            raise failure
        return result

    async def take_back(self) -> None:
        """Forget that anyone was called: nothing was begun, and nothing will be."""
        self.is_open = False
        await self._records.forget(self.call)


@asynccontextmanager
async def acquire_slot(turns: asyncio.Semaphore, watcher: RenderWatcher) -> AsyncIterator[None]:
    """Enter the block when it is this attempt's turn and no freeze is ordered; freezes are confirmed until then."""
    while True:
        await wait_while_frozen(watcher)
        if await _is_taken(turns, watcher):
            break
    try:
        yield
    finally:
        turns.release()


async def _is_taken(turns: asyncio.Semaphore, watcher: RenderWatcher) -> bool:
    """Return whether a turn was taken; False when a freeze is ordered before."""
    waiting = asyncio.ensure_future(turns.acquire())
    try:
        while not watcher.freeze_order:
            if (await asyncio.wait([waiting], timeout=LOOK_SECONDS))[0]:
                return True
    except asyncio.CancelledError:
        await _give_back(waiting, turns)
        raise
    await _give_back(waiting, turns)
    return False


async def _give_back(waiting: asyncio.Future[Literal[True]], turns: asyncio.Semaphore) -> None:
    waiting.cancel()
    await asyncio.wait([waiting])
    if not waiting.cancelled():
        turns.release()


def error_of_result(result: RemoteResult, where: str) -> AttemptError | AttemptLostError:
    """Return what a try has come to whose chunk is not published."""
    match result.outcome:
        case RemoteOutcome.PUBLISHED:
            return AttemptError(f"{where} says that it has published, and nothing is there; let both use one store")
        case RemoteOutcome.OUT_OF_TIME if not result.fatal:
            # It has kept frames that the next try need not render: a long chunk takes several calls.
            return AttemptLostError(f"{where} was out of time: {result.error}")
        case RemoteOutcome.FAILED | RemoteOutcome.OUT_OF_TIME:
            return AttemptError(
                result.error or f"{where} has failed and does not say why",
                fatal=result.fatal,
                wait_seconds=result.wait_seconds,
                another_host=result.another_host,
            )
        case RemoteOutcome.STOPPED | RemoteOutcome.LOST:
            return AttemptLostError(f"{where} has stopped: {result.error or 'it was told to'}")
    assert_never(result.outcome)


class RemoteAttempt:
    """Has a service render one chunk, and pays for it once: work that a lost worker has left is joined.

    Whoever calls says so in the store first. The next attempt finds that, and waits for an agent that still lives
    instead of calling another one.

    A freeze stops the agent, since a service bills what stands still; frames that are finished are kept, and the
    attempt calls again when the freeze is over.

    Args:
        host: What this worker offers.
        backend: The job's own settings of the service.
        service: The service.
        turns: How many calls it may have at once.
        job: The chunk's job.
        chunk: The chunk.
        name: Name of the attempt, never used twice.
    """

    def __init__(
        self,
        host: RemoteHost,
        backend: RemoteBackend,
        service: Service,
        turns: asyncio.Semaphore,
        job: OpenJob,
        chunk: Chunk,
        name: str,
    ) -> None:
        self._host = host
        self._backend = backend
        self._service = service
        self._turns = turns
        self._job = job
        self._chunk = chunk
        self._name = name
        self._key = chunk_key(chunk.index)
        self._records = ChunkCallRecords(host, job.folder, self._key)
        # How often this attempt has called: after each freeze there is another agent, with a name of its own.
        self._called = 0
        self._calling: ServiceCall | None = None
        # An agent that another attempt has called, and that this one waits for.
        self._joined: RemoteCall | None = None
        self._followed = name
        self.stop: RemoteStop | None = None

    @property
    def log(self) -> str:
        """Location of what its renderer prints: the agent sends it there."""
        return self._job.folder.log_path(self._key, self._followed)

    async def published(self) -> Sidecar | None:
        """Return the sidecar if the chunk is finished, by whomever; finishes what a dead winner began to publish."""
        return await self._records.published()

    async def bill(self) -> Bill:
        """Return what all attempts at this chunk are billed for, by the last words of their agents."""
        results = await self._records.results()
        usd = sum(self._host.price(self._backend, result) for result in results)
        return Bill(sum(result.billed_seconds for result in results), usd)

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        """Have the chunk rendered, checked and published; return the sidecar that stands.

        A cancel closes the connection and tells the agent to stop, both at once, and waits a bounded time for its
        word; `stop` says what became of that. Where only this worker ends or has lost Temporal, the agent is left at
        work for the next attempt to join.

        Args:
            watcher: Hears how far the chunk is; its freezes are confirmed when the agent has stopped.

        Raises:
            AttemptError: This try has failed.
            AttemptLostError: It ended through no fault of its own, or the store is away.
            ThrottledError: The service has no room now; nothing was begun.
        """
        try:
            while (sidecar := await self._run(watcher)) is None:
                await self._stand_still(watcher)
            return sidecar
        except asyncio.CancelledError:
            await shield_until_done(self._leave(watcher))
            raise
        except OSError as error:
            raise attempt_failure(error) from error
        finally:
            await self._close()

    async def _run(self, watcher: RenderWatcher) -> Sidecar | None:
        """Return the sidecar; None when a freeze is ordered."""
        if (standing := await self.published()) is not None:
            return standing
        for call in await self._records.left_behind():
            sidecar = await self._join(call, watcher)
            if sidecar is not None or self._joined is not None:
                return sidecar
        async with acquire_slot(self._turns, watcher):
            try:
                result = await self._call(watcher)
            except AttemptError:
                if (standing := await self.published()) is None:
                    raise
                return standing
        return None if result is None else await self._outcome(result)

    async def _join(self, call: RemoteCall, watcher: RenderWatcher) -> Sidecar | None:
        """Wait for an agent that somebody else has called.

        Returns:
            None when nothing is to be had from it, or when a freeze is ordered: then it is still the current one.
        """
        self._joined = call
        self._followed = call.attempt
        await self._records.join(call)
        signs = AgentMonitor(self._host, self._records.calls, call, watcher)
        result = await signs.last_word()
        if result is None and watcher.freeze_order:
            return None
        if result is None:
            await self._records.bury(call, signs.lived_seconds, "it gives no sign of life any more")
        self._joined = None
        if result is None or result.outcome in (RemoteOutcome.STOPPED, RemoteOutcome.LOST):
            return await self.published()
        return await self._outcome(result)

    async def _call(self, watcher: RenderWatcher) -> RemoteResult | None:
        """Call the service and return the agent's last word; None when a freeze is ordered."""
        self._called += 1
        name = self._name if self._called == 1 else f"{self._name}.{self._called}"
        call = await self._records.announce(name, self._service.where, self._service.most_seconds)
        self._followed = name
        self._calling = ServiceCall(self._host, self._service, self._records, call)
        return await self._calling.last_word(self._job.ref, self._chunk.index, watcher)

    async def _outcome(self, result: RemoteResult) -> Sidecar:
        """Return the sidecar of an agent that has published, or raise what became of the try."""
        if (sidecar := await self.published()) is not None:
            return sidecar
        raise error_of_result(result, self._service.where)

    async def _stand_still(self, watcher: RenderWatcher) -> None:
        """Stop what runs, and return when the freeze is over; it is confirmed when nothing runs any more."""
        if (call := self._at_work) is not None:
            stop = await self._stop(call, "its job is frozen", self._host.patience.stop_seconds)
            if not stop.confirmed:
                await AgentMonitor(self._host, self._records.calls, call, watcher).last_word(heeds_freeze=False)
            await self._close()
            if await self.published() is not None:
                return
        await wait_while_frozen(watcher)

    async def _leave(self, watcher: RenderWatcher) -> None:
        """Stop what runs, or leave it to the next attempt."""
        if self._calling is not None:
            # Before anything is awaited: the store may be slow.
            self._calling.hang_up()
        if (call := self._at_work) is None or await self._was_never_sent():
            return
        if await self._host.is_left_running():
            # Its connection ends with this worker, and that alone must not end it.
            await self._records.join(call)
            return
        seconds = min(self._host.patience.stop_seconds, watcher.most_grace_seconds)
        self.stop = await self._stop(call, "its job or this try was stopped", seconds)

    @property
    def _at_work(self) -> RemoteCall | None:
        """The call by which an agent may be at work for this attempt."""
        if self._joined is not None:
            return self._joined
        return self._calling.call if self._calling is not None and self._calling.is_open else None

    async def _was_never_sent(self) -> bool:
        """Tell whether nothing of the call has left this worker; then nobody has to be told, nor waited for."""
        if self._calling is None or self._calling.is_sent:
            return False
        await self._calling.take_back()
        return True

    async def _stop(self, call: RemoteCall, reason: str, seconds: float) -> RemoteStop:
        if self._calling is not None:
            self._calling.hang_up()
            if await self._was_never_sent():
                return RemoteStop(chunk=self._chunk.index, where=call.where, confirmed=True)
        calls, chunk = self._records.calls, self._chunk.index
        return await stop_agent(self._host, calls, call, chunk=chunk, reason=reason, most_seconds=seconds)

    async def _close(self) -> None:
        """Forget what ran; it runs no more."""
        self._joined = None
        if self._calling is not None:
            await self._calling.end()
            self._calling = None

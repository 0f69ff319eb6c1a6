"""Render one chunk by a service: call an agent, follow its records, join it after a worker was lost, or stop it.

`RemoteAttempt` does with a service what `ChunkAttempt` does with processes of this host.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, assert_never

from activities.attempts.attempt import Bill
from activities.backends.backend import RenderWatcher
from activities.backends.render_monitor import LOOK_SECONDS, wait_while_frozen
from activities.errors import AttemptError, AttemptLostError, ThrottledError, attempt_failure
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
from longtake.stores.job_layout import chunk_key


class ServiceCall:
    """One call of a service.

    Args:
        host: Secret and timeouts of this worker.
        service: The service.
        records: The call records of the chunk.
        call: The record of this call, which is in the store already.
    """

    def __init__(self, host: RemoteHost, service: Service, records: ChunkCallRecords, call: RemoteCall) -> None:
        self._host = host
        self._service = service
        self._records = records
        self.call = call
        # Whether an agent may be at work by this call.
        self.is_open = True
        self.is_sent = False
        self._connection: asyncio.Task[ServiceAnswer] | None = None

    async def send(self, ref: JobRef, chunk: int, watcher: RenderWatcher) -> RemoteResult | None:
        """Send the signed order and wait for the agent's result; None when a freeze is ordered.

        Raises:
            AttemptError: The agent is lost, or the service will never take such a call.
            AttemptLostError: The service was not reached.
            ThrottledError: The service has no room.
        """
        self._connection = asyncio.create_task(self._service.call(self._order(ref, chunk), on_send=self._note_sent))
        monitor = AgentMonitor(self._host, self._records.calls, self.call, watcher)
        result = await monitor.wait_for_result(self._connection)
        if result is None and self._connection.done():
            result = await self._read_answer(self._connection, monitor)
        self.is_open = result is None
        return result

    def _note_sent(self) -> None:
        self.is_sent = True

    def disconnect(self) -> None:
        """Begin to close the connection, without a wait."""
        if self._connection is not None:
            self._connection.cancel()

    async def close(self) -> None:
        """Close the connection, and return when it is closed."""
        if self._connection is not None:
            await cancel_and_wait(self._connection)

    def _order(self, ref: JobRef, chunk: int) -> Mapping[str, Any]:
        seconds = self._service.most_seconds
        order = RemoteOrder(ref=ref, chunk=chunk, attempt=self.call.attempt, seconds=seconds, issued_at=time.time())
        return sign(order, self._host.secret.get_secret_value()).model_dump()

    async def _read_answer(self, connection: asyncio.Task[ServiceAnswer], monitor: AgentMonitor) -> RemoteResult | None:
        """Return the result of an agent whose connection has ended, from its answer or from the store."""
        timeouts = self._host.timeouts
        try:
            answer = connection.result()
        except (AttemptError, ThrottledError):
            await self.withdraw()
            raise
        except CallLostError as error:
            if not error.begun:
                await self.withdraw()
                raise AttemptLostError(str(error)) from error
            failure = AttemptError(str(error))
        else:
            try:
                return self._service.parse_result(answer)
            except AttemptError as error:
                failure = error
            timeouts = replace(timeouts, begin_seconds=0, silent_seconds=timeouts.crashed_seconds)
        called_seconds = monitor.seconds_since_call
        # An agent that has begun may live on although its connection has ended.
        await self._records.join(self.call)
        result = await monitor.wait_for_result(timeouts=timeouts)
        if result is None and not monitor.must_freeze:
            self.is_open = False
            await self._records.finish_lost(self.call, called_seconds if monitor.has_begun else 0.0, str(failure))
            raise failure
        return result

    async def withdraw(self) -> None:
        """Remove the record of this call, by which no agent has begun or will begin."""
        self.is_open = False
        await self._records.forget(self.call)


@asynccontextmanager
async def acquire_slot(slots: asyncio.Semaphore, watcher: RenderWatcher) -> AsyncIterator[None]:
    """Hold one of the slots of a service for the block; while the wait for it lasts, freezes are confirmed."""
    while True:
        await wait_while_frozen(watcher)
        if await _has_acquired(slots, watcher):
            break
    try:
        yield
    finally:
        slots.release()


async def _has_acquired(slots: asyncio.Semaphore, watcher: RenderWatcher) -> bool:
    """Wait for a slot and return True; False when a freeze is ordered before."""
    waiting = asyncio.ensure_future(slots.acquire())
    try:
        while not watcher.freeze_order:
            if (await asyncio.wait([waiting], timeout=LOOK_SECONDS))[0]:
                return True
    except asyncio.CancelledError:
        await _give_back(waiting, slots)
        raise
    await _give_back(waiting, slots)
    return False


async def _give_back(waiting: asyncio.Future[Literal[True]], slots: asyncio.Semaphore) -> None:
    waiting.cancel()
    await asyncio.wait([waiting])
    if not waiting.cancelled():
        slots.release()


def make_result_error(result: RemoteResult, where: str) -> AttemptError | AttemptLostError:
    """Return the error that the result of an agent stands for, where its chunk is not published."""
    match result.outcome:
        case RemoteOutcome.PUBLISHED:
            return AttemptError(f"{where} says that it has published, and nothing is there; let both use one store")
        case RemoteOutcome.OUT_OF_TIME if not result.fatal:
            # The agent has kept frames that the next try need not render: a long chunk takes several calls.
            return AttemptLostError(f"{where} was out of time: {result.error}")
        case RemoteOutcome.FAILED | RemoteOutcome.OUT_OF_TIME:
            return AttemptError(
                result.error or f"{where} has failed and does not say why",
                fatal=result.fatal,
                wait_seconds=result.wait_seconds,
                another_host=result.another_host,
                needs_change=result.needs_change,
                exit_code=result.exit_code,
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
        slots: Shared by all calls of the service from this worker.
        job: The chunk's job.
        chunk: The chunk.
        name: Name of the attempt, never used twice.
    """

    # An agent that renders already is joined, and left at work where the job wants that.
    is_begun = False

    def __init__(
        self,
        host: RemoteHost,
        backend: RemoteBackend,
        service: Service,
        slots: asyncio.Semaphore,
        job: OpenJob,
        chunk: Chunk,
        name: str,
    ) -> None:
        self._host = host
        self._backend = backend
        self._service = service
        self._slots = slots
        self._job = job
        self._chunk = chunk
        self.name = name
        self._key = chunk_key(chunk.index)
        self._records = ChunkCallRecords(host, job.folder, self._key)
        # After each freeze another agent is called, with a name of its own.
        self._call_count = 0
        self._current: ServiceCall | None = None
        # The call of another attempt, whose agent this one waits for.
        self._joined: RemoteCall | None = None
        # Name of the agent's attempt, this one's own or the joined one's.
        self._agent_name = name
        self.stop: RemoteStop | None = None

    @property
    def log(self) -> str:
        """Location of the renderer's log, to which the agent uploads it."""
        return self._job.folder.log_path(self._key, self._agent_name)

    async def published(self) -> Sidecar | None:
        """Return the sidecar of a finished chunk, else None; finishes the publication of a dead worker or agent."""
        return await self._records.published()

    async def bill(self) -> Bill:
        """Return the bill of all attempts at this chunk, from the results of their agents."""
        results = await self._records.results()
        usd = sum(self._host.price(self._backend, result) for result in results)
        return Bill(sum(result.billed_seconds for result in results), usd)

    async def run(self, watcher: RenderWatcher) -> Sidecar:
        """Have the chunk rendered, checked and published; return the sidecar that stands.

        A cancel closes the connection and orders the agent to stop, both at once, and waits a bounded time for its
        result; `stop` says whether that has come. Where only this worker ends or has lost Temporal, the agent is left
        at work for the next attempt to join.

        Args:
            watcher: Gets the progress of the chunk; its freezes are confirmed when the agent has stopped.

        Raises:
            AttemptError: This try has failed.
            AttemptLostError: This try ended through no fault of its own, or the store is away.
            ThrottledError: The service has no room now, and began nothing.
        """
        try:
            while (sidecar := await self._run(watcher)) is None:
                await self._wait_out_freeze(watcher)
            return sidecar
        except asyncio.CancelledError:
            await shield_until_done(self._stop_or_leave(watcher))
            raise
        except OSError as error:
            raise attempt_failure(error) from error
        finally:
            await self._close()

    async def _run(self, watcher: RenderWatcher) -> Sidecar | None:
        """Return the sidecar; None when a freeze is ordered."""
        if (standing := await self.published()) is not None:
            return standing
        for call in await self._records.find_unfinished():
            sidecar = await self._join(call, watcher)
            if sidecar is not None or self._joined is not None:
                return sidecar
        async with acquire_slot(self._slots, watcher):
            try:
                result = await self._call(watcher)
            except AttemptError:
                if (standing := await self.published()) is None:
                    raise
                return standing
        return None if result is None else await self._read_sidecar(result)

    async def _join(self, call: RemoteCall, watcher: RenderWatcher) -> Sidecar | None:
        """Wait for an agent that another attempt has called.

        Returns:
            None when the agent has rendered nothing, or when a freeze is ordered: then it is still the joined one.
        """
        self._joined = call
        self._agent_name = call.attempt
        await self._records.join(call)
        monitor = AgentMonitor(self._host, self._records.calls, call, watcher)
        result = await monitor.wait_for_result()
        if result is None and watcher.freeze_order:
            return None
        if result is None:
            await self._records.finish_lost(call, monitor.alive_seconds, "it gives no sign of life any more")
        self._joined = None
        if result is None or result.outcome in (RemoteOutcome.STOPPED, RemoteOutcome.LOST):
            return await self.published()
        return await self._read_sidecar(result)

    async def _call(self, watcher: RenderWatcher) -> RemoteResult | None:
        """Call the service and return the agent's result; None when a freeze is ordered."""
        self._call_count += 1
        name = self.name if self._call_count == 1 else f"{self.name}.{self._call_count}"
        call = await self._records.announce(name, self._service.where, self._service.most_seconds)
        self._agent_name = name
        self._current = ServiceCall(self._host, self._service, self._records, call)
        return await self._current.send(self._job.ref, self._chunk.index, watcher)

    async def _read_sidecar(self, result: RemoteResult) -> Sidecar:
        """Return the sidecar of an agent that has published, or raise the error in its result."""
        if (sidecar := await self.published()) is not None:
            return sidecar
        raise make_result_error(result, self._service.where)

    async def _wait_out_freeze(self, watcher: RenderWatcher) -> None:
        """Stop the agent, confirm the freeze when nothing runs any more, and return when the freeze is over."""
        if (call := self._at_work) is not None:
            stop = await self._stop(call, "its job is frozen", self._host.timeouts.stop_seconds)
            if not stop.confirmed:
                monitor = AgentMonitor(self._host, self._records.calls, call, watcher)
                await monitor.wait_for_result(ends_at_freeze=False)
            await self._close()
            if await self.published() is not None:
                return
        await wait_while_frozen(watcher)

    async def _stop_or_leave(self, watcher: RenderWatcher) -> None:
        """Stop the agent, or leave it to the next attempt."""
        if self._current is not None:
            # Before anything is awaited: the store may be slow.
            self._current.disconnect()
        if (call := self._at_work) is None or await self._was_never_sent():
            return
        if await self._host.is_left_running():
            # The connection ends with this worker, and that alone must not stop the agent.
            await self._records.join(call)
            return
        seconds = min(self._host.timeouts.stop_seconds, watcher.most_grace_seconds)
        self.stop = await self._stop(call, "its job or this try was stopped", seconds)

    @property
    def _at_work(self) -> RemoteCall | None:
        """The call by which an agent may be at work for this attempt."""
        if self._joined is not None:
            return self._joined
        return self._current.call if self._current is not None and self._current.is_open else None

    async def _was_never_sent(self) -> bool:
        """Tell whether nothing of the call has left this worker; removes the record then, since no agent will begin."""
        if self._current is None or self._current.is_sent:
            return False
        await self._current.withdraw()
        return True

    async def _stop(self, call: RemoteCall, reason: str, seconds: float) -> RemoteStop:
        if self._current is not None:
            self._current.disconnect()
            if await self._was_never_sent():
                return RemoteStop(chunk=self._chunk.index, where=call.where, confirmed=True)
        calls, chunk = self._records.calls, self._chunk.index
        return await stop_agent(calls, call, chunk=chunk, reason=reason, most_seconds=seconds)

    async def _close(self) -> None:
        """Close the connection, and forget calls whose agents run no more."""
        self._joined = None
        if self._current is not None:
            await self._current.close()
            self._current = None

"""Read and write the records of calls of services in the store; their names and content: `activities.remote.protocol`.

`CallRecords` blocks, and serves workers and agents. `ChunkCallRecords` is a worker's asynchronous view of one chunk.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from temporalio import activity
from temporalio.client import Client

from activities.job_watch import read_orders
from activities.remote.protocol import RemoteCall, RemoteOutcome, RemoteProgress, RemoteResult
from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.publish import finish_claim
from longtake.concurrency import clean_up_in_thread, read_in_thread, run_in_thread, run_with_timeout
from longtake.models.backends import RemoteBackend
from longtake.models.fields import Contract
from longtake.names import Control
from longtake.stores.store import OversizedFileError, map_parallel

_Record = TypeVar("_Record", bound=Contract)

_CALL, _BEGAN, _PROGRESS, _STOP, _JOINED, _RESULT = (
    ".call.json",
    ".began.json",
    ".progress.json",
    ".stop.json",
    ".joined.json",
    ".result.json",
)

# Of the reason for a stop: an agent repeats it in its result, and records have a few kilobytes.
_LONGEST_REASON = 400

# For asking Temporal what the job wants: a worker that shuts down has no more time.
_ANSWER_SECONDS = 2.0


class StopNote(Contract):
    """Record of a worker: the order to stop an agent."""

    reason: str = ""
    ordered_at: datetime | None = None

    def is_of(self, since: datetime | None) -> bool:
        """Tell whether the order is known to be of this time or later."""
        return since is not None and self.ordered_at is not None and self.ordered_at >= since


@dataclass(frozen=True)
class LeftCalls:
    """What a lost worker has left of the calls for one chunk.

    Attributes:
        at_work: Calls whose agents may work, those included that were told to stop and have not ended yet.
        stopped: Calls whose agents were told to stop in the time that was asked about, and have confirmed that.
    """

    at_work: tuple[RemoteCall, ...] = ()
    stopped: tuple[RemoteCall, ...] = ()


class CallRecords:
    """Records of all calls of services for one chunk; methods block, and raise `OSError` while the store is away.

    Args:
        folder: The job's.
        key: Name of the chunk in the job's folder, as `chunk_key` makes it.
    """

    def __init__(self, folder: JobFolder, key: str) -> None:
        self._store = folder.store
        self._path = folder.remote_dir(key)

    def attempts(self) -> list[str]:
        """Return the names of all attempts with a call, made or about to be made; sorted."""
        return self._with(_CALL)

    def call(self, attempt: str) -> RemoteCall | None:
        """Return the call of an attempt; None without one."""
        return self._read(attempt, _CALL, RemoteCall)

    def write_call(self, call: RemoteCall) -> None:
        """Record a call that the worker is about to make."""
        self._write(call.attempt, _CALL, call)

    def forget(self, attempt: str) -> None:
        """Remove the call of an attempt that no agent has begun; for workers."""
        self._store.remove(self._location(attempt, _CALL))

    def begin(self, attempt: str) -> bool:
        """Record that this agent begins an attempt; return False where any agent has begun the attempt before."""
        return self._store.create(self._location(attempt, _BEGAN), b"{}")

    def has_begun(self, attempt: str) -> bool:
        """Tell whether an agent has begun an attempt."""
        return self._is_there(attempt, _BEGAN)

    def report(self, attempt: str, progress: RemoteProgress) -> None:
        """Replace the progress of an attempt; for agents, about once a second."""
        self._write(attempt, _PROGRESS, progress)

    def progress(self, attempt: str) -> RemoteProgress | None:
        """Return the newest progress of an attempt; None before the first."""
        return self._read(attempt, _PROGRESS, RemoteProgress)

    def order_stop(self, attempt: str, reason: str) -> None:
        """Order the agent of an attempt to stop; of several orders the first is kept."""
        order = StopNote(reason=reason, ordered_at=datetime.now(UTC))
        self._store.create(self._location(attempt, _STOP), order.model_dump_json().encode())

    def stop_note(self, attempt: str) -> StopNote | None:
        """Return the order to stop the agent of an attempt; None without one."""
        return self._read(attempt, _STOP, StopNote)

    def is_stopped(self, attempt: str) -> bool:
        """Tell whether the agent of an attempt was ordered to stop."""
        return self._is_there(attempt, _STOP)

    def join(self, attempt: str) -> None:
        """Record that a worker waits for an attempt whose connection is or may be closed."""
        self._store.create(self._location(attempt, _JOINED), b"{}")

    def is_joined(self, attempt: str) -> bool:
        """Tell whether a worker waits for an attempt whose connection is closed."""
        return self._is_there(attempt, _JOINED)

    def finish(self, result: RemoteResult) -> None:
        """Write the result of an attempt; for agents, and for workers that have lost one."""
        self._write(result.attempt, _RESULT, result)

    def result(self, attempt: str) -> RemoteResult | None:
        """Return the result of an attempt; None before its end."""
        return self._read(attempt, _RESULT, RemoteResult)

    def results(self) -> list[RemoteResult]:
        """Return the results of all attempts, sorted by name of the attempt."""
        found = map_parallel(self._store, self.result, self._with(_RESULT))
        return [result for result in found if result is not None]

    def _with(self, ending: str) -> list[str]:
        names = self._store.names(self._path)
        return sorted(name.removesuffix(ending) for name in names if name.endswith(ending))

    def _location(self, attempt: str, ending: str) -> str:
        return f"{self._path}/{attempt}{ending}"

    def _is_there(self, attempt: str, ending: str) -> bool:
        return self._store.stat(self._location(attempt, ending)) is not None

    def _write(self, attempt: str, ending: str, record: Contract) -> None:
        self._store.replace(self._location(attempt, ending), record.model_dump_json().encode())

    def _read(self, attempt: str, ending: str, kind: type[_Record]) -> _Record | None:
        try:
            return kind.model_validate_json(self._store.read(self._location(attempt, ending)))
        except (FileNotFoundError, ValidationError, OversizedFileError):
            return None


@dataclass(frozen=True)
class AgentTimeouts:
    """How long a worker waits for records of an agent."""

    # Between two reads of the store; agents write their progress about once a second.
    look_seconds: float = 1.0
    # From the call: a cold start fetches an image of some hundred megabytes.
    begin_seconds: float = 60.0
    # Without a change of the progress of an agent that had begun; the slowest stores answer within a few seconds.
    silent_seconds: float = 15.0
    # The same, once the platform has said that the agent crashed: only the connection to a living one may have broken.
    crashed_seconds: float = 3.0
    # From the order to stop; agents look twice a second, and then end what they run.
    stop_seconds: float = 10.0


@dataclass(frozen=True)
class RemoteHost:
    """What a worker offers to all its remote attempts."""

    # Signs orders; empty where the platform alone decides who may call.
    secret: SecretStr
    # Returns the price of one attempt in USD.
    price: Callable[[RemoteBackend, RemoteResult], float]
    # Tells whether the newest cancel ends this worker's part only, and another attempt will join the agent.
    is_left_running: Callable[[], Awaitable[bool]]
    timeouts: AgentTimeouts = field(default_factory=AgentTimeouts)


class ChunkCallRecords:
    """Reads and writes the call records of one chunk for a worker; methods raise `OSError` while the store is away.

    Args:
        host: Timeouts of this worker.
        folder: The job's.
        key: Name of the chunk in the job's folder, as `chunk_key` makes it.
    """

    def __init__(self, host: RemoteHost, folder: JobFolder, key: str) -> None:
        self._host = host
        self._folder = folder
        self._key = key
        self.calls = CallRecords(folder, key)

    async def published(self) -> Sidecar | None:
        """Return the sidecar of a finished chunk, else None; finishes the publication of a dead worker or agent."""
        return await run_in_thread(partial(finish_claim, self._folder, self._key))

    async def results(self) -> list[RemoteResult]:
        """Return the results of all attempts at the chunk."""
        return await read_in_thread(self.calls.results)

    async def find_unfinished(self) -> list[RemoteCall]:
        """Return the calls whose agents may still work and were not told to stop, the oldest first."""
        return await read_in_thread(self._find_unfinished)

    async def find_left(self, since: datetime | None) -> LeftCalls:
        """Return the calls whose agents may still work, and those whose agents have stopped by an order since then."""
        return await read_in_thread(partial(self._find_left, since))

    async def announce(self, attempt: str, where: str, seconds: float) -> RemoteCall:
        """Record a call that is about to be made, and return the record; a cancel removes the record."""
        now = datetime.now(UTC)
        call = RemoteCall(attempt=attempt, where=where, called_at=now, ends_at=now + timedelta(seconds=seconds))
        try:
            await run_in_thread(partial(self.calls.write_call, call))
        except BaseException:
            await self.forget(call)
            raise
        return call

    async def join(self, call: RemoteCall) -> None:
        """Record that a worker waits for this agent, so that the agent does not stop when its connection closes."""
        await self._write(partial(self.calls.join, call.attempt))

    async def forget(self, call: RemoteCall) -> None:
        """Remove the record of a call that no agent has begun, so that no other attempt waits for one."""
        await self._write(partial(self.calls.forget, call.attempt))

    async def finish_lost(self, call: RemoteCall, billed_seconds: float, why: str) -> None:
        """Write the result of an agent that is lost, and order the agent to stop in case it still lives.

        Args:
            call: The call of the agent.
            billed_seconds: How long the agent was seen alive; for 0 no result is written.
            why: Becomes the reason of the order and the error of the result.
        """
        await clean_up_in_thread(partial(self.calls.order_stop, call.attempt, why[:_LONGEST_REASON]))
        if billed_seconds:
            lost = RemoteResult(
                attempt=call.attempt,
                outcome=RemoteOutcome.LOST,
                error=why[:_LONGEST_REASON],
                billed_seconds=round(billed_seconds, 3),
            )
            await clean_up_in_thread(partial(self.calls.finish, lost))

    async def _write(self, work: Callable[[], object]) -> None:
        await run_with_timeout(self._host.timeouts.stop_seconds, work)

    def _find_unfinished(self) -> list[RemoteCall]:
        found = []
        for attempt in self.calls.attempts():
            call = self.calls.call(attempt)
            if call is None or call.ends_at <= datetime.now(UTC) or self.calls.result(attempt) is not None:
                continue
            # An agent that was ordered to stop ends within a second or two, or before it begins: not one to join.
            if not self.calls.is_stopped(attempt):
                found.append(call)
        return sorted(found, key=lambda call: call.called_at)

    def _find_left(self, since: datetime | None) -> LeftCalls:
        at_work, stopped = [], []
        for attempt in self.calls.attempts():
            if (call := self.calls.call(attempt)) is None:
                continue
            note, result = self.calls.stop_note(attempt), self.calls.result(attempt)
            if result is None:
                # An agent says that it begins, and then looks for the order: told to stop before, it renders nothing.
                may_render = note is None or self.calls.has_begun(attempt)
                if may_render and call.ends_at > datetime.now(UTC):
                    at_work.append(call)
            elif result.outcome is RemoteOutcome.STOPPED and note is not None and note.is_of(since):
                stopped.append(call)
        return LeftCalls(tuple(at_work), tuple(stopped))


async def is_left_running(client: Client) -> bool:
    """Tell whether the cancel of the current activity leaves its agent at work, for another attempt to join.

    True when the worker shuts down, has lost Temporal, or was taken for lost: the activity is given out again, and its
    next attempt joins the agent. A cancel by the job, and a pause or reset by hand, stop the agent; so does the end of
    the job, after which there is no next attempt.
    """
    details = activity.cancellation_details()
    if details is None:
        # Cancelled by the job watch, which has lost contact with Temporal.
        return True
    if details.cancel_requested or details.paused or details.reset:
        return False
    info = activity.info()
    orders = await read_orders(client, info.workflow_id or "", info.workflow_run_id or "", _ANSWER_SECONDS)
    return orders is None or orders.control is not Control.STOP

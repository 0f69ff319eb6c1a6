"""Read and write the records about calls of services that lie in the store; see `activities.remote.protocol`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
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
from longtake.concurrency import shield_until_done
from longtake.models.backends import RemoteBackend
from longtake.models.fields import Contract
from longtake.names import Control
from longtake.stores.store import map_parallel

_Record = TypeVar("_Record", bound=Contract)

_CALL, _BEGAN, _PROGRESS, _STOP, _JOINED, _RESULT = (
    ".call.json",
    ".began.json",
    ".progress.json",
    ".stop.json",
    ".joined.json",
    ".result.json",
)


class CallRecords:
    """The calls of services that render one chunk; all methods block, and raise `OSError` while the store is away.

    Args:
        folder: The job's.
        key: Name of the chunk in the bookkeeping.
    """

    def __init__(self, folder: JobFolder, key: str) -> None:
        self._store = folder.store
        self._path = folder.remote_dir(key)

    def attempts(self) -> list[str]:
        """Return the names of all attempts that a service was, or was about to be, called for; sorted."""
        return self._with(_CALL)

    def call(self, attempt: str) -> RemoteCall | None:
        """Return who was called for an attempt, if anyone was."""
        return self._read(attempt, _CALL, RemoteCall)

    def write_call(self, call: RemoteCall) -> None:
        """Worker: write down who is about to be called."""
        self._write(call.attempt, _CALL, call)

    def forget(self, attempt: str) -> None:
        """Worker: take back that anyone was called for an attempt: nothing was begun."""
        self._store.remove(self._location(attempt, _CALL))

    def begin(self, attempt: str) -> bool:
        """Agent: begin an attempt; False when it was begun before, here or on any other instance."""
        return self._store.create(self._location(attempt, _BEGAN), b"{}")

    def has_begun(self, attempt: str) -> bool:
        """Tell whether an agent has begun an attempt."""
        return self._is_there(attempt, _BEGAN)

    def report(self, attempt: str, progress: RemoteProgress) -> None:
        """Agent: say that it lives, and how far it is."""
        self._write(attempt, _PROGRESS, progress)

    def progress(self, attempt: str) -> RemoteProgress | None:
        """Return what the agent reported last, if it has reported."""
        return self._read(attempt, _PROGRESS, RemoteProgress)

    def order_stop(self, attempt: str, reason: str) -> None:
        """Worker: have the agent of an attempt stop; the first reason stands."""
        self._store.create(self._location(attempt, _STOP), _Note(reason=reason).model_dump_json().encode())

    def is_stopped(self, attempt: str) -> bool:
        """Tell whether an attempt was told to stop."""
        return self._is_there(attempt, _STOP)

    def join(self, attempt: str) -> None:
        """Worker: say that someone waits for this attempt although its call was cut."""
        self._store.create(self._location(attempt, _JOINED), b"{}")

    def is_joined(self, attempt: str) -> bool:
        """Tell whether someone has come to wait for an attempt after its call was cut."""
        return self._is_there(attempt, _JOINED)

    def finish(self, result: RemoteResult) -> None:
        """Agent: give the last word on an attempt."""
        self._write(result.attempt, _RESULT, result)

    def result(self, attempt: str) -> RemoteResult | None:
        """Return the agent's last word on an attempt, if it has come."""
        return self._read(attempt, _RESULT, RemoteResult)

    def results(self) -> list[RemoteResult]:
        """Return the last words on all attempts, sorted by their names."""
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
        except (FileNotFoundError, ValidationError):
            return None


class _Note(Contract):
    reason: str = ""


Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AgentTimeouts:
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
    patience: AgentTimeouts = field(default_factory=AgentTimeouts)

    async def read(self, look: Callable[[], Result]) -> Result:
        """Return what a blocking look at the store returns; a cancel does not wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, look)

    async def write(self, work: Callable[[], Result]) -> Result:
        """Return what blocking work in the store returns; a cancel is raised when it has ended."""
        return await shield_until_done(self.read(work))

    async def write_within(self, seconds: float, work: Callable[[], object]) -> None:
        """Begin blocking work in the store and wait this long for it at most; it goes on, and errors are its own."""
        task = asyncio.get_running_loop().run_in_executor(self.threads, partial(_quietly, work))
        await asyncio.wait([task], timeout=seconds)


def _quietly(work: Callable[[], object]) -> None:
    try:
        work()
    except OSError as error:
        _log.warning("a remote attempt cannot be told through the store: %s", error)


# Agents keep what they are told and say in records of a few kilobytes.
_LONGEST_REASON = 400


class ChunkCallRecords:
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
        self.calls = CallRecords(folder, key)

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


# A worker that shuts down, or hears late that its chunk was given away, has a moment for this.
_ANSWER_SECONDS = 2.0


async def is_left_running(client: Client) -> bool:
    """Tell whether the cancel that has just come ends this worker's part only.

    So it is when the worker shuts down, has lost Temporal, or was taken for lost: the activity is given out again,
    and its next attempt joins the work. A cancel by the job, and a pause or reset by hand, stop the work; so does the
    end of the job, for which nobody would come again.
    """
    details = activity.cancellation_details()
    if details is None:
        # By the job's watch, for want of contact.
        return True
    if details.cancel_requested or details.paused or details.reset:
        return False
    info = activity.info()
    orders = await read_orders(client, info.workflow_id or "", info.workflow_run_id or "", _ANSWER_SECONDS)
    return orders is None or orders.control is not Control.STOP

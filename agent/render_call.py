"""Carry out one order: render the chunk, stop in time, and write the agent's result."""

import asyncio
import logging
import shutil
from dataclasses import dataclass
from functools import partial
from typing import Self

from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host
from activities.errors import AttemptError, AttemptLostError
from activities.remote.call_records import CallRecords
from activities.remote.protocol import RemoteOutcome
from activities.remote.store_executor import StoreExecutor
from activities.stores.job_folder import OpenJob
from agent.call import Invocation
from agent.lifecycle import ProgressReporter, Stop, StopMonitor
from agent.settings import AgentSettings
from longtake.chunks import Chunk
from longtake.concurrency import run_in_thread, shield_until_done, wait_all
from longtake.errors import BadJobError
from longtake.models.backends import count_frames_within
from longtake.models.job import RenderJobSpec
from longtake.stores.job_records import chunk_key
from longtake.text import strip_controls

# Of `RemoteResult.error`.
_LONGEST_ERROR = 4000


@dataclass(frozen=True)
class AgentResult:
    """An outcome, with what a worker needs to know of a failure."""

    outcome: RemoteOutcome
    error: str = ""
    fatal: bool = False
    wait_seconds: float | None = None
    another_host: bool = False
    frames_done: int = 0

    @classmethod
    def of_failure(cls, error: Exception, frames_done: int = 0) -> Self:
        """Return what a failed or lost try, a job that cannot run here, or an agent's own mistake comes to."""
        said = _cut(str(error))
        match error:
            case AttemptLostError():
                return cls(RemoteOutcome.LOST, said, frames_done=frames_done)
            case AttemptError():
                return cls(RemoteOutcome.FAILED, said, error.fatal, error.wait_seconds, error.another_host, frames_done)
        # The job asks for what no agent of these settings gives.
        return cls(RemoteOutcome.FAILED, said, fatal=True, frames_done=frames_done)


def _cut(text: str) -> str:
    """Return a text without what would rule a terminal, cut in its middle."""
    lines = "\n".join(map(strip_controls, text.split("\n")))
    half = _LONGEST_ERROR // 2 - 5
    return lines if len(lines) <= _LONGEST_ERROR else f"{lines[:half]} ... {lines[-half:]}"


@dataclass(frozen=True)
class TimeUsed:
    """What a call had and what it did with it."""

    # What it could render for, and what the platform gives it in all.
    work_seconds: float
    call_seconds: float
    # How long it rendered, and how many frames it made meanwhile.
    seconds: float
    frames: int


def describe_too_large_chunk(job: RenderJobSpec, chunk: Chunk, used: TimeUsed, *, kept: bool) -> str:
    """Return the sentence that says how far a chunk came, and what to change."""
    course = (
        f"chunk {chunk.index} rendered {used.frames} of {chunk.count} frames in {used.seconds:.0f} s; this function "
        f"ends after {used.call_seconds:.0f} s"
    )
    if used.frames:
        most = min(chunk.count - 1, count_frames_within(used.work_seconds, frames=used.frames, seconds=used.seconds))
        fix = _fix(job, max(1, most))
    elif chunk.count > 1:
        fix = _fix(job, max(1, chunk.count // 2))
    else:
        fix = "give it a longer timeout or more memory, or render this job on workers of your own"
    return f"{course}: {fix}" + ("; the finished frames are kept" if kept else "")


def _fix(job: RenderJobSpec, most: int) -> str:
    if job.frames is not None:
        return f"set frames.per_chunk to at most {most}"
    return f"give each chunk at most {most} frames"


_log = logging.getLogger(__name__)


class ChunkRunner:
    """Renders one chunk by the rules of a worker, and stops in time.

    Args:
        settings: What the agent may do.
        host: What it offers.
        job: The chunk's job.
        chunk: The chunk.
        calls: What lies in the store about it.
        attempt: Name of the attempt, which has begun.
        call: How it was called.
        seconds: Longest time that the worker wants it to work.
    """

    def __init__(
        self,
        settings: AgentSettings,
        host: Host,
        job: OpenJob,
        chunk: Chunk,
        calls: CallRecords,
        attempt: str,
        call: Invocation,
        seconds: float,
    ) -> None:
        self._settings = settings
        self._job = job
        self._chunk = chunk
        self._calls = calls
        self._name = attempt
        self._call = call
        self._attempt = ChunkAttempt(host, job, chunk, attempt)
        self._ends_at = min(call.deadline - settings.margin_seconds, call.arrived + seconds)
        self._kept_dir = job.folder.frames_dir(chunk_key(chunk.index))

    async def carry_out(self, executor: StoreExecutor) -> AgentResult:
        """Return what it came to; every way out leaves no process behind.

        Raises:
            OSError: The store is away before anything has begun.
        """
        if (known := await self._known_before(executor)) is not None:
            return known
        reporting = ProgressReporter(
            aside, self._calls, self._name, self._call, save_seconds=self._settings.margin_seconds / 2
        )
        kept_before = await run_in_thread(self._kept_files)
        began = asyncio.get_running_loop().time()
        try:
            stopped = await self._render(executor, reporting)
        except (AttemptError, AttemptLostError, BadJobError) as error:
            return AgentResult.of_failure(error, reporting.frames_done)
        finally:
            kept = await run_in_thread(self._kept_files)
            new = kept - kept_before
            await run_in_thread(self._clear_scratch)
        if stopped is None or await self._is_published():
            return AgentResult(RemoteOutcome.PUBLISHED, frames_done=self._chunk.count)
        # What was finished in the last moment has been kept, and not been told.
        done = min(self._chunk.count, max(reporting.frames_done, len(kept)))
        if stopped is Stop.OUT_OF_TIME:
            seconds = asyncio.get_running_loop().time() - began
            used = TimeUsed(self._ends_at - self._call.arrived, self._call.seconds, seconds, reporting.frames_made)
            said = describe_too_large_chunk(self._job.job, self._chunk, used, kept=bool(new))
            # Where nothing new is kept, the next attempt would come as far and no further.
            return AgentResult(RemoteOutcome.OUT_OF_TIME, said, fatal=not new, frames_done=done)
        outcome = RemoteOutcome.LOST if stopped is Stop.GOING_DOWN else RemoteOutcome.STOPPED
        return AgentResult(outcome, stopped.value, frames_done=done)

    async def _known_before(self, executor: StoreExecutor) -> AgentResult | None:
        """Return the last word where nothing has to be rendered for it."""
        if self._ends_at <= asyncio.get_running_loop().time():
            said = (
                f"this function ends after {self._call.seconds:.0f} s, and LONGTAKE_MARGIN_SECONDS keeps "
                f"{self._settings.margin_seconds:g} s of them; give it a longer timeout"
            )
            return AgentResult(RemoteOutcome.FAILED, said, fatal=True)
        if await self._attempt.published() is not None:
            return AgentResult(RemoteOutcome.PUBLISHED, frames_done=self._chunk.count)
        if await executor.run(partial(self._calls.is_stopped, self._name)):
            return AgentResult(RemoteOutcome.STOPPED, "it was told to stop before it began")
        return None

    async def _render(self, executor: StoreExecutor, reporting: ProgressReporter) -> Stop | None:
        """Return why the attempt was stopped; None when the chunk is published."""
        stopping = StopMonitor(
            executor,
            self._calls,
            self._name,
            self._call,
            ends_at=self._ends_at,
            orphan_seconds=self._settings.orphan_seconds,
        )
        work = asyncio.create_task(self._attempt.run(reporting))
        reports = asyncio.create_task(reporting.go_on())
        try:
            reporting.stop = await stopping.before(work)
            if reporting.stop is not None:
                _log.info("%s is stopped: %s", self._name, reporting.stop.value)
                work.cancel()
            # The agent lives, and says so, until all of that has ended.
            await asyncio.wait([work])
        finally:
            work.cancel()
            await shield_until_done(wait_all(work))
            reports.cancel()
            await shield_until_done(wait_all(reports))
        if not work.cancelled():
            work.result()
            return None
        return reporting.stop or Stop.GOING_DOWN

    async def _is_published(self) -> bool:
        """Tell whether the stop came too late, or somebody else was quicker."""
        try:
            return await self._attempt.published() is not None
        except OSError:
            return False

    def _kept_files(self) -> set[str]:
        try:
            names = self._job.folder.store.names(self._kept_dir)
        except OSError:
            return set()
        return {name for name in names if not name.endswith(".json")}

    def _clear_scratch(self) -> None:
        """Leave nothing on a small disk that the next call on this instance, for another chunk, does not need."""
        store = self._job.folder.store
        if not store.is_local:
            shutil.rmtree(store.local(self._kept_dir), ignore_errors=True)

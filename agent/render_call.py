"""Render the chunk of one order, stop in time, and describe the outcome."""

import asyncio
import logging
import shutil
from dataclasses import dataclass
from functools import partial
from typing import Self

from activities.attempts.chunk_attempt import ChunkAttempt
from activities.attempts.host import Host
from activities.attempts.pictures import SETTLE_SECONDS
from activities.errors import AttemptError, AttemptLostError
from activities.remote.call_records import CallRecords
from activities.remote.protocol import RemoteOutcome
from activities.stores.job_folder import OpenJob
from agent.call import Invocation
from agent.lifecycle import ProgressReporter, Stop, StopMonitor
from agent.settings import AgentSettings
from longtake.chunks import Chunk
from longtake.concurrency import read_in_thread, run_beside, run_in_thread, shield_until_done, wait_all
from longtake.errors import BadJobError
from longtake.models.backends import count_frames_within
from longtake.models.job import RenderJobSpec
from longtake.stores.job_layout import chunk_key
from longtake.text import cut_middle, strip_controls

_log = logging.getLogger(__name__)

# Bound of `RemoteResult.error`.
_LONGEST_ERROR = 4000


@dataclass(frozen=True)
class AgentResult:
    """The outcome of an order, with what a worker needs to know of a failure."""

    outcome: RemoteOutcome
    error: str = ""
    fatal: bool = False
    wait_seconds: float | None = None
    another_host: bool = False
    frames_done: int = 0
    needs_change: bool = False
    exit_code: int | None = None

    @classmethod
    def of_failure(cls, error: Exception, frames_done: int = 0) -> Self:
        """Return the result of a try that has ended with this error."""
        lines = "\n".join(map(strip_controls, str(error).split("\n")))
        said = cut_middle(lines, _LONGEST_ERROR)
        match error:
            case AttemptLostError():
                return cls(RemoteOutcome.LOST, said, frames_done=frames_done)
            case AttemptError():
                return cls(
                    RemoteOutcome.FAILED,
                    said,
                    fatal=error.fatal,
                    wait_seconds=error.wait_seconds,
                    another_host=error.another_host,
                    frames_done=frames_done,
                    needs_change=error.needs_change,
                    exit_code=error.exit_code,
                )
        # A job that no agent of these settings can render, or a mistake in the agent: another try would fail alike.
        return cls(RemoteOutcome.FAILED, said, fatal=True, frames_done=frames_done)


@dataclass(frozen=True)
class TimeUsed:
    """The time that a call had, and the frames that it rendered in it."""

    # What rendering may take, and what the platform gives the whole call.
    work_seconds: float
    call_seconds: float
    # What rendering took, and how many frames were made meanwhile.
    seconds: float
    frames: int


def describe_too_large_chunk(job: RenderJobSpec, chunk: Chunk, used: TimeUsed, *, kept: bool) -> str:
    """Return the sentence for a chunk that does not fit into one call: how far it came, and how to make it smaller."""
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


class ChunkRunner:
    """Renders one chunk by the rules of a worker, and stops in time.

    Args:
        settings: The agent's margin.
        host: Programs, folders and backend of the agent.
        job: The chunk's job.
        chunk: The chunk.
        calls: The call records of the chunk.
        attempt: Name of the attempt, which has begun.
        call: The call that brought the order.
        seconds: Longest time that the worker wants the agent to work.
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
        self._pictures = host.pictures
        self._ends_at = min(call.deadline - settings.margin_seconds, call.arrived + seconds)
        self._kept_dir = job.folder.frames_dir(chunk_key(chunk.index))

    async def run(self) -> AgentResult:
        """Render the chunk and return the outcome; no process is left, however this ends.

        Raises:
            OSError: The store is away before the render has begun.
        """
        if (known := await self._find_early_result()) is not None:
            return known
        reporter = ProgressReporter(self._calls, self._name, self._call, save_seconds=self._settings.margin_seconds / 2)
        kept_before = await run_in_thread(self._kept_files)
        began = asyncio.get_running_loop().time()
        try:
            stopped = await self._render(reporter)
        except (AttemptError, AttemptLostError, BadJobError) as error:
            return AgentResult.of_failure(error, reporter.frames_done)
        finally:
            kept = await run_in_thread(self._kept_files)
            new = kept - kept_before
            await run_in_thread(self._clear_scratch)
            if self._pictures is not None and self._pictures.is_busy:
                # Behind its answer a function stands still.
                await run_in_thread(partial(self._pictures.settle, SETTLE_SECONDS))
        if stopped is None or await self._is_published():
            return AgentResult(RemoteOutcome.PUBLISHED, frames_done=self._chunk.count)
        # Frames that were finished in the last moment have been kept, and not been reported.
        done = min(self._chunk.count, max(reporter.frames_done, len(kept)))
        if stopped is Stop.OUT_OF_TIME:
            seconds = asyncio.get_running_loop().time() - began
            used = TimeUsed(self._ends_at - self._call.arrived, self._call.seconds, seconds, reporter.frames_made)
            said = describe_too_large_chunk(self._job.job, self._chunk, used, kept=bool(new))
            # Where nothing new is kept, the next attempt would come as far and no further.
            return AgentResult(RemoteOutcome.OUT_OF_TIME, said, fatal=not new, frames_done=done)
        outcome = RemoteOutcome.LOST if stopped is Stop.SHUTTING_DOWN else RemoteOutcome.STOPPED
        return AgentResult(outcome, stopped.value, frames_done=done)

    async def _find_early_result(self) -> AgentResult | None:
        """Return the result where there is nothing to render; else None."""
        if self._ends_at <= asyncio.get_running_loop().time():
            said = (
                f"this function ends after {self._call.seconds:.0f} s, and LONGTAKE_MARGIN_SECONDS keeps "
                f"{self._settings.margin_seconds:g} s of them; give it a longer timeout"
            )
            return AgentResult(RemoteOutcome.FAILED, said, fatal=True)
        if await self._attempt.published() is not None:
            return AgentResult(RemoteOutcome.PUBLISHED, frames_done=self._chunk.count)
        if await read_in_thread(partial(self._calls.is_stopped, self._name)):
            return AgentResult(RemoteOutcome.STOPPED, "it was told to stop before it began")
        return None

    async def _render(self, reporter: ProgressReporter) -> Stop | None:
        """Return why the attempt was stopped; None when the chunk is published."""
        monitor = StopMonitor(
            self._calls,
            self._name,
            self._call,
            ends_at=self._ends_at,
            orphan_seconds=self._settings.orphan_seconds,
        )
        # Progress is reported until all processes have ended, so that the worker does not take the agent for lost.
        async with run_beside(reporter.run()):
            work = asyncio.create_task(self._attempt.run(reporter))
            try:
                reporter.stop = await monitor.wait_for_stop(work)
                if reporter.stop is not None:
                    _log.info("%s is stopped: %s", self._name, reporter.stop.value)
                    work.cancel()
                await asyncio.wait([work])
            finally:
                work.cancel()
                await shield_until_done(wait_all(work))
        if not work.cancelled():
            work.result()
            return None
        return reporter.stop or Stop.SHUTTING_DOWN

    async def _is_published(self) -> bool:
        """Tell whether the chunk was published before the stop, by this or another attempt."""
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
        """Remove copies of kept frames: the disk is small, and the next call on this instance is for another chunk."""
        store = self._job.folder.store
        if not store.is_local:
            shutil.rmtree(store.local(self._kept_dir), ignore_errors=True)

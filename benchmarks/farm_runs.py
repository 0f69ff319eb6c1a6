"""Measure a farm: workers in processes of their own, a real server, and the public client."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from support.processes.process_table import Seen, descendants, look, still_there
from support.processes.workers import WorkerProcess, worker_process
from support.renderers.signal_times import SignalLog, block_until, signal_logging_renderer

from longtake import (
    FrameRange,
    JobCancelledError,
    JobHandle,
    JobState,
    JobStatus,
    RenderClient,
    RenderJobSpec,
    Timeouts,
)
from longtake.models.status import PauseMode

# Chunks that run when their worker is killed: each is one measurement.
_KILLED_CHUNKS = 4

_PATIENCE_SECONDS = 60.0


class FarmRuns:
    """Measures one step after the other; `seconds` has the figures of each."""

    def __init__(self, render: RenderClient, address: str, task_queue: str, folder: Path) -> None:
        self._render = render
        self._address = address
        self._queue = task_queue
        self._store = folder / "store"
        self._store.mkdir()
        self._beacons = folder / "beacons"
        self.seconds: dict[str, list[float]] = {}

    async def measure_control(self, runs: int) -> None:
        """Measure cancel, pause and freeze on one worker."""
        async with worker_process(self._address, self._queue, self._store, slots=4):
            for _ in range(runs):
                await self._measure_cancel()
            job, folder = await self._submit(chunks=1)
            for _ in range(runs):
                await self._measure_freeze(job, folder)
            for _ in range(runs):
                await self._measure_pause_now(job, folder)
            await job.cancel(wait=True)

    async def measure_cancel_of_many(self, runs: int, chunks: int) -> None:
        """Measure the cancel of a job many of whose chunks run on one worker."""
        async with worker_process(self._address, self._queue, self._store, slots=chunks):
            for _ in range(runs):
                job, folder = await self._submit(chunks=chunks)
                beacons = map(SignalLog, await self._wait_until_begun(folder, chunks))
                renders = [seen for beacon in beacons if (seen := look(beacon.pid())) is not None]
                assert len(renders) == chunks
                proof = asyncio.create_task(_wait_until_cancelled(job))
                # The long poll for the result must be sent before the clock starts.
                await asyncio.sleep(0.05)
                began = time.monotonic()
                await job.cancel()
                gone = await asyncio.to_thread(_block_until_gone, renders)
                self._note("cancel of many to no process left", gone - began)
                self._note("cancel of many to proof", await proof - began)

    async def measure_kill(self, runs: int) -> None:
        """Measure end and next start of a killed worker's renders; a run has four and lasts a heartbeat timeout."""
        for _ in range(runs):
            worker = worker_process(self._address, self._queue, self._store, slots=_KILLED_CHUNKS)
            async with worker as first:
                job, folder = await self._submit(chunks=_KILLED_CHUNKS)
                before = await self._wait_until_begun(folder, _KILLED_CHUNKS)
                async with worker_process(self._address, self._queue, self._store, slots=_KILLED_CHUNKS):
                    began = time.monotonic()
                    self._note("kill -9 to no process left", _kill_worker(first) - began)
                    again = await self._wait_until_begun(folder, 2 * _KILLED_CHUNKS)
                    for beacon in again - before:
                        self._note("kill -9 to next start", SignalLog(beacon).ready() - began)
                    await job.cancel(wait=True)

    async def _measure_cancel(self) -> None:
        job, folder = await self._submit(chunks=1)
        (path,) = await self._wait_until_begun(folder, 1)

        proven = asyncio.create_task(_wait_until_cancelled(job))
        # The long poll for the result must be sent before the clock starts.
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await job.cancel()
        self._note("cancel to proof", await proven - began)
        self._note("cancel to notice", SignalLog(path).term() - began)

    async def _measure_freeze(self, job: JobHandle, folder: Path) -> None:
        (path,) = await self._wait_until_begun(folder, 1)
        beacon = SignalLog(path)
        pids = [beacon.pid()]
        began = time.monotonic()
        await job.pause(mode=PauseMode.FREEZE)
        self._note("freeze to frozen", await asyncio.to_thread(beacon.until_stopped, pids) - began)
        await self._wait_for_status(job, lambda status: status.state is JobState.PAUSED)
        self._note("freeze to job paused", time.monotonic() - began)
        began = time.monotonic()
        await job.resume()
        self._note("thaw to running", await asyncio.to_thread(beacon.until_tick, began) - began)
        await self._wait_for_status(job, lambda status: status.state is JobState.RUNNING)

    async def _measure_pause_now(self, job: JobHandle, folder: Path) -> None:
        began = time.monotonic()
        await job.pause(mode=PauseMode.NOW)
        await self._wait_for_status(job, lambda status: status.state is JobState.PAUSED)
        self._note("pause now to idle", time.monotonic() - began)
        known = len(_find_begun(folder))
        await job.resume()
        await self._wait_until_begun(folder, known + 1)

    async def _submit(self, *, chunks: int) -> tuple[JobHandle, Path]:
        """Submit a job whose renderers write their signal times below a folder, and never end by themselves."""
        folder = self._beacons / uuid.uuid4().hex[:12]
        job = RenderJobSpec(
            name="lifecycle",
            frames=FrameRange(count=chunks, per_chunk=1),
            command=(*signal_logging_renderer(f"{folder}/{{chunk}}/"), "{output}"),
            chunk_output="out/{chunk:06}.txt",
            base_dir=str(self._store),
            if_exists="replace",
            max_parallel=chunks,
            timeouts=Timeouts(grace_seconds=2),
        )
        return await self._render.submit(job), folder

    async def _wait_until_begun(self, folder: Path, count: int) -> set[Path]:
        """Wait until this many renders of a job have begun; return their files."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while len(found := _find_begun(folder)) < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{len(found)} of {count} renders began in {_PATIENCE_SECONDS:g} s")
            await asyncio.sleep(0.01)
        return found

    async def _wait_for_status(self, job: JobHandle, reached: Callable[[JobStatus], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            async for status in job.watch(interval_seconds=0.02):
                if reached(status):
                    return

    def _note(self, step: str, seconds: float) -> None:
        self.seconds.setdefault(step, []).append(seconds)


async def _wait_until_cancelled(job: JobHandle) -> float:
    """Return the time at which a job was reported cancelled."""
    try:
        await job.result()
    except JobCancelledError:
        return time.monotonic()
    raise AssertionError(f"{job.id} completed although it waits for ever")


def _find_begun(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.txt") if path.read_text().startswith("ready")}


def _kill_worker(worker: WorkerProcess) -> float:
    """Kill a worker; return the time at which all its processes had ended."""
    processes = descendants(worker.pid)
    worker.kill()
    return _block_until_gone(processes)


def _block_until_gone(processes: Sequence[Seen]) -> float:
    """Return the time at which all of some processes had ended."""
    return block_until(lambda: not any(map(still_there, processes)), "the processes end")

"""What integration tests say about jobs: making them, steering their renderer, waiting for what they do."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.heartbeat_budget import find_budget
from activities.processes.supervisor import Supervisor
from activities.settings import WorkerSettings
from activities.stores.job_folder import JobFolder, encode_record
from longtake import FrameRange, JobHandle, JobPhase, JobState, JobStatus, RenderClient, RenderJobSpec, Retry, Timeouts
from longtake.errors import LongtakeError
from longtake.render_user import find_render_user
from longtake.stores.directory import DirectoryStore
from worker import build_workers

RENDERER = Path(__file__).parent / "renderers" / "renderer.py"

# Long enough for a loaded machine, short enough that a hang fails as a test.
PATIENCE_SECONDS = 120.0


def worker_settings(task_queue: str, root: Path, *, slots: int) -> WorkerSettings:
    return WorkerSettings(task_queue=task_queue, roots=(root.resolve(),), slots=slots, shutdown_grace_seconds=0)


@asynccontextmanager
async def serving(client: Client, settings: WorkerSettings, *, search_attributes: bool = True) -> AsyncIterator[None]:
    """Run workers in this process."""
    async with AsyncExitStack() as stack:
        user, nice = find_render_user(settings.render_user), settings.render_nice
        supervisor = await stack.enter_async_context(Supervisor(user=user, nice=nice))
        budget = await find_budget(client)
        for worker in build_workers(client, settings, supervisor, search_attributes=search_attributes, budget=budget):
            await stack.enter_async_context(worker)
        yield


def workers_of(client: Client, settings: WorkerSettings) -> list[Worker]:
    """Return the workers of a process that is not run: what they offer can be looked at."""
    return build_workers(client, settings, Supervisor(), search_attributes=True)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def standing(pid: int) -> bool:
    """Tell whether a process is stopped where it was."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fail with `what` after a bounded time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        waited = loop.time() - began
        assert waited < PATIENCE_SECONDS, f"waited {PATIENCE_SECONDS:g} s in vain: {what}"
        # Looks into a bucket or at all processes keep a core busy where they are made without a pause.
        await asyncio.sleep(min(max(0.01, waited / 10), 0.1))


@dataclass
class Ledger:
    """What the renderer wrote down: one line a start and one an end."""

    path: Path

    def lines(self, word: str) -> list[list[str]]:
        if not self.path.exists():
            return []
        return [line.split() for line in self.path.read_text().splitlines() if line.startswith(f"{word} ")]

    @property
    def started(self) -> list[int]:
        return [int(line[1]) for line in self.lines("start")]

    @property
    def ended(self) -> list[int]:
        return [int(line[1]) for line in self.lines("end")]

    @property
    def pids(self) -> list[int]:
        return [int(line[2]) for line in self.lines("start")]

    async def until_started(self, count: int) -> None:
        await eventually(lambda: len(self.started) >= count, f"{count} renders start; started: {self.started}")

    async def until_ended(self, count: int) -> None:
        await eventually(lambda: len(self.ended) >= count, f"{count} renders end; ended: {self.ended}")


@dataclass
class Farm:
    """A store, a queue with workers, and clients of both."""

    address: str
    task_queue: str
    client: Client
    render: RenderClient
    store: Path
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.store.parent / "ledger.txt")

    @property
    def gate(self) -> Path:
        """Renders told to wait go on when this file is there."""
        return self.store.parent / "gate"

    def open_gate(self, *chunks: int) -> None:
        """Let all renders go on that wait, or those of some chunks, where each has a gate of its own: `{gate}.N`."""
        for gate in [Path(f"{self.gate}.{chunk}") for chunk in chunks] or [self.gate]:
            gate.touch()

    def close_gate(self) -> None:
        self.gate.unlink(missing_ok=True)

    def job(self, *, chunks: int = 4, options: tuple[str, ...] = (), **fields: Any) -> RenderJobSpec:
        """Return a job of tiny text outputs, rendered by `renderer.py` with these options."""
        fields = {
            "name": "test",
            "frames": FrameRange(count=chunks, per_chunk=1),
            "command": renderer(self.ledger, *options),
            "chunk_output": "out/{chunk:06}.txt",
            "base_dir": str(self.store),
            "retry": Retry(attempts=1),
            "timeouts": Timeouts(grace_seconds=2),
            **fields,
        }
        return RenderJobSpec(**fields)

    async def submit(self, job: RenderJobSpec) -> JobHandle:
        return await self.render.submit(job, id=f"job-{uuid.uuid4().hex[:12]}")

    async def started(self, *, chunks: int = 6, running: int = 2, **fields: Any) -> JobHandle:
        """Return a job whose first chunks run and wait for the gate."""
        options = ("--gate", str(self.gate), *fields.pop("options", ()))
        job = await self.submit(self.job(chunks=chunks, options=options, max_parallel=running, **fields))
        await self.ledger.until_started(running)
        return job

    async def held(self, *failed: int, chunks: int = 4) -> JobHandle:
        """Return a job that holds, as each of some chunks failed once.

        All render before one fails: a job that holds takes back what has not begun.
        """
        only = [option for chunk in failed for option in ("--only", str(chunk))]
        options = ("--fail-times", "1", *only, "--gate", str(self.gate))
        job = await self.submit(self.job(chunks=chunks, options=options, on_chunk_failure="hold"))
        await self.ledger.until_started(chunks)
        self.open_gate()
        await until(job, lambda status: status.phase is JobPhase.HOLDING and status.failed_chunks == len(failed))
        return job

    async def run(self, job: RenderJobSpec) -> JobStatus:
        """Submit a job and return how it ended."""
        handle = await self.submit(job)
        await _until_end(handle)
        return await until(handle, lambda status: status.state.has_ended)

    def sidecar(self, job_id: str, chunk: int) -> Path:
        return self.store / ".longtake" / job_id / "chunks" / f"{chunk:06}.json"

    def record(self, job_id: str, chunk: int) -> bytes:
        """Return the record of a finished chunk, wherever it stands."""
        return self.sidecars(job_id)[f"{chunk:06}.json"]

    def is_finished(self, job_id: str, chunk: int) -> bool:
        """Tell whether a chunk has a record of its own, or in a segment."""
        return f"{chunk:06}.json" in self.sidecars(job_id)

    def sidecars(self, job_id: str) -> dict[str, bytes]:
        """Return the records of all finished chunks of a job, to be compared later."""
        return read_sidecars(self.store, job_id)


def read_sidecars(store: Path, job_id: str) -> dict[str, bytes]:
    """Return the records of all finished chunks of a job in a folder, by the names that their sidecars have."""
    records = JobFolder(DirectoryStore(store), job_id).finished_sidecars()
    return {f"{record.key}.json": encode_record(record) for record in records}


def renderer(ledger: Ledger, *options: str) -> tuple[str, ...]:
    """Return the command of the test renderer."""
    program = (sys.executable, "-S", "-E", str(RENDERER))
    return (*program, "{output}", "--chunk", "{chunk}", "--count", "{count}", "--ledger", str(ledger.path), *options)


async def until(job: JobHandle, reached: Callable[[JobStatus], bool]) -> JobStatus:
    """Return the first status that is as wanted; fail with the last one after a bounded time.

    One of a job that has ended comes when its workflow has ended as well: a report is written between the two.
    """
    status: JobStatus | None = None
    end: asyncio.Task[None] | None = None
    pause = 0.05
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                status = await job.status()
                if reached(status):
                    if not status.state.has_ended:
                        return status
                    await _until_end(job)
                    return await job.status()
                if status.state.has_ended:
                    break
                # A look keeps a worker and the server busy for longer than it takes to render a text: looks become
                # rarer, and the end of a job is told by the server.
                end = end or asyncio.ensure_future(_until_end(job))
                await (asyncio.sleep(pause) if end.done() else asyncio.wait({end}, timeout=pause))
                pause = min(1.5 * pause, 0.25)
    except TimeoutError:
        pass
    finally:
        if end is not None:
            end.cancel()
            await asyncio.wait({end})
    raise AssertionError(f"the job never got there; last seen: {status}")


async def until_state(job: JobHandle, state: JobState) -> JobStatus:
    if state.has_ended:
        await _until_end(job)
    return await until(job, lambda status: status.state is state)


async def _until_end(job: JobHandle) -> None:
    """Return when a job has ended in whatever way, when nobody can tell, or after a bounded time."""
    with suppress(LongtakeError, RPCError, TimeoutError):
        await asyncio.wait_for(job.result(), PATIENCE_SECONDS)


# Some heartbeat timeouts and workflow task timeouts of 10 s, one after the other.
_OUTAGE_SECONDS = 180.0


async def until_ended_despite_outages(job: JobHandle) -> JobStatus:
    """Return how a job ended; a server that is away for a moment is no answer."""
    status: JobStatus | None = None
    try:
        async with asyncio.timeout(_OUTAGE_SECONDS):
            while True:
                try:
                    status = await job.status()
                except (LongtakeError, RPCError):
                    continue
                finally:
                    await asyncio.sleep(0.25)
                if status.state.has_ended:
                    return status
    except TimeoutError:
        raise AssertionError(f"the job never ended; last seen: {status}") from None

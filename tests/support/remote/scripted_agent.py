"""A service whose agents do as tests tell them: real records in a real store, and no process."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from activities.backends.backend import Progress
from activities.errors import AttemptError
from activities.remote.attempt import RemoteAttempt
from activities.remote.call_records import AgentTimeouts, CallRecords, RemoteHost
from activities.remote.protocol import RemoteOrder, RemoteOutcome, RemoteProgress, RemoteResult, verify
from activities.remote.service import HeliosResult, ServiceAnswer, ignore_send
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar
from activities.stores.publish import publish, stage_files
from longtake import FrameRange, RenderJobSpec
from longtake.models.backends import LambdaBackend
from longtake.models.messages import JobRef
from longtake.models.status import RemoteStop
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key

SECRET = "a-secret-of-the-tests"
KEY = chunk_key(0)

# The proportions of a worker's own patience, a fiftieth of it: an agent here beats every 10 ms.
HASTE = AgentTimeouts(look_seconds=0.02, begin_seconds=1.0, silent_seconds=0.4, crashed_seconds=0.1, stop_seconds=1.0)
BEAT_SECONDS = 0.01


class ScriptedAgent:
    """One agent at one order."""

    def __init__(self, job: OpenJob, order: RemoteOrder) -> None:
        self.order = order
        self.name = order.attempt
        self.calls = CallRecords(job.folder, chunk_key(order.chunk))
        self._job = job
        self._beat = 0

    def begin(self) -> None:
        assert self.calls.begin(self.name), f"{self.name} was begun before"
        self.beat()

    def beat(self, frames: int = 0, **fields: Any) -> None:
        self._beat += 1
        self.calls.report(self.name, RemoteProgress(beat=self._beat, frames_done=frames, **fields))

    async def work(self, until: asyncio.Event) -> bool:
        """Beat until the event, or until it is told to stop; return whether it may go on."""
        while not until.is_set():
            if self.calls.is_stopped(self.name):
                return False
            self.beat(1)
            with suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), BEAT_SECONDS)
        return True

    async def render(self, until: asyncio.Event) -> ServiceAnswer:
        """Do what a good agent does: begin, work, publish or stop, say so."""
        self.begin()
        if not await self.work(until):
            return self.say(RemoteOutcome.STOPPED, error="told to stop")
        self.publish()
        return self.say(RemoteOutcome.PUBLISHED)

    def publish(self) -> Sidecar:
        folder = self._job.folder
        chunk = self._job.chunks[self.order.chunk]
        place = Path(folder.attempt_dir(chunk_key(chunk.index), self.name))
        made = place / chunk.outputs()[0]
        made.parent.mkdir(parents=True)
        made.write_text(self.name)
        targets = [self._job.target(chunk.outputs()[0])]
        files = stage_files(folder, [made], str(place), targets)
        key = chunk_key(chunk.index)
        return publish(folder, Sidecar(key=key, digest="d", attempt=self.name, frames=chunk.count, files=files))

    def say(self, outcome: RemoteOutcome, **fields: Any) -> ServiceAnswer:
        """Give the last word, in the store and as the answer."""
        result = RemoteResult(attempt=self.name, outcome=outcome, **{"billed_seconds": 2.0, **fields})
        self.calls.finish(result)
        return ServiceAnswer(200, result.model_dump_json().encode())


Script = Callable[[ScriptedAgent], Awaitable[ServiceAnswer]]


class ScriptedService:
    """Calls go to these scripts, one after the other; an agent lives on when its caller hangs up."""

    where = "lambda scripted"
    most_seconds = 900.0

    def __init__(self, job: OpenJob) -> None:
        self._job = job
        self.scripts: list[Script] = []
        self.agents: list[ScriptedAgent] = []
        self.work: list[asyncio.Future[ServiceAnswer]] = []
        self.hung_up = 0
        # Whether calls never get as far as the service.
        self.unreachable = False
        self.reached_for = asyncio.Event()

    async def call(self, payload: Mapping[str, Any], *, on_send: Callable[[], None] = ignore_send) -> ServiceAnswer:
        if self.unreachable:
            self.reached_for.set()
            await asyncio.Event().wait()
        on_send()
        order = verify(json.dumps(payload).encode(), SECRET)
        agent = ScriptedAgent(self._job, order)
        assert agent.calls.call(order.attempt) is not None, "the call is written down before it is made"
        self.agents.append(agent)
        work = asyncio.ensure_future(self.scripts[len(self.agents) - 1](agent))
        self.work.append(work)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self.hung_up += 1
            raise

    def parse_result(self, answer: ServiceAnswer) -> RemoteResult:
        if answer.status != 200:
            raise AttemptError(answer.body.decode())
        return RemoteResult.model_validate_json(answer.body)

    def parse_helios_answer(self, answer: ServiceAnswer, *, lenient: bool) -> HeliosResult:
        raise AssertionError("no Helios worker")


class Watcher:
    """Hears of a chunk, and orders its freezes."""

    most_grace_seconds = 60.0

    def __init__(self) -> None:
        self.freeze_order = 0
        self.frozen_by: list[int] = []
        self.heard: list[Progress] = []

    def on_frozen(self, order: int) -> None:
        if order != (self.frozen_by or [0])[-1]:
            self.frozen_by.append(order)

    def on_progress(self, progress: Progress) -> None:
        self.heard.append(progress)


class Remote:
    """A chunk, a service for it, and attempts of workers at it."""

    def __init__(self, store: Path) -> None:
        spec = RenderJobSpec(
            frames=FrameRange(count=4, per_chunk=2),
            command=("render", "{output}"),
            chunk_output="out/{chunk:06}.txt",
            backend="lambda",
            base_dir=str(store),
        )
        self.folder = JobFolder(DirectoryStore(store), "job")
        self.job = OpenJob(self.folder, JobRef(id="job", base_dir=str(store), digest=spec.digest()), spec, None)
        self.calls = CallRecords(self.folder, KEY)
        self.service = ScriptedService(self.job)
        self.slots = asyncio.Semaphore(4)
        self.watcher = Watcher()
        # What a cancel means to the worker: whether it leaves its agent at work.
        self.is_left = False

    def host(self, **timeouts: float) -> RemoteHost:
        """Return what a worker offers to attempts at the chunk."""
        return RemoteHost(
            secret=SecretStr(SECRET),
            price=lambda backend, result: result.billed_seconds / 1000,
            is_left_running=self._left,
            timeouts=replace(HASTE, **timeouts),
        )

    def attempt(self, name: str, *, chunk: int = 0, **timeouts: float) -> "Trying":
        """Return an attempt at a chunk that has begun."""
        chunks, backend = self.job.chunks, LambdaBackend()
        attempt = RemoteAttempt(self.host(**timeouts), backend, self.service, self.slots, self.job, chunks[chunk], name)
        return Trying(attempt, self.watcher)

    def agent(self, name: str) -> ScriptedAgent:
        """Return an agent of a call that some other worker has made."""
        return ScriptedAgent(self.job, RemoteOrder(ref=self.job.ref, chunk=0, attempt=name, seconds=9, issued_at=0))

    async def _left(self) -> bool:
        return self.is_left

    async def close(self) -> None:
        """End agents that tests left at work."""
        for work in self.service.work:
            work.cancel()
        await asyncio.gather(*self.service.work, return_exceptions=True)


class Trying:
    """An attempt that runs beside the test."""

    def __init__(self, attempt: RemoteAttempt, watcher: Watcher) -> None:
        self.attempt = attempt
        self.task = asyncio.ensure_future(attempt.run(watcher))

    async def sidecar(self) -> Sidecar:
        return await asyncio.wait_for(self.task, 60)

    async def cancelled(self) -> RemoteStop | None:
        """Cancel it; return what became of its agent."""
        self.task.cancel()
        await asyncio.wait([self.task], timeout=30)
        assert self.task.cancelled()
        return self.attempt.stop

"""A remote try that is cancelled, with real agents: its connection, its processes, and one outcome at every moment."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
import pytest_asyncio
from pydantic import SecretStr
from support.farm import Ledger, alive, eventually, renderer
from support.measurements import Distribution
from support.remote.agent_farm import FUNCTION, SECRET, Services, services
from support.remote.scripted_agent import Watcher

from activities.remote.attempt import RemoteAttempt
from activities.remote.aws_lambda import LambdaFunction
from activities.remote.call_records import CallRecords, RemoteHost
from activities.remote.cloud_run import CloudRunService
from activities.remote.protocol import RemoteOutcome
from activities.remote.service import Service
from activities.stores.job_folder import JobFolder, OpenJob, Sidecar
from longtake import FrameRange, RenderJobSpec, Timeouts
from longtake.models.backends import BackendKind, CloudRunBackend, LambdaBackend
from longtake.models.messages import JobRef
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Scene:
    """A service with real agents, and a job with a chunk for each run."""

    kind: BackendKind
    service: Service
    running: Services
    folder: Path
    jobs: int = 0

    @property
    def gate(self) -> Path:
        """Renders told to wait go on when this file is there."""
        return self.folder / "gate"

    def open_gate(self) -> None:
        self.gate.touch()

    def close_gate(self) -> None:
        self.gate.unlink(missing_ok=True)

    def job(self, *options: str) -> tuple[OpenJob, Ledger]:
        """Return a new job whose renders have a child, and the ledger of their processes."""
        self.jobs += 1
        store = self.folder / "store"
        ledger = Ledger(self.folder / f"ledger-{self.jobs}.txt")
        spec = RenderJobSpec(
            frames=FrameRange(count=100, per_chunk=1),
            command=renderer(ledger, "--child", *options),
            chunk_output=f"{self.jobs}/{{chunk:06}}.txt",
            backend=self.kind.value,
            base_dir=str(store),
            timeouts=Timeouts(grace_seconds=2),
        )
        folder = JobFolder(DirectoryStore(store), f"job-{self.jobs}")
        folder.create(spec, None)
        return OpenJob(folder, JobRef(id=folder.job_id, base_dir=str(store), digest=spec.digest()), spec, None), ledger

    def attempt(self, job: OpenJob, chunk: int, *, slots: int = 8) -> RemoteAttempt:
        host = RemoteHost(secret=SecretStr(SECRET), price=lambda *_: 0.0, is_left_running=_wanted_no_more)
        backend = LambdaBackend() if self.kind is BackendKind.LAMBDA else CloudRunBackend()
        name = f"a-{chunk}"
        return RemoteAttempt(host, backend, self.service, asyncio.Semaphore(slots), job, job.chunks[chunk], name)

    def closed(self) -> int:
        """Return how many callers the service has seen hang up."""
        if self.running.service is not None:
            return sum(bool(invocation.caller_gone) for invocation in self.running.service.invocations)
        return self._log().count("its caller hung up")

    def reached(self) -> int:
        """Return how many orders have come to the service."""
        if self.running.service is not None:
            return len(self.running.service.arrivals)
        return self._log().count("is begun as")

    def _log(self) -> str:
        (log,) = self.folder.glob("cloud-run-*.log")
        return log.read_text(errors="replace")


async def _wanted_no_more() -> bool:
    return False


@asynccontextmanager
async def scene_of(kind: BackendKind, folder: Path) -> AsyncIterator[Scene]:
    (folder / "store").mkdir()
    async with services(kind, (str(folder / "store"),), folder) as running:
        service: Service
        if kind is BackendKind.LAMBDA:
            service = LambdaFunction(FUNCTION, concurrency=8)
        else:
            service = CloudRunService(running.url, concurrency=8)
        yield Scene(kind, service, running, folder)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[BackendKind.LAMBDA, BackendKind.CLOUD_RUN], ids=str
)
async def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with scene_of(request.param, tmp_path_factory.mktemp("aborts")) as scene:
        yield scene


async def seconds_until(condition: Callable[[], bool], since: float) -> float:
    """Return how much later something is so, looking every few milliseconds."""
    await eventually(condition, "what a cancel must bring about")
    return time.monotonic() - since


async def abort(scene: Scene, job: OpenJob, ledger: Ledger, chunk: int) -> tuple[float, float, float]:
    """Cancel a try at work; return when its connection was closed, its tree gone, and its end confirmed."""
    attempt = scene.attempt(job, chunk)
    trying = asyncio.ensure_future(attempt.run(Watcher()))
    await eventually(lambda: len(ledger.lines("child")) > chunk, f"render {chunk} runs")
    tree = [ledger.pids[-1], int(ledger.lines("child")[-1][2])]
    assert all(map(alive, tree))
    before = scene.closed()

    noticed = time.monotonic()
    trying.cancel()
    closed, gone = await asyncio.gather(
        seconds_until(lambda: scene.closed() > before, noticed),
        seconds_until(lambda: not any(map(alive, tree)), noticed),
    )
    await asyncio.wait([trying])
    assert trying.cancelled()
    assert attempt.stop is not None
    assert attempt.stop.confirmed
    return closed, gone, attempt.stop.seconds


@pytest.mark.timed
@pytest.mark.slow
async def test_a_cancel_closes_the_connection_at_once_and_ends_the_tree_within_two_seconds(
    scene: Scene, runs: int
) -> None:
    job, ledger = scene.job("--gate", str(scene.folder / "never"))

    seconds = [await abort(scene, job, ledger, chunk) for chunk in range(runs)]

    closed, gone, confirmed = zip(*seconds, strict=True)
    print(
        f"\n{scene.kind}: from the worker's notice to the connection closed at the service: {Distribution.of(closed)}"
    )
    print(f"{scene.kind}: to no process left: {Distribution.of(gone)}")
    print(f"{scene.kind}: to the confirmation: {Distribution.of(confirmed)}")
    assert median(closed) < 0.1
    assert max(closed) < 0.5, "generous: the machine is shared"
    assert max(gone) < 2


async def race(scene: Scene, job: OpenJob, ledger: Ledger, chunk: int, seconds: float) -> tuple[str, str]:
    """Cancel a try so much later than its render may end; return what the agent and the try came to."""
    scene.close_gate()
    attempt = scene.attempt(job, chunk)
    trying: asyncio.Future[Sidecar] = asyncio.ensure_future(attempt.run(Watcher()))
    await eventually(lambda: len(ledger.pids) > chunk, f"render {chunk} runs")
    scene.open_gate()
    await asyncio.sleep(seconds)
    trying.cancel()
    await asyncio.wait([trying])

    key = chunk_key(chunk)
    sidecar, result = job.folder.sidecar(key), CallRecords(job.folder, key).result(f"a-{chunk}")
    assert result is not None, "the agent has said its last word"
    assert (result.outcome is RemoteOutcome.PUBLISHED) is (sidecar is not None)
    assert result.outcome in (RemoteOutcome.PUBLISHED, RemoteOutcome.STOPPED)
    assert attempt.stop is None or attempt.stop.confirmed
    if trying.cancelled():
        return result.outcome.value, "cancelled"
    assert trying.result() == sidecar
    return result.outcome.value, "returned"


async def test_a_cancel_as_the_answer_arrives_has_one_outcome(scene: Scene, runs: int) -> None:
    job, ledger = scene.job("--gate", str(scene.gate))
    chances = random.Random(5)

    outcomes = [await race(scene, job, ledger, chunk, chances.uniform(0, 0.6)) for chunk in range(runs)]

    print(f"\n{scene.kind}: {dict(Counter(outcomes))}")
    assert not any(map(alive, ledger.pids))


async def test_a_chunk_that_is_cancelled_before_its_turn_never_reaches_the_service(scene: Scene) -> None:
    job, ledger = scene.job()
    attempt = scene.attempt(job, 0, slots=0)
    before = scene.reached()
    trying = asyncio.ensure_future(attempt.run(Watcher()))
    await asyncio.sleep(0.3)
    trying.cancel()
    await asyncio.wait([trying])

    assert attempt.stop is None
    assert scene.reached() == before
    assert CallRecords(job.folder, chunk_key(0)).attempts() == []
    assert ledger.pids == []

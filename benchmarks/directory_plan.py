"""Measure the activity that plans a job whose chunks are published in a folder: seconds, and memory of its process."""

import asyncio
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.farm import worker_settings  # noqa: E402  # the root is not on the path of a script that lies elsewhere
from support.jobs.published_chunks import publish_chunks  # noqa: E402
from temporalio.testing import ActivityEnvironment  # noqa: E402

from activities.acceptance import Acceptance  # noqa: E402
from activities.allowed_stores import AllowedStores  # noqa: E402
from activities.attempts.host import Host, build_host  # noqa: E402
from activities.plan import PlanActivities  # noqa: E402
from activities.processes.supervisor import Supervisor  # noqa: E402
from longtake import RenderJobSpec  # noqa: E402
from longtake.models.messages import PlanOrder  # noqa: E402

# What tells that the chunks are finished; with `reused`, segments of another job.
RECORDS = ("none", "segments", "sidecars", "reused")


@dataclass(frozen=True)
class Planned:
    """What one plan took.

    Attributes:
        seconds: From the start of the activity to its end.
        cpu_seconds: CPU time of that, which other work on the machine changes less.
        peak_bytes: Most memory of the worker's process.
        grown_bytes: How much more that is than before.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    grown_bytes: int


def measure(chunks: int, records: str, folder: Path) -> Planned:
    """Publish the chunks of a job, and plan it in a process of its own.

    Args:
        chunks: Chunks of the job, of one file each.
        records: One of `RECORDS`.
        folder: An empty folder.
    """
    store = folder / "store"
    store.mkdir()
    if records != "none":
        order = _order(store, chunks)
        job = Acceptance(order, _build_host(folder / "seeder"), AllowedStores([store])).run()
        publish_chunks(job, in_segments=records != "sidecars")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        order = _order(store, chunks, id="twin" if records == "reused" else "job")
        return pool.submit(_plan, store, order, chunks if records != "none" else 0).result()


def _plan(store: Path, order: PlanOrder, finished: int) -> Planned:
    host = _build_host(store.parent / "planner")
    settings = worker_settings("plan", store, slots=1)
    make_allowed, check = (lambda: AllowedStores([store])), (lambda job: None)
    plan = PlanActivities(host, make_allowed, check, settings.receivers, search_attributes=True)
    before, began, cpu = _read_memory("VmRSS"), time.monotonic(), time.process_time()
    planned = asyncio.run(ActivityEnvironment().run(plan.plan_job, order))
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    assert sum(stop - start for start, stop in planned.done) == finished
    peak = _read_memory("VmHWM")
    return Planned(seconds, cpu, peak, peak - before)


def _build_host(folder: Path) -> Host:
    tools = folder / "tools"
    tools.mkdir(parents=True)
    settings = worker_settings("plan", folder, slots=1).model_copy(update={"scratch": folder / "scratch"})
    return build_host(settings, Supervisor(), tools=tools)


def _order(store: Path, chunks: int, *, id: str = "job") -> PlanOrder:
    job = RenderJobSpec(
        name="plan",
        frames={"count": chunks, "per_chunk": 1},
        command=(sys.executable, "{output}"),
        chunk_output="out/{chunk:07}.txt",
        base_dir=str(store),
        if_exists="reuse",
    )
    return PlanOrder(id=id, job=job)


def _read_memory(field: str) -> int:
    # Not `ru_maxrss`, which begins with the memory of the process that has started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))

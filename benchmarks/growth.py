"""Measure what grows with the number of chunks: histories, the server's database, the worker's memory, time a chunk."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from local_farm import LocalFarm, run_farm, run_free_farm
from reports import Part, Table
from temporalio.client import Client

from longtake import FrameRange, RenderJobSpec

_SLOTS = 4
_LOOK_SECONDS = 0.2
_PROGRAM = "cp"

# What a chunk that costs nothing says that it took: spans are as long as those of quick frames.
FREE_SECONDS = 0.01


@dataclass(frozen=True)
class Growth:
    """What a job of some size left behind.

    Attributes:
        chunks: Chunks of the job.
        seconds: From submission to the end.
        runs: Workflow runs.
        most_events: Events of the longest of them.
        history_bytes: Histories of all of them.
        database_bytes: What the server's database grew by.
        worker_bytes: Most memory of the worker process.
        cpu_seconds: CPU time of the worker, what it has started, and the server; other work on the machine changes that
            less than it does seconds.
    """

    chunks: int
    seconds: float
    runs: int
    most_events: int
    history_bytes: int
    database_bytes: int
    worker_bytes: int
    cpu_seconds: float


async def measure(
    *,
    sizes: Sequence[int],
    limit_seconds: float,
    chunk_seconds: float,
    place: Path,
    on_message: Callable[[str], None],
) -> Part:
    """Measure each size twice: with chunks that copy a small file, and with chunks that are not even a process.

    Args:
        sizes: Chunks of the jobs, ascending.
        limit_seconds: Sizes that would take longer, by what a chunk of the size before took, are left out.
        chunk_seconds: What chunks that cost nothing say that they took.
        place: Where outputs and databases go.
        on_message: Called with a line for each job.
    """
    rows, figures, notes = [], {}, []
    kinds = {f"`{_PROGRAM}` by the real worker": None, "none": chunk_seconds}
    for kind, free_seconds in kinds.items():
        found: list[Growth] = []
        for size in sizes:
            if found and (needed := size * found[-1].seconds / found[-1].chunks) > limit_seconds:
                notes.append(f"{size:,} chunks, render {kind}: left out, for they would take about {needed:,.0f} s.")
                on_message(notes[-1])
                continue
            one = await measure_size(size, free_seconds, place, limit_seconds)
            if one is None:
                notes.append(f"{size:,} chunks, render {kind}: stopped after {limit_seconds:g} s.")
                on_message(notes[-1])
                break
            found.append(one)
            on_message(f"growth, {kind}: {size:,} chunks in {one.seconds:.1f} s, {one.most_events:,} events at most")
            rows.append(_make_row(kind, one, found[0]))
        figures[kind] = [asdict(one) for one in found]
    title = (
        f"Jobs of growing size, {_SLOTS} slots: time a chunk, to that of the smallest; CPU time a chunk; workflow runs "
        "and the events of the longest; bytes of all histories and of the server's database; most memory of the worker."
    )
    columns = (
        "render",
        "chunks",
        "ms a chunk",
        "to the smallest",
        "CPU ms a chunk",
        "runs",
        "events of a run at most",
        "history, KB",
        "database, KB",
        "worker, MB",
    )
    return Part("growth", title, Table(columns, rows), figures, notes=notes)


async def measure_size(size: int, free_seconds: float | None, place: Path, limit_seconds: float) -> Growth | None:
    """Measure a job of a size; return None where it takes longer than it may.

    Args:
        size: Chunks of the job.
        free_seconds: What chunks that are no process say that they took; None for real ones.
        place: Where outputs and databases go.
        limit_seconds: When it is stopped.
    """
    with tempfile.TemporaryDirectory(prefix="growth-", dir=place) as name:
        folder = Path(name)
        store = folder / "store"
        store.mkdir()
        seed = folder / "seed.txt"
        seed.write_text("nothing to render\n")
        job = RenderJobSpec(
            name="growth",
            frames=FrameRange(count=size, per_chunk=1),
            command=(_PROGRAM, str(seed), "{output}"),
            chunk_output="out/{chunk:07}.txt",
            base_dir=str(store),
            max_parallel=_SLOTS,
        )
        farm = (
            run_farm(folder, store, slots=_SLOTS, commands=(_PROGRAM,))
            if free_seconds is None
            else run_free_farm(folder, store, slots=_SLOTS, chunk_seconds=free_seconds)
        )
        async with farm as running:
            before, cpu = running.database_bytes, running.cpu_seconds
            began = time.monotonic()
            try:
                async with asyncio.timeout(limit_seconds), _watch_memory(running) as memory:
                    handle = await running.render.submit(job)
                    await handle.result()
            except TimeoutError:
                return None
            seconds, cpu = time.monotonic() - began, running.cpu_seconds - cpu
            events, sizes = await _read_histories(running.client)
            grown = running.database_bytes - before
    return Growth(size, seconds, len(events), max(events), sum(sizes), grown, max(memory), cpu)


@asynccontextmanager
async def _watch_memory(farm: LocalFarm) -> AsyncIterator[list[int]]:
    """Collect what the worker's memory is, in the block."""
    found = [farm.worker_bytes]

    async def watch() -> None:
        while True:
            found.append(farm.worker_bytes)
            await asyncio.sleep(_LOOK_SECONDS)

    watcher = asyncio.create_task(watch())
    try:
        yield found
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _read_histories(client: Client) -> tuple[list[int], list[int]]:
    """Return the number of events, and the bytes, of each workflow run of the namespace."""
    events, sizes = [], []
    async for run in client.list_workflows():
        described = await client.get_workflow_handle(run.id, run_id=run.run_id).describe()
        info = described.raw_description.workflow_execution_info
        events.append(info.history_length)
        sizes.append(info.history_size_bytes)
    return events, sizes


def _make_row(kind: str, one: Growth, smallest: Growth) -> list[str]:
    each, first = one.seconds / one.chunks, smallest.seconds / smallest.chunks
    return [
        kind,
        f"{one.chunks:,}",
        f"{1000 * each:.2f}",
        f"{each / first:.3f}",
        f"{1000 * one.cpu_seconds / one.chunks:.2f}",
        f"{one.runs:,}",
        f"{one.most_events:,}",
        f"{one.history_bytes / 1000:,.0f}",
        f"{one.database_bytes / 1000:,.0f}",
        f"{one.worker_bytes / 1e6:,.0f}",
    ]

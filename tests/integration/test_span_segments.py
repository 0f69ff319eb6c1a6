"""Spans of short chunks on real workers: one file of records for each span, and every command reads them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.farm import Farm, eventually, until_state
from support.processes.workers import worker_process

from longtake import JobState, RenderJobSpec
from longtake.stores.job_layout import job_folder_path
from longtake.transfer.delete import delete_job
from longtake.transfer.fetch import fetch_job

pytestmark = pytest.mark.integration

CHUNKS = 60


def records(farm: Farm, job_id: str, name: str) -> list[str]:
    folder = Path(job_folder_path(str(farm.store), job_id)) / name
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def short_job(farm: Farm, **fields: Any) -> RenderJobSpec:
    """Return a job of chunks that cost nothing, each of which writes down that it was rendered."""
    shell = f"echo {{chunk}} >> {farm.store.parent}/rendered; echo {{chunk}} > {{output}}"
    return farm.job(chunks=CHUNKS, command=("sh", "-c", shell), max_parallel=2, **fields)


def rendered(farm: Farm) -> list[int]:
    path = farm.store.parent / "rendered"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def until_rendered(farm: Farm, count: int) -> None:
    await eventually(lambda: len(rendered(farm)) >= count, f"{count} chunks are rendered")


async def test_short_chunks_share_files_of_records_that_every_command_reads(farm: Farm, tmp_path: Path) -> None:
    handle = await farm.submit(short_job(farm))
    status = await until_state(handle, JobState.COMPLETED)

    assert status.completed_chunks == CHUNKS
    assert sorted(rendered(farm)) == list(range(CHUNKS))
    assert len(farm.sidecars(handle.id)) == CHUNKS
    segments, sidecars = records(farm, handle.id, "segments"), records(farm, handle.id, "chunks")
    assert segments
    assert all(name.endswith(".jsonl") for name in segments)
    assert len(segments) + len(sidecars) < CHUNKS / 2
    assert records(farm, handle.id, "attempts") == []

    fetched = await asyncio.to_thread(fetch_job, str(farm.store), handle.id, tmp_path / "here", logs=False)
    assert (fetched.files, fetched.lost) == (CHUNKS, ())

    twin = await farm.submit(short_job(farm, name="twin", if_exists="reuse"))
    assert (await until_state(twin, JobState.COMPLETED)).completed_chunks == CHUNKS
    assert len(rendered(farm)) == CHUNKS, "all are taken over"
    assert (len(records(farm, twin.id, "segments")), records(farm, twin.id, "chunks")) == (1, [])
    await asyncio.to_thread(delete_job, str(farm.store), twin.id)
    assert len(list((farm.store / "out").iterdir())) == CHUNKS, "they are files of the first job too"

    await farm.render.retry(handle.id, frames="3,7")
    await until_state(handle, JobState.COMPLETED)
    assert sorted(rendered(farm)[CHUNKS:]) == [3, 7]
    assert len(farm.sidecars(handle.id)) == CHUNKS

    deleted = await asyncio.to_thread(delete_job, str(farm.store), handle.id)
    assert deleted.files == CHUNKS
    assert records(farm, handle.id, "segments") == records(farm, handle.id, "revoked") == []


@pytest.mark.slow
async def test_a_killed_worker_loses_no_chunk_that_was_reported(bare: Farm) -> None:
    job = short_job(bare, retry={"attempts": 1, "lost_workers": 50})
    folder = Path(bare.store)
    handle = None
    for killed_at in (10, 25, 40):
        async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
            handle = handle or await bare.submit(job)
            await until_rendered(bare, killed_at)
            worker.kill()
            await worker.wait()
        before = bare.sidecars(handle.id)
        known = {int(name[:6]) for name in before}
        at = len(rendered(bare))
        async with worker_process(bare.address, bare.task_queue, bare.store) as worker:
            await until_rendered(bare, at + 1)
            worker.kill()
            await worker.wait()
        assert not known & set(rendered(bare)[at:]), "a finished chunk is rendered again"
        assert bare.sidecars(handle.id).items() >= before.items()
    assert handle is not None
    async with worker_process(bare.address, bare.task_queue, bare.store):
        status = await until_state(handle, JobState.COMPLETED)

    assert status.completed_chunks == CHUNKS
    assert {path.read_text() for path in (folder / "out").iterdir()} == {f"{chunk}\n" for chunk in range(CHUNKS)}

"""Disks that are full, also by the renderer itself, and outputs that their disk cannot read."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest
from support.farm import Farm, serving, until, worker_settings
from support.small_disk import fill_disk, small_disk

from activities.stores import publish
from longtake import JobState, Retry
from longtake.stores.directory import digest_stream

pytestmark = pytest.mark.integration

DISK_BYTES = 4 << 20

# Writes so many bytes, as renderers do that say why they fail.
WRITES = 'head -c "$1" /dev/zero > "$0"'


def is_lost(error: str) -> bool:
    return "make room" in error and "the try does not count, and the next one begins in " in error


@pytest.mark.slow
async def test_tries_that_a_full_scratch_ends_do_not_count_and_wait_longer_each_time(
    bare: Farm, bucket: str, scratch: Path
) -> None:
    settings = worker_settings(bare.task_queue, bare.store, slots=1)
    settings = settings.model_copy(update={"stores": (bucket,), "scratch": scratch / "own"})
    with small_disk(scratch, DISK_BYTES):
        async with serving(bare.client, settings):
            ballast = fill_disk(scratch)
            job = await bare.submit(
                bare.job(chunks=1, store=bucket, base_dir=None, command=("sh", "-c", WRITES, "{output}", "9"))
            )
            status = await until(job, lambda status: "begins in 2 s" in str(status.running) or status.state.has_ended)
            assert status.state is JobState.RUNNING, status.error
            assert is_lost(status.running[0].error)
            assert str(scratch) in status.running[0].error
            ballast.unlink()
            status = await until(job, lambda status: status.state.has_ended)

    assert status.state is JobState.COMPLETED, status.error


async def test_a_renderer_that_a_full_disk_ends_costs_no_try(bare: Farm) -> None:
    with small_disk(bare.store, DISK_BYTES):
        async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)):
            script = f'echo "start 0 $$" >> "$2"; until [ -e "$3" ]; do sleep 0.02; done; {WRITES}'
            words = ("{output}", "200000", str(bare.ledger.path), str(bare.gate))
            job = await bare.submit(bare.job(chunks=1, command=("sh", "-c", script, *words)))
            await bare.ledger.until_started(1)
            ballast = fill_disk(bare.store)
            bare.open_gate()
            status = await until(job, lambda status: "make room" in str(status.running) or status.state.has_ended)
            assert status.state is JobState.RUNNING, status.error
            assert is_lost(status.running[0].error)
            assert "sh exited with code 1" in status.running[0].error
            ballast.unlink()
            status = await until(job, lambda status: status.state.has_ended)

            assert status.state is JobState.COMPLETED, status.error
            assert (bare.store / "out/000000.txt").stat().st_size == 200_000


async def test_a_renderer_that_fills_the_disk_by_itself_fails(bare: Farm) -> None:
    """However often it is tried, there is no room for it: such a chunk must not be rendered for ever."""
    with small_disk(bare.store, DISK_BYTES):
        async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=1)):
            command = ("sh", "-c", WRITES, "{output}", str(2 * DISK_BYTES))
            status = await bare.run(bare.job(chunks=1, command=command, retry=Retry(attempts=2, initial_seconds=0)))

    assert status.state is JobState.FAILED
    assert status.failures[0].attempts == 2
    assert "sh exited with code 1" in status.failures[0].error
    assert status.failures[0].error.endswith("its disk is full; make room")


async def test_an_output_that_its_disk_cannot_read_costs_a_try(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is sound: waiting for it would wait for ever."""
    read: list[int] = []

    def digest(file: BinaryIO) -> str:
        read.append(1)
        if len(read) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest_stream(file)

    monkeypatch.setattr(publish, "digest_stream", digest)
    job = await farm.submit(farm.job(chunks=1, retry=Retry(attempts=2, initial_seconds=0)))
    status = await until(job, lambda status: status.state.has_ended or "render waits" in str(status.running))

    assert status.state is JobState.COMPLETED, status
    assert len(farm.ledger.started) == 2

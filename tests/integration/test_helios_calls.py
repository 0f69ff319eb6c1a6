"""Calls of Helios' workers that do not run smoothly: stopped, frozen, too long, lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from support.remote.cloud_run_service import CloudRunFront, Deed, cloud_run_front
from support.remote.helios_tasks import SETTINGS, Watcher, helios_task

from activities.backends.backend import RenderTask
from activities.errors import AttemptError, AttemptLostError, ThrottledError
from activities.remote.cloud_run import CloudRunService
from activities.remote.helios import HeliosBackend
from longtake.models.policies import Timeouts
from ports import find_free_port


@pytest_asyncio.fixture
async def front() -> AsyncIterator[CloudRunFront]:
    async with cloud_run_front() as service:
        yield service


@pytest.fixture
def workers(front: CloudRunFront) -> HeliosBackend:
    return HeliosBackend(CloudRunService(front.url, concurrency=4), SETTINGS)


@pytest.fixture
def task(tmp_path: Path) -> RenderTask:
    return helios_task(tmp_path)


async def test_files_that_appear_in_the_shared_folder_are_progress(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask, tmp_path: Path
) -> None:
    front.otherwise = Deed.HOLD
    folder = tmp_path / "frames"
    folder.mkdir()
    watcher = Watcher()
    render = asyncio.create_task(workers.render(replace(task, counted_dir=folder), watcher))
    await front.next_call()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"x")

    await watcher.until_heard(3)
    assert watcher.heard[-1].message == f"called cloud run {front.url.removeprefix('http://')}"
    render.cancel()
    await asyncio.wait([render])


async def test_a_cancel_closes_the_connection_and_says_what_goes_on(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.otherwise = Deed.HOLD
    render = asyncio.create_task(workers.render(task, Watcher()))
    call = await front.next_call()

    render.cancel()
    await asyncio.wait_for(call.hung_up, 60)
    with pytest.raises(asyncio.CancelledError):
        await render

    assert "is closed, and its Helios worker does not hear of that and may work on" in task.log.read_text()
    assert len(front.calls) == 1


async def test_the_chunk_timeout_bounds_a_call(front: CloudRunFront, workers: HeliosBackend, task: RenderTask) -> None:
    front.otherwise = Deed.HOLD

    with pytest.raises(AttemptError, match=r"took longer than timeouts\.chunk_seconds, 0\.3 s; .* may work on") as late:
        await workers.render(replace(task, timeouts=Timeouts(chunk_seconds=0.3)), Watcher())

    assert not late.value.fatal
    await asyncio.wait_for(front.calls[0].hung_up, 60)


async def test_nothing_is_called_while_the_job_stands_frozen(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    watcher = Watcher()
    watcher.freeze_order = 5
    front.reply(200, {"exitCode": 0})
    render = asyncio.create_task(workers.render(task, watcher))
    await asyncio.wait_for(watcher.news.wait(), 60)
    assert not front.calls

    watcher.freeze_order = 0
    await render

    assert watcher.told[0] == 5
    assert watcher.told[-1] == 0
    assert len(front.calls) == 1


async def test_a_call_that_is_under_way_never_claims_to_be_frozen(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.otherwise = Deed.HOLD
    watcher = Watcher()
    render = asyncio.create_task(workers.render(task, watcher))
    await front.next_call()

    watcher.freeze_order = 5
    before = len(watcher.heard)
    async with asyncio.timeout(60):
        while len(watcher.heard) < before + 3:
            watcher.news.clear()
            await watcher.news.wait()

    assert watcher.told == [0]
    render.cancel()
    await asyncio.wait([render])


async def test_a_service_without_room_costs_no_try(
    front: CloudRunFront, workers: HeliosBackend, task: RenderTask
) -> None:
    front.reply(429, b"Rate exceeded.", {"retry-after": "3"})

    with pytest.raises(ThrottledError) as full:
        await workers.render(task, Watcher())
    assert full.value.wait_seconds == 3


async def test_a_lost_call_is_a_failed_try(front: CloudRunFront, workers: HeliosBackend, task: RenderTask) -> None:
    front.script.append(Deed.BREAK)

    with pytest.raises(
        AttemptError, match=r"blender: the connection to cloud run .* broke: .*; its Helios worker .* may work on"
    ) as no:
        await workers.render(task, Watcher())
    assert (no.value.fatal, no.value.another_host) == (False, False)


async def test_a_service_out_of_reach_costs_no_try(task: RenderTask) -> None:
    away = CloudRunService(f"http://127.0.0.1:{find_free_port()}", concurrency=1)

    with pytest.raises(AttemptLostError, match=r"cannot be reached at http:.*: Connection refused$"):
        await HeliosBackend(away, SETTINGS).render(task, Watcher())

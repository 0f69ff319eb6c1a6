"""How a cancel reaches the renderer: pushed by the development server, or with the answer to a heartbeat."""

from datetime import timedelta
from pathlib import Path

import pytest
from support.farm import Farm, serving, worker_settings
from support.renderers.signal_times import measure_cancel

import worker

pytestmark = [pytest.mark.integration, pytest.mark.timed]

# Heartbeats would have brought the cancel after 3.5 seconds on average, so three of them in a row not by chance.
THROTTLE = timedelta(seconds=7)
RUNS = 3


async def test_a_pushed_cancel_reaches_the_renderer_between_two_heartbeats(
    bare: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_HEARTBEAT_THROTTLE", THROTTLE)
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=4)):
        seconds = [await measure_cancel(bare, tmp_path / "beacons") for _ in range(RUNS)]

    assert max(notice for notice, _ in seconds) < 1, seconds


async def test_a_server_that_does_not_push_tells_the_renderer_with_the_next_heartbeat(
    bare_without_push: Farm, tmp_path: Path
) -> None:
    farm = bare_without_push
    async with serving(farm.client, worker_settings(farm.task_queue, farm.store, slots=4)):
        seconds = [await measure_cancel(farm, tmp_path / "beacons") for _ in range(RUNS)]

    assert max(notice for notice, _ in seconds) < 1, seconds

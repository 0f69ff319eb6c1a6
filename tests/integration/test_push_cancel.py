"""How a cancel reaches the renderer: pushed by the development server, or with the answer to a heartbeat."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
import support.farm
from support.farm import Farm, serving, worker_settings
from support.renderers.signal_times import measure_cancel
from temporalio import activity
from temporalio.client import Client

import worker
from activities import heartbeat_budget
from activities.heartbeat_budget import HeartbeatBudget

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


async def test_a_cancel_whose_push_is_lost_comes_with_the_order_to_stop(
    bare_without_push: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers push as best they can, and one that has only the first of its two settings never does."""

    async def expect_pushes(client: Client) -> HeartbeatBudget:
        return HeartbeatBudget(pushes_cancels=True)

    monkeypatch.setattr(support.farm, "find_budget", expect_pushes)
    # Heartbeats of progress would bring it too, as seldom as they are.
    monkeypatch.setattr(heartbeat_budget, "_CALM_SECONDS", THROTTLE.total_seconds())
    beats, send = [0.0], activity.heartbeat

    def note(*details: object) -> None:
        beats.append(time.monotonic())
        send(*details)

    monkeypatch.setattr(activity, "heartbeat", note)
    farm = bare_without_push
    async with serving(farm.client, worker_settings(farm.task_queue, farm.store, slots=4)):
        seconds = [
            await measure_cancel(farm, tmp_path / "beacons", lambda: time.monotonic() - beats[-1] > 1)
            for _ in range(RUNS)
        ]

    assert max(notice for notice, _ in seconds) < THROTTLE.total_seconds() / 3, seconds


async def test_a_server_that_does_not_push_tells_the_renderer_with_the_next_heartbeat(
    bare_without_push: Farm, tmp_path: Path
) -> None:
    farm = bare_without_push
    async with serving(farm.client, worker_settings(farm.task_queue, farm.store, slots=4)):
        seconds = [await measure_cancel(farm, tmp_path / "beacons") for _ in range(RUNS)]

    assert max(notice for notice, _ in seconds) < 1, seconds

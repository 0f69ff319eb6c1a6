"""A server that pushes cancels: the renderer hears of it before the next heartbeat would have asked."""

from datetime import timedelta
from pathlib import Path

import pytest
from farm import Farm, serving, worker_settings
from figures import Figures
from push_server import push_server
from pushed import cancelled

import worker
from longtake import RenderClient
from longtake.client import connect
from worker import register_search_attributes

pytestmark = pytest.mark.integration

RUNS = 30
PROMISE_SECONDS = 0.150


# Building the server takes 4 minutes, once.
@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_pushed_cancel_is_heard_at_once(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So seldom that a heartbeat cannot be what brings the cancel: only the push is left.
    monkeypatch.setattr(worker, "_HEARTBEAT_THROTTLE", timedelta(seconds=7))
    notices: list[float] = []
    gone: list[float] = []
    async with push_server(tmp_path) as address:
        client = await connect(address=address)
        farm = Farm(address, "push", client, RenderClient(client, task_queue="push"), store)
        attributes = await register_search_attributes(client)
        async with serving(client, worker_settings("push", store, slots=4), search_attributes=attributes):
            for _ in range(RUNS):
                notice, end = await cancelled(farm, tmp_path / "beacons")
                notices.append(notice)
                gone.append(end)
    with capsys.disabled():
        print(f"\npushed cancel to notice {Figures.of(notices)} (promised: p99 {PROMISE_SECONDS:g} s)")
        print(f"pushed cancel to no process left {Figures.of(gone)}")
    assert Figures.of(notices).p99 < PROMISE_SECONDS

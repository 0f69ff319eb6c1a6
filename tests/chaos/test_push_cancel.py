"""A server that pushes cancels: the renderer hears of it before the next heartbeat would have asked."""

from datetime import timedelta
from pathlib import Path

import pytest
from support.farm import Farm, serving, worker_settings
from support.measurements import Distribution
from support.renderers.signal_times import measure_cancel

import worker

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

RUNS = 30
PROMISE_SECONDS = 0.150


async def test_a_pushed_cancel_is_heard_at_once(
    bare: Farm, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # So seldom that a heartbeat cannot be what brings the cancel: only the push is left.
    monkeypatch.setattr(worker, "_HEARTBEAT_THROTTLE", timedelta(seconds=7))
    async with serving(bare.client, worker_settings(bare.task_queue, bare.store, slots=4)):
        seconds = [await measure_cancel(bare, tmp_path / "beacons") for _ in range(RUNS)]
    notices = Distribution.of([notice for notice, _ in seconds])
    with capsys.disabled():
        print(f"\npushed cancel to notice {notices} (promised: p99 {PROMISE_SECONDS:g} s)")
        print(f"pushed cancel to no process left {Distribution.of([gone for _, gone in seconds])}")
    assert notices.p99 < PROMISE_SECONDS

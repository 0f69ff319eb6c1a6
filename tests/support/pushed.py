"""How soon a renderer hears of a cancel."""

import time
import uuid
from pathlib import Path

from beacon import Beacon, beacon_renderer
from farm import Farm, eventually, until_state
from processtable import carrying

from longtake import FrameRange, JobState, Timeouts


async def cancelled(farm: Farm, beacons: Path) -> tuple[float, float]:
    """Return the seconds from the client's call to the TERM at the renderer, and to no process of the job."""
    folder = beacons / uuid.uuid4().hex[:12]
    job = await farm.submit(
        farm.job(
            frames=FrameRange(count=1, per_chunk=1),
            command=(*beacon_renderer(f"{folder}/"), "{output}"),
            timeouts=Timeouts(grace_seconds=2),
        )
    )
    await eventually(lambda: any(path.read_text() for path in folder.glob("*.txt")), "the renderer begins")
    (beacon,) = (Beacon(path) for path in folder.glob("*.txt"))
    assert carrying(job.id)
    began = time.monotonic()
    await job.cancel()
    await eventually(lambda: not carrying(job.id), "the renderer ends")
    gone = time.monotonic()
    await until_state(job, JobState.CANCELLED)
    return beacon.term() - began, gone - began

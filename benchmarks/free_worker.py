"""Serve jobs whose chunks cost nothing, not even a process: what remains is planning, scheduling and Temporal.

Run as a program: `free_worker.py ADDRESS QUEUE STORE SLOTS CHUNK_SECONDS`.
"""

import asyncio
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.farm import serving, worker_settings  # noqa: E402
from temporalio import activity  # noqa: E402

import worker  # noqa: E402
from longtake.connection import connect  # noqa: E402
from longtake.models.messages import SpanOrder, SpanReport, StitchOrder, TrialOrder, TrialReport  # noqa: E402
from longtake.models.status import RenderJobResult  # noqa: E402
from longtake.names import RENDER_SPAN, STITCH_JOB, TRY_FILM  # noqa: E402


class FreeRender:
    """Reports each chunk of a span as published, and that it took some seconds; in the place of the real activity."""

    chunk_seconds = 0.0

    def __init__(self, *_: object) -> None:
        pass

    @activity.defn(name=RENDER_SPAN)
    async def render_span(self, order: SpanOrder) -> SpanReport:
        """Report a span that nobody has rendered."""
        count = order.stop - order.start
        return SpanReport(
            done=((order.start, order.stop),), rendered=count, render_seconds=count * FreeRender.chunk_seconds
        )


class FreeStitch:
    """Finds nothing missing, where there is nothing; in the place of the real activities."""

    def __init__(self, *_: object) -> None:
        pass

    @activity.defn(name=STITCH_JOB)
    async def stitch_job(self, order: StitchOrder) -> RenderJobResult:
        """Report a job without a film as proven."""
        return RenderJobResult()

    @activity.defn(name=TRY_FILM)
    async def try_film(self, order: TrialOrder) -> TrialReport:
        """Report that nothing stands against a film."""
        return TrialReport()


async def main(address: str, queue: str, store: str, slots: str, chunk_seconds: str) -> None:
    """Serve until standard input ends."""
    FreeRender.chunk_seconds = float(chunk_seconds)
    vars(worker).update(RenderActivities=FreeRender, StitchActivities=FreeStitch)
    client = await connect(address=address)
    await worker.register_search_attributes(client)
    async with serving(client, worker_settings(queue, Path(store), slots=int(slots))):
        print("ready", flush=True)
        await asyncio.to_thread(os.read, 0, 1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Measure how a job ends: by a cancel while many chunks run, and by the join of all its chunks."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bare
from farm_runs import FarmRuns
from harness import format_ratio, median
from local_farm import run_server
from reports import Part, Table
from sessions import run_session

from longtake import RenderClient
from longtake.connection import connect

_STITCH = Path(__file__).with_name("stitch.py")


async def measure_cancel(*, running: int, rounds: int, place: Path, on_message: Callable[[str], None]) -> Part:
    """Measure the cancel of a job with many running chunks, beside SIGTERM to as many bare processes.

    Args:
        running: Renders that run; each ends when it gets SIGTERM.
        rounds: How often.
        place: Where outputs and databases go.
        on_message: Called with a line for each step.
    """
    with tempfile.TemporaryDirectory(prefix="cancel-", dir=place) as name:
        folder = Path(name)
        async with run_server(folder) as server:
            farm = FarmRuns(
                RenderClient(await connect(address=server.address), task_queue="bench"),
                server.address,
                "bench",
                folder,
            )
            theirs = []
            for number in range(rounds):
                on_message(f"cancel, round {number + 1}: {running} renders")
                theirs.append(await asyncio.to_thread(bare.measure_stop_of_many, folder, running))
                await farm.measure_cancel_of_many(1, running)
    rows = [["bare processes, SIGTERM to each", f"{1000 * (median(theirs) or 0):,.0f}", "1"]]
    for step, seconds in farm.seconds.items():
        ratios = [ours / base for ours, base in zip(seconds, theirs, strict=True)]
        rows.append([f"Longtake, {step}", f"{1000 * (median(seconds) or 0):,.0f}", format_ratio(ratios)])
    title = f"Cancel of a job with {running} running renders on one worker: time until none of their processes lives."
    columns = ("what", "ms", "to bare processes")
    return Part("cancel", title, Table(columns, rows), {"longtake": farm.seconds, "bare": theirs})


async def measure_stitch(*, chunks: int, rounds: int, place: Path, on_message: Callable[[str], None]) -> Part:
    """Measure the verified join by `stitch.py`, which `make bench-stitch` runs too.

    Args:
        chunks: Chunks of a film.
        rounds: How often each way joins them.
        place: Where chunks and films go.
        on_message: Called with a line at the beginning.
    """
    on_message(f"stitch: {chunks:,} chunks")
    words = (sys.executable, _STITCH, "--json", "--chunks", str(chunks), "--runs", str(rounds))
    with tempfile.TemporaryDirectory(prefix="stitch-", dir=place) as name:
        async with run_session(words, log=Path(name) / "log", environment={"TMPDIR": name}) as session:
            found = json.loads(await session.read())
    rows = [
        [kind["kind"], f"{kind['ffmpeg']:.2f}", *(f"{kind[cost]:.3f}" for cost in ("cost", "synced_cost", "full_cost"))]
        for kind in found
    ]
    title = (
        f"The verified join of {chunks:,} chunks, to `ffmpeg -f concat -c copy` of the same ones, which verifies "
        "nothing: with the pictures around each seam decoded, the same with both synced to the disk, and with all "
        "pictures decoded (once)."
    )
    columns = ("chunks", "ffmpeg, s", "seams", "seams, synced", "full")
    return Part("stitch", title, Table(columns, rows), {"kinds": found})

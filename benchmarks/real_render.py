"""Measure what a real render costs beside `xargs` with the same ffmpeg and Blender, and who uses the CPU meanwhile."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from harness import compete, format_ratio, median
from overhead import Overhead, measure_overhead
from reports import Part, Table
from ways import BASE, Go, Way, Work, open_longtake, open_xargs, run_way

from activities.processes.programs import find_ffmpeg
from longtake import FrameRange, RenderJobSpec, load_job

_EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
# Of each render; those of Blender are a frame each, because its frames are dear.
_CHUNKS = 12
_PARTS = ("worker", "supervisor and keepers", "server")


def make_plasma(folder: Path, *, seconds: int, parallel: int) -> RenderJobSpec:
    """Make the job of `examples/plasma.yaml`, of another length, with ffmpeg as this host finds it."""
    job = load_job(_EXAMPLES / "plasma.yaml")
    count = seconds * int(job.rate)
    return job.model_copy(
        update={
            "frames": FrameRange(count=count, per_chunk=-(-count // _CHUNKS)),
            "command": (find_ffmpeg(), *(job.command or ())[1:]),
            "output": "plasma.mp4",
            "max_parallel": parallel,
        }
    )


def make_blender(folder: Path, *, parallel: int) -> RenderJobSpec:
    """Make a job of Blender's frames, each a chunk and an image file, by the scene of `examples/blender`."""
    job = load_job(_EXAMPLES / "blender" / "job.yaml")
    scene = str(_EXAMPLES / "blender" / "scene.py")
    words = [scene if word == "scene.py" else word for word in job.command or ()]
    update = {
        "command": (str(shutil.which("blender")), *words[1:]),
        "frames": FrameRange(first=1, count=_CHUNKS, per_chunk=1),
        "output": None,
        "encode": (),
        "inputs": (),
        "max_parallel": parallel,
    }
    return job.model_copy(update=update)


async def measure(
    *, seconds: int, parallel: int, rounds: int, limit_seconds: float, place: Path, on_message: Callable[[str], None]
) -> Part:
    """Measure the renders that this machine can do, in turn with `xargs`.

    Args:
        seconds: Length of the plasma film.
        parallel: How many chunks render at once.
        rounds: How often each renders.
        limit_seconds: When a single render is stopped.
        place: Where outputs and databases go.
        on_message: Called with a line for each render.
    """
    jobs: dict[str, Callable[[Path], RenderJobSpec]] = {
        f"plasma, {seconds} s of film": partial(make_plasma, seconds=seconds, parallel=parallel)
    }
    missing = []
    if shutil.which("blender"):
        jobs[f"Blender, {_CHUNKS} frames"] = partial(make_blender, parallel=parallel)
    else:
        missing.append("Blender is not installed here.")
    rows, figures = [], {}
    for name, make_job in jobs.items():
        on_message(f"render, {name}: {_CHUNKS} chunks, {parallel} at once")
        overheads: list[Overhead] = []
        ours = Way("", partial(_open_measured, overheads))
        ways = {
            way: partial(run_way, how, make_job, place, seconds=limit_seconds)
            for way, how in ((BASE, Way("", open_xargs)), ("longtake", ours))
        }
        contest = await compete(ways, rounds=rounds, on_message=on_message)
        costs = [1 / ratio for ratio in contest.ratios("longtake", BASE)]
        shares = [[overhead.share(part) for overhead in overheads] for part in (None, *_PARTS)]
        medians = [f"{100 * (median(share) or 0):.1f} %" for share in shares]
        theirs = median(run.seconds for run in contest.runs[BASE])
        rows.append([name, f"{theirs:.1f}", format_ratio(costs), *medians])
        figures[name] = {
            "xargs_seconds": [run.seconds for run in contest.runs[BASE]],
            "longtake_seconds": [run.seconds for run in contest.runs["longtake"]],
            "costs": costs,
            "cpu_shares": dict(zip(("all", *_PARTS), shares, strict=True)),
        }
    title = (
        f"Real renders in {_CHUNKS} chunks, {parallel} at once, from the submission to the film: times that of `xargs` "
        "with the same program and commands (and `ffmpeg -f concat -c copy` for the film) in the same round. CPU: of "
        "all cores, while chunks render."
    )
    columns = ("render", "xargs, s", "Longtake to xargs", "CPU of Longtake and Temporal", *_PARTS)
    return Part("render", title, Table(columns, rows), figures, {"ffmpeg": _read_version()}, missing)


def _open_measured(overheads: list[Overhead], work: Work) -> AbstractAsyncContextManager[Go]:
    overhead = Overhead()
    overheads.append(overhead)
    return open_longtake(
        work,
        beside=lambda farm: measure_overhead(farm, overhead, lambda: work.count_done() == len(work.outputs)),
    )


def _read_version() -> str:
    line = subprocess.run((find_ffmpeg(), "-version"), capture_output=True, text=True, check=True).stdout
    return line.split()[2]

"""Measure how long jobs take whose chunks differ, beside what no scheduler could better by much."""

import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from harness import Contest, compete, format_ratio, median
from reports import Part, Table
from support.simulation import find_bound, heavy_end, lognormal, simulate, uniform
from ways import BASE, WAYS, run_way

from longtake import FrameRange, RenderJobSpec

# Waits as long as a file of its chunk says, so that the commands of all chunks are alike.
_SCRIPT = 'read seconds < "$1"; sleep "$seconds"; echo rendered > "$2"\n'


def heavy_begin(count: int, noise: random.Random) -> list[float]:
    """The first tenth takes twenty times as long as the rest."""
    return heavy_end(count, noise)[::-1]


def alternating(count: int, noise: random.Random) -> list[float]:
    """Every other chunk takes twenty times as long."""
    return [0.1 if chunk % 2 else 2.0 for chunk in range(count)]


SHAPES: Mapping[str, Callable[[int, random.Random], list[float]]] = {
    "uniform": uniform,
    "lognormal": lognormal,
    "heavy at the end": heavy_end,
    "heavy at the beginning": heavy_begin,
    "alternating": alternating,
}


def make_job(folder: Path, *, durations: list[float], slots: int) -> RenderJobSpec:
    """Make a job whose chunks take what they are told."""
    script, told = folder / "render.sh", folder / "durations"
    script.write_text(_SCRIPT)
    told.mkdir()
    for chunk, seconds in enumerate(durations):
        (told / f"{chunk:06}").write_text(f"{seconds:.4f}\n")
    return RenderJobSpec(
        name="makespan",
        frames=FrameRange(count=len(durations), per_chunk=1),
        command=("sh", str(script), f"{told}/{{chunk:06}}", "{output}"),
        chunk_output="out/{chunk:06}.txt",
        max_parallel=slots,
    )


async def measure(
    *, chunks: int, slots: int, scale: float, rounds: int, place: Path, on_message: Callable[[str], None]
) -> Part:
    """Measure each shape by Longtake and by `xargs`, in turn.

    Args:
        chunks: Chunks of a job.
        slots: How many run at once.
        scale: What the seconds of chunks, 0.1 to 2, are multiplied with.
        rounds: How often each runs.
        place: Where outputs and databases go.
        on_message: Called with a line for each run.
    """
    rows, figures = [], {}
    for shape, make in SHAPES.items():
        durations = [scale * seconds for seconds in make(chunks, random.Random(1))]
        bound = find_bound(durations, slots)
        on_message(f"makespan, {shape}: {chunks:,} chunks on {slots} slots, at least {bound:.0f} s")
        job = partial(make_job, durations=durations, slots=slots)
        ways = {name: partial(run_way, WAYS[name], job, place, seconds=60 + 5 * bound) for name in (BASE, "longtake")}
        contest = await compete(ways, rounds=rounds, on_message=on_message)
        ours, theirs = (_list_ratios(contest, name, bound) for name in ("longtake", BASE))
        beside = [1 / ratio for ratio in contest.ratios("longtake", BASE)]
        simulated = simulate(durations, slots).ratio
        rows.append([shape, f"{bound:.1f}", *map(format_ratio, (ours, theirs, beside)), f"{simulated:.3f}"])
        figures[shape] = {
            "bound_seconds": bound,
            "longtake": ours,
            "xargs": theirs,
            "beside_xargs": median(beside),
            "simulated": simulated,
        }
    title = (
        f"{chunks:,} chunks of {0.1 * scale:g} to {2 * scale:g} s that wait, on {slots} slots: from the submission to "
        "the end. The bound is list scheduling: chunks one by one, in their order, to whichever slot is free, at no "
        "cost."
    )
    columns = ("shape", "bound, s", "Longtake to the bound", "xargs to the bound", "Longtake to xargs", "simulated")
    note = "Simulated: the same decisions without processes, server or load of this machine, to the bound."
    return Part("makespan", title, Table(columns, rows), figures, notes=(note,))


def _list_ratios(contest: Contest, name: str, bound: float) -> list[float]:
    return [run.seconds / bound for run in contest.runs.get(name, ()) if run.whole]

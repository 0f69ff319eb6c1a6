"""Measure how many chunks that cost nothing are done a second, beside what people would use instead."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from harness import Contest, NotHereError, compete, format_ratio
from peer_environment import read_versions
from reports import Part, Table
from ways import BASE, WAYS, run_way

from longtake import FrameRange, RenderJobSpec

_PROGRAM = "cp"
_TMPFS = Path("/dev/shm")


def make_job(folder: Path, *, chunks: int, parallel: int) -> RenderJobSpec:
    """Make a job whose chunks copy a small file to their outputs."""
    seed = folder / "seed.txt"
    seed.write_text("nothing to render\n")
    return RenderJobSpec(
        name="throughput",
        frames=FrameRange(count=chunks, per_chunk=1),
        command=(_PROGRAM, str(seed), "{output}"),
        chunk_output="out/{chunk:06}.txt",
        max_parallel=parallel,
    )


async def measure(
    *,
    chunks: int,
    parallel: int,
    rounds: int,
    seconds: float,
    ways: Sequence[str],
    places: Mapping[str, Path],
    on_message: Callable[[str], None],
) -> Part:
    """Measure all ways, in turn.

    Args:
        chunks: Chunks of each run.
        parallel: How many run at once, whatever the way.
        rounds: How often each way runs.
        seconds: When a run is stopped; its rate is that of what it had done.
        ways: Which of `WAYS`; `xargs` always runs.
        places: Folders by name, a contest in each.
        on_message: Called with a line for each run.
    """
    rows: list[list[str]] = []
    figures: dict[str, object] = {"chunks": chunks, "parallel": parallel}
    job = partial(make_job, chunks=chunks, parallel=parallel)
    for place_name, place in places.items():
        on_message(f"throughput on {place_name}: {chunks:,} chunks, {parallel} at once, {rounds} rounds")
        chosen = {
            name: partial(run_way, way, job, place, seconds=seconds)
            for name, way in WAYS.items()
            if name in ways or name == BASE
        }
        contest = await compete(chosen, rounds=rounds, on_message=on_message)
        rows += [_make_row(contest, name, place_name) for name in chosen]
        figures[place_name] = {name: _list_figures(contest, name) for name in chosen}
    title = (
        f"Chunks that cost nothing (`{_PROGRAM}` of a small file), {parallel} at once. The ratio is to `xargs "
        f"-P{parallel}` with the same commands in the same round: the median, the least and the most."
    )
    columns = ("way", "store", "chunks", "chunks/s", f"ratio to {BASE}", "what survives a crash")
    note = f"A run was stopped after {seconds:g} s at the latest; its rate is that of what it had done."
    return Part("throughput", title, Table(columns, rows), figures, read_versions(), (note,))


def list_places(store: str, disk: Path) -> dict[str, Path]:
    """Return the folders that a choice of the command line means.

    Raises:
        NotHereError: There is no tmpfs.
    """
    places = {}
    if store in ("disk", "both"):
        places["disk"] = disk
    if store in ("tmpfs", "both"):
        if not _TMPFS.is_dir():
            raise NotHereError(f"{_TMPFS} is not there")
        places["tmpfs"] = _TMPFS
    return places


def _make_row(contest: Contest, name: str, place: str) -> list[str]:
    if name in contest.missing:
        return [name, place, "-", "-", contest.missing[name], WAYS[name].durable]
    runs = contest.runs[name]
    done = f"{runs[0].done:,}" + ("" if runs[0].whole else " (stopped)")
    ratio = "1" if name == BASE else format_ratio(contest.ratios(name, BASE))
    return [name, place, done, f"{contest.rate(name):,.0f}", ratio, WAYS[name].durable]


def _list_figures(contest: Contest, name: str) -> dict[str, object]:
    if name in contest.missing:
        return {"missing": contest.missing[name]}
    runs = [{"done": run.done, "seconds": round(run.seconds, 3), "whole": run.whole} for run in contest.runs[name]]
    return {"runs": runs, "ratios": [round(ratio, 4) for ratio in contest.ratios(name, BASE)]}

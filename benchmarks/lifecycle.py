"""Measure stops, freezes and takeovers, beside a bare `subprocess` and `killpg` (`make bench-lifecycle`)."""

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import bare  # noqa: E402
import psutil  # noqa: E402
from farm_runs import FarmRuns  # noqa: E402
from local_farm import run_server  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.measurements import Distribution  # noqa: E402

import devserver  # noqa: E402
from longtake import RenderClient  # noqa: E402
from longtake.connection import connect  # noqa: E402

# One kill for so many other runs: the chunks of a killed worker wait 10 s for the server's heartbeat timeout.
_RUNS_PER_KILL = 10

_TABLE_COLUMNS = 110


async def measure(folder: Path, runs: int, console: Console) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Measure each step; return the seconds of the farm, and those of the bare loop."""
    async with run_server(folder) as server:
        render = RenderClient(await connect(address=server.address), task_queue="bench")
        farm = FarmRuns(render, server.address, "bench", folder)
        console.print(f"bare subprocess and killpg, {runs} runs")
        yardstick = await asyncio.to_thread(bare.measure, folder, runs)
        console.print(f"cancel, freeze, pause, {runs} runs each")
        await farm.measure_control(runs)
        kills = max(1, runs // _RUNS_PER_KILL)
        console.print(f"kill -9 of a worker, {kills} runs of about 15 s")
        await farm.measure_kill(kills)
    return farm.seconds, yardstick


def make_table(found: Mapping[str, Distribution], yardstick: Mapping[str, Distribution]) -> Table:
    """Make a table of the figures, in milliseconds, beside those of the bare loop."""
    shown = Table(title="milliseconds")
    shown.add_column("step", no_wrap=True)
    for name in ("n", "p50", "p90", "p99", "max", "bare p50", "bare p99", "ratio of p50"):
        shown.add_column(name, justify="right")
    for step, figures in found.items():
        bare_one = yardstick.get(step)
        times = (figures.p50, figures.p90, figures.p99, figures.max)
        beside = (f"{bare_one.p50 * 1000:.1f}", f"{bare_one.p99 * 1000:.1f}") if bare_one else ("-", "-")
        shown.add_row(
            step,
            str(figures.n),
            *(f"{seconds * 1000:.1f}" for seconds in times),
            *beside,
            format_ratio(figures, bare_one),
        )
    return shown


def format_ratio(figures: Distribution, bare_one: Distribution | None) -> str:
    """Format how many times longer the farm took."""
    return f"{figures.p50 / bare_one.p50:.1f}" if bare_one else "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30, help="measurements of each step; default: 30")
    parser.add_argument("--out", type=Path, help="JSON file; default: lifecycle.json in the cache folder")
    given = parser.parse_args(arguments)
    out = given.out or devserver.cache_dir() / "bench" / "lifecycle.json"
    console, started = Console(stderr=True), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="longtake-bench-") as folder:
        seconds, bare_seconds = asyncio.run(measure(Path(folder).resolve(), given.runs, console))
    found = {step: Distribution.of(times) for step, times in seconds.items()}
    yardstick = {step: Distribution.of(times) for step, times in bare_seconds.items()}
    # A file as output counts as 80 columns, which are too few.
    Console(width=max(Console().width, _TABLE_COLUMNS)).print(make_table(found, yardstick))
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": psutil.cpu_count(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "took_seconds": round(time.monotonic() - started, 1),
        "unit": "seconds",
        "longtake": {step: figures.as_json() for step, figures in found.items()},
        "bare": {step: figures.as_json() for step, figures in yardstick.items()},
        "ratio_p50": {step: format_ratio(found[step], yardstick[step]) for step in found if step in yardstick},
    }
    out.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

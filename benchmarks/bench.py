"""Measure what Longtake adds to a render, beside what people would use instead (`make bench`).

Every ratio is of one run: machines differ, and so does what else they do. Each part is bounded in time.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import growth  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
import makespan  # noqa: E402
import real_render  # noqa: E402
import throughput  # noqa: E402
from cancel_and_stitch import measure_cancel, measure_stitch  # noqa: E402
from harness import NotHereError  # noqa: E402
from peer_environment import install_peers  # noqa: E402
from reports import Part, describe_machine, write_into_page, write_json  # noqa: E402
from ways import WAYS  # noqa: E402

import devserver  # noqa: E402

PAGE = ROOT / "docs" / "scale.md"
PARTS = ("throughput", "makespan", "render", "growth", "cancel", "stitch")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run; default: all")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/scale.md too")
    parser.add_argument("--out", type=Path, help="JSON file; default: scale.json in the cache folder")
    parser.add_argument("--rounds", type=_positive, default=3, help="runs of each way; default: 3")
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=60,
        help="a run ends then; ten times as late in render and growth",
    )
    shared = parser.add_argument_group("throughput")
    shared.add_argument("--chunks", type=_positive, default=20_000, help="default: 20,000")
    shared.add_argument("--parallel", type=_positive, default=4, help="chunks at once, whatever the way; default: 4")
    shared.add_argument("--store", choices=("disk", "tmpfs", "both"), default="disk", help="where outputs go")
    ways = list(WAYS)
    shared.add_argument("--ways", nargs="+", choices=ways, default=ways, help="what is compared; default: all")
    differing = parser.add_argument_group("makespan")
    differing.add_argument("--makespan-chunks", type=_positive, default=2000, help="default: 2,000")
    differing.add_argument("--slots", type=_positive, default=16, help="default: 16")
    differing.add_argument(
        "--scale", type=float, default=0.25, help="of chunks of 0.1 to 2 s; default: 0.25, five minutes in all"
    )
    real = parser.add_argument_group("render")
    real.add_argument("--film-seconds", type=_positive, default=60, help="length of plasma; default: 60")
    real.add_argument("--renders", type=_positive, default=2, help="chunks at once; default: 2")
    growing = parser.add_argument_group("growth")
    sizes = [1000, 10_000, 100_000]
    growing.add_argument("--sizes", nargs="+", type=_positive, default=sizes, help="default: 1000 10000 100000")
    growing.add_argument(
        "--chunk-seconds",
        type=float,
        default=growth.FREE_SECONDS,
        help="what chunks that are no process say that they took; default: 0.01",
    )
    ending = parser.add_argument_group("cancel and stitch")
    ending.add_argument("--running", type=_positive, default=64, help="renders that are cancelled; default: 64")
    ending.add_argument("--stitch-chunks", type=_positive, default=1000, help="default: 1,000")
    return parser.parse_args(arguments)


async def measure(given: argparse.Namespace, on_part: Callable[[Part], None]) -> list[Part]:
    """Run the parts that were asked for, one after the other; SIGINT and SIGTERM cancel it.

    Args:
        given: The command line.
        on_part: Called with each part as soon as it is measured.
    """
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    disk = devserver.cache_dir() / "bench"
    disk.mkdir(parents=True, exist_ok=True)
    runs: dict[str, Callable[[], Awaitable[Part]]] = {
        "throughput": partial(_measure_throughput, given, disk),
        "makespan": partial(
            makespan.measure,
            chunks=given.makespan_chunks,
            slots=given.slots,
            scale=given.scale,
            rounds=1,
            place=disk,
            on_message=_say,
        ),
        "render": partial(
            real_render.measure,
            seconds=given.film_seconds,
            parallel=given.renders,
            rounds=given.rounds,
            limit_seconds=10 * given.seconds,
            place=disk,
            on_message=_say,
        ),
        "growth": partial(
            growth.measure,
            sizes=sorted(given.sizes),
            limit_seconds=10 * given.seconds,
            chunk_seconds=given.chunk_seconds,
            place=disk,
            on_message=_say,
        ),
        "cancel": partial(measure_cancel, running=given.running, rounds=given.rounds, place=disk, on_message=_say),
        "stitch": partial(measure_stitch, chunks=given.stitch_chunks, rounds=given.rounds, place=disk, on_message=_say),
    }
    found = []
    for name in given.only:
        began = time.monotonic()
        found.append(await runs[name]())
        on_part(found[-1])
        _say(f"{name} took {time.monotonic() - began:.0f} s")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON file; return the exit code."""
    given = parse(arguments)
    machine = describe_machine(os.getloadavg())
    _say(machine)

    def show(part: Part) -> None:
        print(f"## {part.name}\n\n{part.to_markdown(machine)}\n", flush=True)
        if given.write:
            write_into_page(PAGE, part, machine)

    try:
        parts = asyncio.run(measure(given, show))
    except asyncio.CancelledError:
        _say("stopped; what was started is ended")
        return 130
    except NotHereError as error:
        _say(str(error))
        return 1
    out = given.out or devserver.cache_dir() / "bench" / "scale.json"
    write_json(out, parts, machine=machine, arguments=vars(given))
    _say(f"written to {out}")
    return 0


async def _measure_throughput(given: argparse.Namespace, disk: Path) -> Part:
    if {"celery", "dask", "prefect"} & set(given.ways) and (problem := install_peers(_say)):
        _say(problem)
    return await throughput.measure(
        chunks=given.chunks,
        parallel=given.parallel,
        rounds=given.rounds,
        seconds=given.seconds,
        ways=given.ways,
        places=throughput.list_places(given.store, disk),
        on_message=_say,
    )


def _positive(text: str) -> int:
    number = int(text.replace(",", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

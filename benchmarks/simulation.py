"""Print how long jobs take by the scheduling of the product, beside what they must: simulated, in seconds."""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "client"), str(ROOT / "tests")]

from support.simulation import SHAPES, simulate  # noqa: E402  # the root is not on the path of a script elsewhere


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    print("| durations | seconds | bound | ratio | spans | splits | runs | simulated in |")
    print("|---|---|---|---|---|---|---|---|")
    for name, shape in SHAPES.items():
        began = time.monotonic()
        done = simulate(shape(options.chunks, random.Random(options.seed)), options.slots)
        print(
            f"| {name} | {done.seconds:.1f} | {done.bound_seconds:.1f} | {done.ratio:.3f} | {done.spans} "
            f"| {done.splits} | {done.runs} | {time.monotonic() - began:.1f} s |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

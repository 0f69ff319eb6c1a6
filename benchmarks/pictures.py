"""Measure what small pictures cost beside the chunks that leave them (`make bench-pictures`).

For a chunk of one frame each, of files that were read once before: how long the slot waits, and the CPU time of making
the picture, most of it beside the render and at the lowest priority; both as shares of a chunk of 10 seconds, beside
the proof of the same file. The first picture, for which a process is started, is not counted, and none is left out.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import imageio_ffmpeg  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
import psutil  # noqa: E402
from images import picture, write  # noqa: E402
from support.jobs.open_jobs import open_job  # noqa: E402

from activities.attempts.output_check import check_chunk  # noqa: E402
from activities.attempts.pictures import PictureWriter  # noqa: E402

CHUNK_SECONDS = 10.0
# What is promised: a slot waits for no longer than this share of such a chunk.
MOST_WAIT_SHARE = 0.01


def encode(path: Path, size: str) -> None:
    source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25", "-frames:v", "1", "-pix_fmt", "yuv420p")
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, "-c:v", "libx264", str(path)], check=True)


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that still run."""
    own = psutil.Process()
    return sum(sum(each.cpu_times()[:2]) for each in (own, *own.children()))


def measure(path: Path, output: str, runs: int) -> dict[str, Any]:
    job = open_job(path.parent, frames={"first": 1, "count": 1, "per_chunk": 1}, chunk_output=output, fps=25)
    job.folder.store.replace(job.folder.job_file, b"{}")
    chunk, writer = job.chunks[0], PictureWriter()
    proofs: list[float] = []
    waits: list[float] = []
    costs: list[float] = []
    for _ in range(runs + 1):
        before = time.perf_counter()
        found = check_chunk(chunk, [path], Fraction(25), threading.Event())
        proofs.append(time.perf_counter() - before)
        before, cpu = time.perf_counter(), cpu_seconds()
        with writer.prepare(job, chunk, [path], found, path.parent, 1e6) as pictures:
            pictures.submit()
        waits.append(time.perf_counter() - before)
        assert writer.settle(120)
        costs.append(cpu_seconds() - cpu)
    wait, cost = sorted(waits[1:])[runs // 2], sorted(costs[1:])[runs // 2]
    return {
        "size_bytes": path.stat().st_size,
        "proof_seconds": round(sorted(proofs[1:])[runs // 2], 4),
        "wait_seconds": round(wait, 4),
        "wait_share": round(wait / CHUNK_SECONDS, 5),
        "cpu_seconds": round(cost, 3),
        "cpu_share": round(cost / CHUNK_SECONDS, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        encode(folder / "hd.mp4", "1920x1080")
        encode(folder / "4k.mp4", "4096x2160")
        write(folder / "hd_1.png", picture(1920, 1080, 3, 0.02), "uint8")
        write(folder / "hd_1.exr", picture(1920, 1080, 4, 1.0), "half", compression="zip")
        write(folder / "4k_1.exr", picture(4096, 2160, 4, 1.0), "half", compression="zip")
        results = {
            "HD H.264": measure(folder / "hd.mp4", "hd.mp4", options.runs),
            "4K H.264": measure(folder / "4k.mp4", "4k.mp4", options.runs),
            "HD PNG": measure(folder / "hd_1.png", "hd_{frame}.png", options.runs),
            "HD OpenEXR": measure(folder / "hd_1.exr", "hd_{frame}.exr", options.runs),
            "4K OpenEXR": measure(folder / "4k_1.exr", "4k_{frame}.exr", options.runs),
        }
    report = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
        "pictures": results,
    }
    print(json.dumps(report, indent=1))
    return int(any(found["wait_share"] > MOST_WAIT_SHARE for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Measure how long planning takes, and in how many calls, where all frames are published (`make bench-plan`).

`--chunks N` measures a job of many chunks of one file each in a folder instead: seconds, and memory.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import directory_plan  # noqa: E402  # the root of the checkout is not on the path of a script elsewhere
from rich.console import Console  # noqa: E402
from support.jobs.published_frames import FramePlanner  # noqa: E402
from support.s3.faulty_proxy import faulty  # noqa: E402
from support.s3.server import S3Server, run_s3_server  # noqa: E402

import devserver  # noqa: E402

# Promise of planning: of 100,000 frames, that many seconds and calls at most.
MOST_SECONDS = 60.0
MOST_CALLS = 300
PROMISED_FRAMES = 100_000

# The same of a job of a million chunks in a folder.
PROMISED_CHUNKS = 1_000_000
MOST_BYTES = 200e6


def list_bare(server: S3Server, bucket: str) -> float:
    """List all frames by boto3 alone; return the seconds."""
    began = time.monotonic()
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="show/frames/")
    assert sum(len(page.get("Contents", [])) for page in pages) > 0
    return time.monotonic() - began


def measure_directory(chunks: int, records: str, place: Path, console: Console) -> int:
    """Measure the planning of a job in a folder; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="planning-", dir=place) as name:
        planned = directory_plan.measure(chunks, records, Path(name))
    console.print(
        f"planning of {chunks:,} chunks in a folder, records of finished ones: {records}: {planned.seconds:.1f} s, "
        f"{planned.cpu_seconds:.1f} s of CPU, {planned.peak_bytes / 1e6:.0f} MB, {planned.grown_bytes / 1e6:.0f} MB "
        f"more than before; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} CPUs"
    )
    share = chunks / PROMISED_CHUNKS
    # The files of another job are read, which takes what the disk takes.
    is_slow = records != "reused" and planned.seconds > MOST_SECONDS * max(share, 0.1)
    return int(is_slow or planned.peak_bytes > MOST_BYTES)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=PROMISED_FRAMES)
    parser.add_argument("--per-chunk", type=int, default=100)
    parser.add_argument("--chunks", type=int, help="chunks of a job in a folder; its outputs take 4 KB each")
    parser.add_argument("--records", choices=directory_plan.RECORDS, default="segments")
    asked = parser.parse_args(arguments)
    console = Console()
    place = devserver.cache_dir() / "bench"
    place.mkdir(parents=True, exist_ok=True)
    if asked.chunks is not None:
        return measure_directory(asked.chunks, asked.records, place, console)
    with tempfile.TemporaryDirectory(prefix="planning-", dir=place) as name:
        folder = Path(name)
        with run_s3_server(folder / "s3-server") as server, faulty(server.url) as way:
            bucket = server.bucket("frames")
            os.environ.update(server.environment)
            seeder = FramePlanner(
                f"s3://{bucket}/show", folder / "seeder", frames=asked.frames, per_chunk=asked.per_chunk
            )
            began = time.monotonic()
            seeder.publish_all(seeder.job(), "job")
            console.print(f"{asked.frames:,} frames were written in {time.monotonic() - began:.0f} s")
            bare = list_bare(server, bucket)
            os.environ["AWS_ENDPOINT_URL_S3"] = way.url
            planner = FramePlanner(seeder.url, folder / "planner", frames=asked.frames, per_chunk=asked.per_chunk)
            way.calls.clear()
            began = time.monotonic()
            done = planner.plan(planner.job(), "job")
            seconds, calls = time.monotonic() - began, len(way.calls)
            assert done == ((0, -(-asked.frames // asked.per_chunk)),)
    share = asked.frames / PROMISED_FRAMES
    console.print(
        f"planning of {asked.frames:,} published frames, {asked.per_chunk} a chunk: {seconds:.1f} s, {calls} calls, "
        f"{1000 * calls / asked.frames:.2f} calls a thousand frames; {seconds / bare:.1f} times a bare listing of the "
        f"frames by boto3 ({bare:.1f} s); {os.cpu_count()} CPUs"
    )
    results = {"frames": asked.frames, "seconds": seconds, "calls": calls, "bare_listing_seconds": bare}
    (place / "planning.json").write_text(json.dumps({**results, "machine": platform.platform()}, indent=1))
    return int(seconds > MOST_SECONDS * max(share, 0.1) or calls > MOST_CALLS * max(share, 0.1))


if __name__ == "__main__":
    sys.exit(main())

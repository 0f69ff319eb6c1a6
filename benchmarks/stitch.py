"""Measure the verified join of chunks beside `ffmpeg -f concat -c copy` of the same ones (`make bench-stitch`)."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from rich.console import Console  # noqa: E402  # the root of the checkout is not on the path of a script that lies elsewhere
from rich.table import Table  # noqa: E402

from activities.media.facts import ChunkFile  # noqa: E402
from activities.media.film import verify_film  # noqa: E402
from activities.media.join import join_video  # noqa: E402
from activities.media.video import inspect_video  # noqa: E402
from activities.processes.programs import find_ffmpeg  # noqa: E402

FPS = Fraction(25)

# Promise: a verified join costs at most so many times what ffmpeg takes to copy the same packets unverified.
MOST_COST = 1.15

# By name: extension and options of the chunks. Of each kind some different files stand for all chunks.
KINDS = {
    "h264": (".mp4", ("-c:v", "libx264", "-preset", "veryfast")),
    "h264-ts": (".ts", ("-c:v", "libx264", "-preset", "veryfast")),
    "prores": (".mov", ("-c:v", "prores_ks")),
    "vp9": (".webm", ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-b:v", "1M")),
}
_DIFFERENT = 8


def make_chunks(folder: Path, kind: str, count: int, frames: int, size: str) -> list[ChunkFile]:
    """Render some chunks, copy them until there are enough, and check each as a worker does when it is rendered."""
    suffix, options = KINDS[kind]
    made = []
    for number in range(_DIFFERENT):
        path = folder / f"source{number}{suffix}"
        picture = f"testsrc2=s={size}:r={FPS},trim=start_frame={number * frames},setpts=PTS-STARTPTS"
        pixels = () if kind == "prores" else ("-pix_fmt", "yuv420p")
        source = ("-f", "lavfi", "-i", picture, "-frames:v", str(frames), *pixels)
        subprocess.run([find_ffmpeg(), "-nostdin", "-v", "error", "-y", *source, *options, str(path)], check=True)
        made.append((path, inspect_video(path, fps=FPS, frames=frames)))
    chunks = []
    for number in range(count):
        source_path, facts = made[number % _DIFFERENT]
        path = folder / f"{number:06}{suffix}"
        shutil.copyfile(source_path, path)
        chunks.append(ChunkFile(path, f"chunk {number}", frames, facts=facts))
    return chunks


def copy_with_ffmpeg(chunks: Sequence[ChunkFile], film: Path, *, sync: bool = False) -> str:
    """Join chunks as people do by hand; nothing is verified, and nothing need be on the disk yet."""
    listing = film.with_suffix(".txt")
    listing.write_text("".join(f"file '{chunk.path}'\n" for chunk in chunks))
    words = ("-f", "concat", "-safe", "0", "-i", str(listing), "-c", "copy", str(film))
    subprocess.run([find_ffmpeg(), "-nostdin", "-v", "error", "-y", *words], check=True)
    if sync:
        _sync(film)
    return ""


def join_verified(chunks: Sequence[ChunkFile], film: Path, *, full: bool = False, sync: bool = False) -> str:
    """Join and verify as a stitch does, with what the checks of the chunks have found; publishing syncs the film."""
    frames = sum(chunk.frames for chunk in chunks)
    made = join_video(chunks, film, fps=FPS, progress=lambda _: None, stop=threading.Event())
    proof = verify_film(film, fps=FPS, frames=frames, joined=made, full=full).proof
    if sync:
        _sync(film)
    return proof


def _sync(film: Path) -> None:
    with film.open("rb") as file:
        os.fsync(file.fileno())


def measure(run: Callable[[], str], folder: Path) -> tuple[float, str]:
    """Return the seconds that a run took to make a film where there was none, and what it says."""
    # To write over a film costs more than to copy one: the file system frees its blocks, and flushes the new ones.
    for name in ("copied", "joined"):
        for left in folder.glob(f"{name}.*"):
            left.unlink()
    began = time.perf_counter()
    said = run()
    return time.perf_counter() - began, said


def measure_kind(folder: Path, kind: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Measure one kind of chunks, the ways in turn, so that what else the machine does meets all alike."""
    chunks = make_chunks(folder, kind, arguments.chunks, arguments.frames, arguments.size)
    suffix = chunks[0].path.suffix
    ways: dict[str, Callable[[], str]] = {
        "ffmpeg": lambda: copy_with_ffmpeg(chunks, folder / f"copied{suffix}"),
        "synced": lambda: copy_with_ffmpeg(chunks, folder / f"copied{suffix}", sync=True),
        "seams": lambda: join_verified(chunks, folder / f"joined{suffix}"),
        "seams_synced": lambda: join_verified(chunks, folder / f"joined{suffix}", sync=True),
        "full": lambda: join_verified(chunks, folder / f"joined{suffix}", full=True),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    proof = ""
    for number in range(arguments.runs):
        for way, run in ways.items():
            if way == "full" and number > 0:
                continue
            took, said = measure(run, folder)
            seconds[way].append(took)
            proof = said if way == "seams" else proof
    median = {way: statistics.median(taken) for way, taken in seconds.items()}
    return {
        "kind": kind,
        **{way: round(value, 2) for way, value in median.items()},
        "cost": round(median["seams"] / median["ffmpeg"], 3),
        "synced_cost": round(median["seams_synced"] / median["synced"], 3),
        "full_cost": round(median["full"] / median["ffmpeg"], 2),
        "proof": proof,
    }


def main() -> int:
    """Measure, print a table, and fail where a join costs more than is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=25, help="frames a chunk")
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for kind in arguments.kinds:
        with tempfile.TemporaryDirectory(prefix="longtake-stitch-") as folder:
            rows.append(measure_kind(Path(folder), kind, arguments))
    if arguments.json:
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        title = f"{arguments.chunks} chunks of {arguments.frames} frames, {arguments.size}, {os.cpu_count()} cores"
        table = Table(title=f"{title}, {platform.machine()}: seconds")
        columns = (
            "chunks",
            "ffmpeg -c copy",
            "and fsync",
            "seams",
            "cost",
            "and fsync",
            "cost",
            "full",
            "cost",
            "proof",
        )
        for column in columns:
            table.add_column(column)
        for row in rows:
            timed = ("ffmpeg", "synced", "seams", "cost", "seams_synced", "synced_cost", "full", "full_cost")
            names = ("kind", *timed, "proof")
            table.add_row(*(str(row[name]) for name in names))
        Console().print(table)
    return 0 if all(float(str(row["cost"])) <= MOST_COST for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())

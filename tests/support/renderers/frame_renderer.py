"""A renderer of image sequences that does as tests tell it: writes down each frame, waits, fails, renders slowly."""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.jobs.images import png

parser = argparse.ArgumentParser()
parser.add_argument("output", help="printf pattern")
parser.add_argument("--start", type=int, required=True)
parser.add_argument("--count", type=int, required=True)
parser.add_argument("--ledger", required=True)
parser.add_argument("--gate", help="wait for this file")
parser.add_argument("--gate-at", type=int, help="in the middle of writing this frame")
parser.add_argument("--fail-at", type=int, help="exit with 1 in the middle of writing this frame, the first time")
parser.add_argument("--say", default="", help="print this before failing")
parser.add_argument("--numbered-from", type=int, help="name files by numbers of its own, as ffmpeg does")
parser.add_argument("--size", type=int, default=8)
given = parser.parse_args()


def note(line: str) -> None:
    descriptor = os.open(given.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


note(f"start {given.start} {os.getpid()} {given.count}")
for frame in range(given.start, given.start + given.count):
    name = frame if given.numbered_from is None else given.numbered_from + frame - given.start
    picture = png(frame, size=given.size)
    with open(given.output % name, "wb") as file:
        file.write(picture[:-10])
        file.flush()
        if frame == given.gate_at:
            note(f"waiting {frame} {os.getpid()}")
            end = time.monotonic() + 600
            while not os.path.exists(given.gate) and time.monotonic() < end:
                time.sleep(0.01)
        if frame == given.fail_at and not os.path.exists(f"{given.ledger}.failed"):
            Path(f"{given.ledger}.failed").touch()
            print(given.say, flush=True)
            sys.exit(1)
        file.write(picture[-10:])
    note(f"frame {frame} {os.getpid()}")

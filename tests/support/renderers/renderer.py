"""A renderer that does as tests tell it: writes down its start and end, waits, fails, lies about its output."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--chunk", type=int, required=True)
parser.add_argument("--count", type=int, default=1)
parser.add_argument("--ledger", required=True)
parser.add_argument("--gate", help="wait until this file is there")
parser.add_argument("--only", type=int, action="append", help="misbehave in these chunks only")
parser.add_argument("--fail-times", type=int, default=0, help="fail the first tries of each chunk")
parser.add_argument("--exit", type=int, default=0, help="exit with this code")
parser.add_argument("--say", default="", help="print this")
parser.add_argument("--output-is", choices=["whole", "missing", "empty"], default="whole")
parser.add_argument("--copy-from", help="write this file instead")
parser.add_argument("--child", action="store_true", help="leave a child running")
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--seconds", type=float, default=0)
given = parser.parse_args()


def note(line: str) -> None:
    """Append a line in one write, which renders running side by side cannot mix."""
    descriptor = os.open(given.ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


misbehaves = given.only is None or given.chunk in given.only
if given.ignore_term:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note(f"start {given.chunk} {os.getpid()} {os.environ.get('LONGTAKE_ATTEMPT', '-')}")
if given.say:
    print(given.say, flush=True)
if given.child:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    note(f"child {given.chunk} {child.pid}")
if given.gate and misbehaves:
    # Bounded, so that a test that fails leaves nothing behind for long.
    end = time.monotonic() + 600
    while not os.path.exists(given.gate) and time.monotonic() < end:
        time.sleep(0.01)
time.sleep(given.seconds if misbehaves else 0)
tries = f"{given.ledger}.tries.{given.chunk}"
if misbehaves and given.fail_times:
    descriptor = os.open(tries, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b".")
    os.close(descriptor)
    if os.path.getsize(tries) <= given.fail_times:
        print(f"try {os.path.getsize(tries)} goes wrong", file=sys.stderr)
        sys.exit(7)
if misbehaves and given.exit:
    sys.exit(given.exit)
if not (misbehaves and given.output_is == "missing"):
    if misbehaves and given.copy_from:
        shutil.copyfile(given.copy_from, given.output)
    else:
        with open(given.output, "w") as file:
            file.write("" if misbehaves and given.output_is == "empty" else f"chunk {given.chunk}\n")
note(f"end {given.chunk} {os.getpid()}")

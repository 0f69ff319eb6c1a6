"""A renderer that does as tests tell it: writes down its start and end, waits, fails, lies about its output.

It imports little: the suite starts thousands of them.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))

from support.renderers.renderer_script import note, read_options, wait_for


class Given:
    """What the command line says, and what holds without it."""

    output = ""
    chunk = 0
    count = 1
    ledger = ""
    # Wait until this file is there.
    gate = ""
    # Misbehave in these chunks only; without any, in all of them.
    only: tuple[int, ...] = ()
    # Fail the first tries of each chunk.
    fail_times = 0
    # Exit with this code.
    exit = 0
    # Print this.
    say = ""
    # whole, missing or empty
    output_is = "whole"
    # Write this file instead.
    copy_from = ""
    # Leave a child running.
    child = False
    ignore_term = False
    seconds = 0.0


given = Given()
read_options(given)
misbehaves = not given.only or given.chunk in given.only
if given.ignore_term:
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note(given.ledger, f"start {given.chunk} {os.getpid()} {os.environ.get('LONGTAKE_ATTEMPT', '-')}")
if given.say:
    print(given.say, flush=True)
if given.child:
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)"])
    note(given.ledger, f"child {given.chunk} {child}")
if given.gate and misbehaves:
    wait_for(given.gate)
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
    content = b"" if misbehaves and given.output_is == "empty" else b"chunk %d\n" % given.chunk
    if misbehaves and given.copy_from:
        with open(given.copy_from, "rb") as source:
            content = source.read()
    with open(given.output, "wb") as file:
        file.write(content)
note(given.ledger, f"end {given.chunk} {os.getpid()}")

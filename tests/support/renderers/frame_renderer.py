"""A renderer of image sequences that does as tests tell it: writes down each frame, waits, fails, renders slowly."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", ".."))

from support.jobs.images import png
from support.renderers.renderer_script import note, read_options, wait_for


class Given:
    """What the command line says, and what holds without it."""

    # A printf pattern.
    output = ""
    start = 0
    count = 0
    step = 1
    ledger = ""
    # Wait for this file, in the middle of writing that frame.
    gate = ""
    gate_at = -1
    # Exit with 1 in the middle of writing this frame, the first time.
    fail_at = -1
    # Print this before failing.
    say = ""
    # Name files by numbers of its own, as ffmpeg does.
    numbered_from = -1
    size = 8
    # Paint other pictures when this file is there.
    repaint = ""


given = Given()
read_options(given)
note(given.ledger, f"start {given.start} {os.getpid()} {given.count}")
painted = 500 if given.repaint and os.path.exists(given.repaint) else 0
for frame in range(given.start, given.start + given.count * given.step, given.step):
    name = frame if given.numbered_from < 0 else given.numbered_from + frame - given.start
    picture = png(frame + painted, size=given.size)
    with open(given.output % name, "wb") as file:
        file.write(picture[:-10])
        file.flush()
        if frame == given.gate_at:
            note(given.ledger, f"waiting {frame} {os.getpid()}")
            wait_for(given.gate)
        if frame == given.fail_at and not os.path.exists(f"{given.ledger}.failed"):
            open(f"{given.ledger}.failed", "w").close()
            print(given.say, flush=True)
            sys.exit(1)
        file.write(picture[-10:])
    note(given.ledger, f"frame {frame} {os.getpid()}")

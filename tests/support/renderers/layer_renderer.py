"""A renderer of image sequences that writes more than its outputs: of each frame, and of all of them."""

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
    ledger = ""
    # Wait for this file, with half a text of that frame written.
    gate = ""
    gate_at = -1
    # A file of no frame: static, listing (of the frames, again at each), or last (written at the end).
    shared = ""


given = Given()
read_options(given)
note(given.ledger, f"start {given.start} {os.getpid()} {given.count}")
home = os.path.dirname(given.output)
os.makedirs(f"{home}/v2", exist_ok=True)


def share(content: str) -> None:
    with open(f"{home}/scene.txt", "w") as file:
        file.write(content)


if given.shared == "static":
    share("camera 1\n")
done = []
for frame in range(given.start, given.start + given.count):
    with open(given.output % frame, "wb") as picture:
        picture.write(png(frame))
    with open(f"{home}/f_{frame:04}.normal.png", "wb") as picture:
        picture.write(png(frame + 100))
    text = f"samples of frame {frame}\n" * 100
    with open(f"{home}/v2/{frame}.txt", "w") as file:
        file.write(text[: len(text) // 2])
        file.flush()
        if frame == given.gate_at and not os.path.exists(given.gate):
            note(given.ledger, f"waiting {frame} {os.getpid()}")
            wait_for(given.gate)
        file.write(text[len(text) // 2 :])
    done.append(frame)
    if given.shared == "listing":
        share(f"{done}\n")
    note(given.ledger, f"frame {frame} {os.getpid()}")
if given.shared == "last":
    share(f"{done}\n")

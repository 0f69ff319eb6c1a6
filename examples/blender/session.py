"""Render chunk after chunk in one Blender: each is asked for by a line on standard input.

Run by session.yaml beside it. A line holds names and values, as in `start 5 stop 9 output "/films/ring_#####"`.
"""

import runpy
import shlex
import sys
from pathlib import Path

import bpy


def render_chunk(values: dict[str, str]) -> None:
    """Render the frames of one chunk; Blender adds the extension, and the number in place of the hashes."""
    scene = bpy.context.scene
    for frame in range(int(values["start"]), int(values["stop"])):
        scene.frame_set(frame)
        scene.render.filepath = values["output"]
        scene.render.filepath = scene.render.frame_path(frame=frame)
        bpy.ops.render.render(write_still=True)


def main() -> None:
    """Answer each line on standard output, when its frames are written or with why they are not."""
    # The scene is built once, and not for each chunk.
    runpy.run_path(str(Path(__file__).with_name("scene.py")))
    for line in sys.stdin:
        words = shlex.split(line)
        try:
            render_chunk(dict(zip(words[::2], words[1::2], strict=True)))
        except Exception as error:  # whatever it is, the chunk has failed by it
            print("longtake: failed", " ".join(str(error).split()), flush=True)
        else:
            print("longtake: done", flush=True)


main()

"""How reports show states of chunks and bars of the timeline: words, classes of the style sheet, colours of pixels.

The page of `longtake web` has the same words in `static/format.js`, and its style sheet the same colours; tests hold
them to these.
"""

from dataclasses import dataclass

from longtake.chunk_history import ChunkState
from longtake.render_timeline import BarKind


@dataclass(frozen=True)
class Look:
    """How something is shown.

    Args:
        words: What it is called in legends.
        css_class: Class of the style sheet, which has its colour as a variable of the same name.
        pixel: Colour in maps of a pixel a chunk, which is the same on light and dark paper; six digits for the colour
            and two for opacity.
    """

    words: str
    css_class: str
    pixel: str = ""


# In the order of legends. What is to do is transparent: paper below shows it.
STATE_LOOKS = {
    ChunkState.DONE: Look("done, proven", "done", "3a8ac8ff"),
    ChunkState.RUNNING: Look("rendering", "run", "e6a70cff"),
    ChunkState.WAITING: Look("next try waits", "run", "a87f1cff"),
    ChunkState.FAILED: Look("failed", "fail", "e05a30ff"),
    ChunkState.FROZEN: Look("frozen", "ice", "79cbeeff"),
    ChunkState.LEFT_OUT: Look("left out", "skip", "98a2b1ff"),
    ChunkState.TODO: Look("to do", "todo", "00000000"),
}

# In the order in which they are drawn: failures above the others.
BAR_LOOKS = {
    BarKind.RENDERED: Look("rendered", "done"),
    BarKind.RUNNING: Look("renders now", "run"),
    BarKind.FROZEN: Look("frozen", "ice"),
    BarKind.FAILED: Look("failed try", "fail"),
}

# cividis, which colour-blind eyes read as well: the shortest times are dark.
RAMP = (
    "0b2a5b", "1f3a6d", "3a4a6c", "4f596d", "636870", "777874", "8c8876", "a29974", "b9ab6c", "d0bd60", "e8d14c",
    "fde737",
)  # fmt: skip

# Okabe and Ito's colours, then others.
HOST_COLOURS = (
    "0072b2", "e69f00", "009e73", "cc79a7", "56b4e9", "d55e00", "b8a500", "7a5cc2", "5f8f3a", "a45a52", "3f8f99",
    "8a8f99",
)  # fmt: skip

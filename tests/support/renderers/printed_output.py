"""What renderers print, captured and made up, in any order and cut anywhere."""

from itertools import pairwise
from pathlib import Path

from hypothesis import strategies as st

PRINTED = Path(__file__).parents[2] / "unit" / "printed"

CAPTURED = [
    *(PRINTED / "blender-3.4-cycles.txt").read_bytes().splitlines(keepends=True),
    *(PRINTED / "blender-3.4-workbench-video.txt").read_bytes().splitlines(keepends=True),
    *(b"frame=7\n", b"speed=1.2x\n", b"progress=continue\n", b"frame=   12 fps=0.0 q=28.0 speed=N/A\r"),
    *(b"openjd_progress: 12.5\n", b"openjd_status: working\n", b"openjd_fail: no\n", b"openjd_progress: x\n"),
    *(b"openjd_redacted_env: KEY=hunter22\n", b"openjd_status: hunter22\n", b"openjd_redacted_env: [[[[\n"),
    *(b"Rendered 3/9\r", b"Progress: Rendered 4 / 9 frames\n", b"Fra:", b"Saved: '", b"\x1b[2K", b"\x1b]0;", b"\x00"),
    *(
        b"Error: no\n",
        b"Traceback (most recent call last):\n",
        b"  File\n",
        b"ValueError: x\n",
        b"\xff",
        b"\xc3",
        b"\r\n",
    ),
]

OUTPUT = st.lists(st.one_of(st.sampled_from(CAPTURED), st.binary(max_size=40)), max_size=60).map(b"".join)
CUTS = st.lists(st.integers(0, 4000), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut printed output into pieces, as a log grows."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(edges)]

"""Proof that a video file is whole."""

import threading
from fractions import Fraction
from pathlib import Path

from activities.media.facts import VideoFacts
from activities.media.reading import read_video

__all__ = ["VideoFacts", "inspect_video"]


def inspect_video(
    path: Path, *, fps: Fraction, frames: int | None = None, stop: threading.Event | None = None
) -> VideoFacts:
    """Returns the facts of a video file once every packet of it was read and found right.

    A file cut at any byte is refused, except where the cut leaves a whole, shorter file (a transport stream
    cut exactly between two frames): there `frames` tells.

    Args:
        path: The file; its extension says how it is read.
        fps: The rate on whose grid all frames must lie.
        frames: The number of frames it must hold; any number when absent.
        stop: Ends the reading early when set.

    Raises:
        DamagedOutput: Missing, empty, cut, unreadable, or not `frames` long.
        MismatchedOutput: Sound, but of another rate or a kind that cannot be joined.
        JoinStopped: `stop` was set.
    """
    return read_video(path, fps=fps, frames=frames, stop=stop).facts

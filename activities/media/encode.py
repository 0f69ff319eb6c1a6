"""The command that makes a film of numbered pictures."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from activities.media.writer import track_timescale

_H264 = ("-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p")
_DEFAULTS = {
    ".mp4": _H264,
    ".m4v": _H264,
    ".mov": _H264,
    ".mkv": _H264,
    ".ts": _H264,
    ".webm": ("-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-pix_fmt", "yuv420p"),
}


def image_pattern(before: str, digits: int, after: str) -> str:
    """Returns the pattern by which ffmpeg finds pictures named `before`, frame number, `after`.

    Args:
        before: Path up to the number; percent signs in it are plain characters.
        digits: How many digits the number has at least.
        after: The rest of the name.
    """
    return f"{before.replace('%', '%%')}%0{digits}d{after.replace('%', '%%')}"


def encode_command(
    ffmpeg: str,
    pattern: str,
    first: int,
    frames: int,
    fps: Fraction,
    encode_args: Sequence[str],
    target: Path,
) -> list[str]:
    """Returns the ffmpeg command that encodes numbered pictures, reporting progress on standard output.

    ffmpeg takes a missing picture for the end of the film, without an error: the pictures must be checked
    before (`check_sequence`) and the film after (`verify_film`).

    Args:
        ffmpeg: The program.
        pattern: A pattern made by `image_pattern`.
        first: The number of the first picture.
        frames: How many pictures there are.
        fps: The exact rate of the film.
        encode_args: The user's encoder options; good H.264 (VP9 in webm) when empty.
        target: Where to write; its extension says the container.
    """
    suffix = target.suffix.lower()
    timing = []
    if suffix in (".mp4", ".m4v", ".mov"):
        scale = str(track_timescale(fps))
        timing = ["-video_track_timescale", scale, "-movie_timescale", scale, "-movflags", "+faststart"]
    rate = f"{fps.numerator}/{fps.denominator}"
    return [
        *(ffmpeg, "-nostdin", "-v", "error", "-y", "-progress", "pipe:1", "-nostats"),
        *("-f", "image2", "-pattern_type", "sequence", "-framerate", rate),
        # Without the range ffmpeg would begin with a later picture where the first one is missing.
        *("-start_number", str(first), "-start_number_range", "1", "-i", os.path.abspath(pattern)),
        *(encode_args or _DEFAULTS.get(suffix, _H264)),
        *timing,
        *("-an", "-frames:v", str(frames), f"file:{os.path.abspath(target)}"),
    ]

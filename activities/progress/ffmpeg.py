"""Progress as ffmpeg prints it: `-progress` blocks, and the status line on stderr."""

import re

from activities.progress.sign import Sign

# `frame=12` of a block; `frame=   12 fps=0.0 q=28.0 size= ...` of the status line, which ends with `\r`.
_FRAME = re.compile(r"\s*frame=\s*([0-9]{1,9})(?=\s*$|\s+fps=)")
# `speed=1.2x` of a block and at the end of the status line; `N/A` before the first frame.
_SPEED = re.compile(r"(?:\s*|frame=.*\s)speed=\s*([0-9]{1,9}(?:\.[0-9]{1,9})?(?:e[+-]?[0-9]{1,3})?)x")


class FfmpegFormat:
    """Reads how many frames were written, and how fast."""

    words = (b"frame=", b"speed=")

    def read(self, line: str) -> Sign | None:
        frame, speed = _FRAME.match(line), _SPEED.match(line)
        if frame is None and speed is None:
            return None
        return Sign(
            done=int(frame[1]) if frame else None,
            message=f"speed {speed[1]}x" if speed else "",
        )

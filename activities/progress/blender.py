"""Progress as Blender prints it, from 2.7 to 5.0."""

import re
from pathlib import PurePath

from activities.progress.sign import Sign

# 5.0 begins its lines with a clock and a category: `00:00.327  render           | Saved: ...`.
_PREFIX = re.compile(r"\s*(?:(?:[0-9]+:)?[0-9]{2}:[0-9]{2}\.[0-9]+\s+[\w.]+\s*\|\s*)?", re.ASCII)
_FRAME = re.compile(r"Fra:\s*(-?[0-9]{1,9})\b")
# Cycles, and Eevee. 2.7 to 2.9 also count tiles: `Rendered 3/64 Tiles, Sample 4/128`.
_SAMPLE = re.compile(
    r"\bSample\s+([0-9]{1,9})/([0-9]{1,9})\b|\bRendering\s+([0-9]{1,9})\s*/\s*([0-9]{1,9})\s+samples\b"
)
_TILE = re.compile(r"\bRendered\s+([0-9]{1,9})/([0-9]{1,9})\s+Tiles\b")
_REMAINING = re.compile(r"\bRemaining:\s*((?:[0-9]{1,4}:)?[0-9]{1,4}):([0-9]{2})(?:\.[0-9]+)?")
_SAVED = re.compile(r"(?:Saved:\s+'(.*)'|[Ss]kipping existing frame\s+\"(.*)\")\s*")
# With a leading blank in 3.4; printed when the frame is rendered and saved.
_TIME = re.compile(r"Time:\s+(?:[0-9]+:)?[0-9]+:[0-9]+\.[0-9]+\s+\(Saving:")
_APPENDED = re.compile(r"Append frame\s+(-?[0-9]{1,9})\b")
_NUMBER = re.compile(r"-?[0-9]{1,9}")


class BlenderFormat:
    """Reads `Fra:`, `Saved:`, `Time:`, `Append frame` and skipped frames; samples only say what it is doing."""

    words = (b"Fra:", b"Saved:", b"Time:", b"kipping existing frame", b"Append frame")

    def __init__(self) -> None:
        self._frame: int | None = None

    def read(self, line: str) -> Sign | None:
        prefix = _PREFIX.match(line)
        rest = line[prefix.end() :] if prefix else line
        if match := _FRAME.match(rest):
            self._frame = int(match[1])
            return Sign(begun=self._frame, message=_doing(self._frame, rest))
        if match := _APPENDED.match(rest):
            return Sign(finished=int(match[1]))
        if match := _SAVED.match(rest):
            return Sign(finished=self._frame_of(match[1] or match[2] or ""))
        if _TIME.match(rest) and self._frame is not None:
            return Sign(finished=self._frame)
        return None

    def _frame_of(self, path: str) -> int | None:
        """Return the frame that a file's name tells: the one being rendered where the name has it, else its last."""
        # A path of Windows has backslashes.
        stem = PurePath(path.replace("\\", "/")).stem
        numbers = [int(number) for number in _NUMBER.findall(stem)]
        # `shot-0012.png` is frame 12 as a rule, and frame -12 where that is the one being rendered.
        if self._frame is not None and {self._frame, -self._frame} & {*numbers}:
            return self._frame
        return abs(numbers[-1]) if numbers else None


def _doing(frame: int, line: str) -> str:
    words = [f"frame {frame}"]
    if match := _SAMPLE.search(line):
        words.append(f"sample {match[1] or match[3]} of {match[2] or match[4]}")
    elif match := _TILE.search(line):
        words.append(f"tile {match[1]} of {match[2]}")
    if match := _REMAINING.search(line):
        hours, _, minutes = match[1].rpartition(":")
        words.append(f"{int(hours)}:{minutes}:{match[2]} to go" if hours else f"{int(minutes)}:{match[2]} to go")
    return ", ".join(words)

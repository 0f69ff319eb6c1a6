"""How renderers print progress: Blender, ffmpeg, Open Job Description, Helios and Remotion.

OpenJD directives: https://github.com/OpenJobDescription/openjd-specifications/wiki/How-Jobs-Are-Run
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Protocol

from longtake.models.policies import ProgressFormat

# Messages are shown on one line of a table.
LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class ProgressUpdate:
    """Progress that one printed line reports; most lines report one thing only."""

    # Frames of this command that are done.
    frames_done: int | None = None
    # How much of this command's work is done, from 0 to 1.
    share: Fraction | None = None
    # The frame being rendered now, as the renderer counts.
    current_frame: int | None = None
    # A frame that is finished, as the renderer counts.
    finished_frame: int | None = None
    # What the renderer is doing, for people.
    message: str = ""
    # Whether the line reports that the try has failed.
    is_fatal: bool = False


class LineFormat(Protocol):
    """One way of printing progress; one object for each render, which may remember lines."""

    @property
    def markers(self) -> tuple[bytes, ...]:
        """Bytes of which one at least is in every line that `read` understands: a quick test before `read`."""
        ...

    def read(self, line: str) -> ProgressUpdate | None:
        """Parse a line; None where the line is not of this format."""
        ...


def compute_share(done: int, total: int) -> Fraction | None:
    """Compute the share of work that is done, 1 at most; None where the total is not positive."""
    return Fraction(min(done, total), total) if total > 0 else None


# 5.0 begins its lines with a clock and a category: `00:00.327  render           | Saved: ...`.
_PREFIX = re.compile(r"\s*(?:(?:[0-9]+:)?[0-9]{2}:[0-9]{2}\.[0-9]+\s+[\w.]+\s*\|\s*)?", re.ASCII)
_BLENDER_FRAME = re.compile(r"Fra:\s*(-?[0-9]{1,9})\b")
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
    """Reads `Fra:`, `Saved:`, `Time:`, `Append frame` and skipped frames; samples go into the message only."""

    markers = (b"Fra:", b"Saved:", b"Time:", b"kipping existing frame", b"Append frame")

    def __init__(self) -> None:
        self._frame: int | None = None

    def read(self, line: str) -> ProgressUpdate | None:
        prefix = _PREFIX.match(line)
        rest = line[prefix.end() :] if prefix else line
        if match := _BLENDER_FRAME.match(rest):
            self._frame = int(match[1])
            return ProgressUpdate(current_frame=self._frame, message=_describe_frame(self._frame, rest))
        if match := _APPENDED.match(rest):
            return ProgressUpdate(finished_frame=int(match[1]))
        if match := _SAVED.match(rest):
            return ProgressUpdate(finished_frame=self._frame_of(match[1] or match[2] or ""))
        if _TIME.match(rest) and self._frame is not None:
            return ProgressUpdate(finished_frame=self._frame)
        return None

    def _frame_of(self, path: str) -> int | None:
        """Find the frame in the name of a file: the frame being rendered if the name has it, else the last number."""
        # A path of Windows has backslashes.
        stem = PurePath(path.replace("\\", "/")).stem
        numbers = [int(number) for number in _NUMBER.findall(stem)]
        # `shot-0012.png` is frame 12 as a rule, and frame -12 where that is the one being rendered.
        if self._frame is not None and {self._frame, -self._frame} & {*numbers}:
            return self._frame
        return abs(numbers[-1]) if numbers else None


def _describe_frame(frame: int, line: str) -> str:
    words = [f"frame {frame}"]
    if match := _SAMPLE.search(line):
        words.append(f"sample {match[1] or match[3]} of {match[2] or match[4]}")
    elif match := _TILE.search(line):
        words.append(f"tile {match[1]} of {match[2]}")
    if match := _REMAINING.search(line):
        hours, _, minutes = match[1].rpartition(":")
        words.append(f"{int(hours)}:{minutes}:{match[2]} to go" if hours else f"{int(minutes)}:{match[2]} to go")
    return ", ".join(words)


# `frame=12` of a block; `frame=   12 fps=0.0 q=28.0 size= ...` of the status line, which ends with `\r`.
_FFMPEG_FRAME = re.compile(r"\s*frame=\s*([0-9]{1,9})(?=\s*$|\s+fps=)")
# `speed=1.2x` of a block and at the end of the status line; `N/A` before the first frame.
_SPEED = re.compile(r"(?:\s*|frame=.*\s)speed=\s*([0-9]{1,9}(?:\.[0-9]{1,9})?(?:e[+-]?[0-9]{1,3})?)x")


class FfmpegFormat:
    """Reads how many frames ffmpeg has written, and how fast."""

    markers = (b"frame=", b"speed=")

    def read(self, line: str) -> ProgressUpdate | None:
        frame, speed = _FFMPEG_FRAME.match(line), _SPEED.match(line)
        if frame is None and speed is None:
            return None
        return ProgressUpdate(
            frames_done=int(frame[1]) if frame else None,
            message=f"speed {speed[1]}x" if speed else "",
        )


# The colon and one blank are part of the directive: `openjd_progress: 55.0`.
_DIRECTIVE = re.compile(r"openjd_(progress|status|fail): (.+)", re.DOTALL)
_PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*")


class OpenJdFormat:
    """Reads `openjd_progress`, `openjd_status` and `openjd_fail`; other directives report no progress."""

    markers = (b"openjd_progress: ", b"openjd_status: ", b"openjd_fail: ")

    def read(self, line: str) -> ProgressUpdate | None:
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            return None
        if match[1] == "progress":
            share = parse_percent(match[2])
            return None if share is None else ProgressUpdate(share=share)
        return ProgressUpdate(is_fatal=True) if match[1] == "fail" else ProgressUpdate(message=match[2])


def parse_percent(text: str) -> Fraction | None:
    """Parse a number from 0 to 100 as a share of 1; None where the text is none."""
    match = _PERCENT.fullmatch(text)
    share = Fraction(match[1]) / 100 if match else None
    return share if share is not None and share <= 1 else None


# `Rendered 12/300`, but not Blender's `Rendered 3/64 Tiles`.
_REMOTION = re.compile(r"\W{0,8}Rendered\s+([0-9]{1,9})\s*/\s*([0-9]{1,9})\b(?!\s*(?:Tiles|samples))")
_HELIOS = re.compile(r"\W{0,8}Progress:\s+Rendered\s+([0-9]{1,9})\s*/\s*([0-9]{1,9})\b")


class _CountFormat:
    """Reads `N / M`: a share of the command's frames, whatever the renderer counts."""

    markers = (b"Rendered",)

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def read(self, line: str) -> ProgressUpdate | None:
        match = self._pattern.match(line)
        if match is None:
            return None
        done, total = int(match[1]), int(match[2])
        return ProgressUpdate(share=compute_share(done, total), message=f"rendered {done} of {total}")


class RemotionFormat(_CountFormat):
    """Reads `Rendered 12/300`."""

    def __init__(self) -> None:
        super().__init__(_REMOTION)


class HeliosFormat(_CountFormat):
    """Reads `Progress: Rendered 12 / 300 frames`."""

    def __init__(self) -> None:
        super().__init__(_HELIOS)


# In the order in which `auto` tries them; the first that understands a line wins.
_FORMATS: dict[ProgressFormat, Callable[[], LineFormat]] = {
    ProgressFormat.BLENDER: BlenderFormat,
    ProgressFormat.FFMPEG: FfmpegFormat,
    ProgressFormat.OPENJD: OpenJdFormat,
    ProgressFormat.HELIOS: HeliosFormat,
    ProgressFormat.REMOTION: RemotionFormat,
}


# `Blender 4.2.0 (hash a51f1bfb4 built 2024-07-16)`, and what no other program prints.
_BLENDER = re.compile(rb"Blender [0-9]+\.[0-9]+|(?:[0-9:.]+\s+[\w.]+\s*\|\s*)?Fra:\s*-?[0-9]")
_TRACEBACK = b"Traceback (most recent call last)"
_SOURCE = re.compile(rb'\s*File "([^"]*)"')
# Where Blender's own code loads add-ons, and threads: many have errors there that no picture shows.
_STARTUP = re.compile(rb"[/\\]scripts[/\\]modules[/\\](?:addon_utils|bl_app_template_utils|_?bpy)|[/\\]threading\.py$")
# Exceptions that are told without their traceback, and options that Blender could not carry out: a script or a scene
# that is not there, a format that it does not know, a number that is none.
_ALONE = re.compile(
    rb"Error: (?:Python: (?!Traceback )|text block not found |[Ff]ormat from '-F|not a number '-|no blend loaded"
    rb"|you must specify )|Can't find scene: "
)
_ALONE_BEGINS = (b"Error: ", b"Can't find ")
_HARMLESS = (b"Exception ignored ", b"Exception in thread ", b"Exception in module ")


class BlenderErrors:
    """Finds exceptions of scripts and handlers of Blender and options that it passes over: it renders on after them.

    Args:
        setting: Whose output is read; other settings than `auto` and `blender` find nothing.
        program: Name of the renderer.
    """

    def __init__(self, setting: ProgressFormat, program: str) -> None:
        self._is_off = setting not in (ProgressFormat.AUTO, ProgressFormat.BLENDER)
        self._is_blender = setting is ProgressFormat.BLENDER or program.lower().startswith("blender")
        self._is_inside = False
        self._is_startup: bool | None = None
        self._line_before = b""
        self._found: bytes | None = None

    def find(self, lines: Sequence[bytes], *, ended: bool = False) -> bytes | None:
        """Return the first exception that was printed so far; None as long as nothing tells that Blender runs.

        Args:
            lines: The lines that were printed since the last call.
            ended: Whether no line follows.
        """
        if self._is_off:
            return None
        # Line by line: to join them for one search made each worker of loud renderers 9 MiB larger.
        # The two are written to different streams, and may come in any order.
        self._is_blender = self._is_blender or any(
            (b"Fra:" in line or b"Blender " in line) and _BLENDER.match(line) for line in lines
        )
        if self._found is None and (
            self._is_inside or any(_TRACEBACK in line or line.startswith(_ALONE_BEGINS) for line in lines)
        ):
            for line in lines:
                self._read(line)
                self._line_before = line
            if ended and self._is_inside:
                self._end(_TRACEBACK)
        self._line_before = lines[-1] if lines else self._line_before
        return self._found if self._is_blender else None

    def _read(self, line: bytes) -> None:
        if _TRACEBACK in line:
            self._is_inside, self._is_startup = True, self._line_before.startswith(_HARMLESS) or None
        elif self._is_inside and line[:1].isspace():
            if self._is_startup is None and (source := _SOURCE.match(line)):
                self._is_startup = _STARTUP.search(source[1]) is not None
        elif self._is_inside:
            self._end(line)
        elif self._found is None and _ALONE.match(line):
            self._found = line

    def _end(self, exception: bytes) -> None:
        self._is_inside = False
        if not self._is_startup and self._found is None:
            self._found = exception


def make_formats(setting: ProgressFormat) -> tuple[LineFormat, ...]:
    """Make the line formats that a progress setting asks for, for one render."""
    if setting is ProgressFormat.NONE:
        return ()
    return tuple(make() for known, make in _FORMATS.items() if setting in (ProgressFormat.AUTO, known))

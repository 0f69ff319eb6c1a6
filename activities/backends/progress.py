"""How far a renderer is, read from what it prints and from the files it has finished."""

import re
from pathlib import Path

# ffmpeg's `-progress` block (`frame=12`) and its status line (`frame=   12 fps=`); Helios and Remotion
# (`Rendered 12/300`, `Progress: Rendered 12 / 300 frames`). The last match of a read counts.
_FRAME = re.compile(rb"(?:\bframe=\s*|Rendered\s+)(\d{1,9})\b")

# More than this at once is a renderer that prints without end: only its newest words say where it is.
_READ_BYTES = 64 * 1024

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# The lines of a `-progress` block, which say nothing of why ffmpeg ended.
_PROGRESS_LINE = re.compile(
    r"(frame|fps|stream_\d+_\d+_\w+|bitrate|total_size|out_time(_us|_ms)?|(dup|drop)_frames|speed|progress)=\s*\S*"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class ProgressReader:
    """Follows one attempt's log and folder.

    Args:
        log: The file that the renderer prints to.
        counted_dir: Where finished image files appear, if there are any to count.
    """

    def __init__(self, log: Path, counted_dir: Path | None) -> None:
        self._log = log
        self._counted_dir = counted_dir
        self._offset = 0
        self.frames_done = 0

    @property
    def printed_bytes(self) -> int:
        """How much the renderer has printed so far."""
        return self._offset

    def read(self) -> int:
        """Return the frames done; never less than before."""
        size = self._log.stat().st_size if self._log.exists() else 0
        if size > self._offset:
            with self._log.open("rb") as file:
                # A number may have been cut in two by the last read: read a little of it again.
                file.seek(max(0, self._offset - 64, size - _READ_BYTES))
                found = _FRAME.findall(file.read(_READ_BYTES + 64))
            self._offset = size
            if found:
                self.frames_done = max(self.frames_done, int(found[-1]))
        if self._counted_dir is not None:
            files = sum(entry.is_file() for entry in self._counted_dir.rglob("*"))
            # The newest file is still being written.
            self.frames_done = max(self.frames_done, files - 1)
        return self.frames_done


def last_lines(log: Path, *, lines: int = 3, most: int = 600) -> str:
    """Return the end of a log as one line of plain text, for an error."""
    text = log_tail(log)
    kept = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    telling = [line for line in kept if not _PROGRESS_LINE.fullmatch(line)]
    return " | ".join((telling or kept)[-lines:])[-most:]


def log_tail(log: Path) -> str:
    """Return the last of a log as text, without colours and control characters."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16 * 1024))
            raw = file.read()
    except OSError:
        return ""
    return _CONTROL.sub("", _ANSI.sub("", raw.decode("utf-8", "replace").replace("\r", "\n")))

"""Reading how far one command is, from its log and the files it writes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from activities.progress.formats import LONGEST_MESSAGE, BlenderErrors, ProgressUpdate, make_formats
from activities.progress.log_errors import LineSplitter, decode_line
from activities.progress.patterns import UserPatterns
from longtake.attempt_log import AttemptLog
from longtake.concurrency import Throttle
from longtake.models.policies import ProgressSpec
from longtake.text import Redactor, shorten_line

# Counting 100,000 files takes some 50 ms: a fifth of a core at four times a second, so it is done less often.
_SHARE_OF_A_CORE = 0.02


class FileCounter:
    """Counts the finished files in a folder and below; one file is assumed to be unfinished.

    Args:
        folder: Folder in which files appear; may be missing yet.
        files_per_frame: How many files a frame has.
    """

    def __init__(self, folder: Path, files_per_frame: int = 1) -> None:
        self._files_per_frame = files_per_frame
        self._counting = Throttle(lambda: _files_in(str(folder)), share=_SHARE_OF_A_CORE)
        self._counted = 0

    def count_finished(self, *, ended: bool = False) -> int:
        """Count the frames whose files are finished, in a large folder those of a few seconds ago until the end."""
        counted = self._counting.call() if ended else self._counting.call_if_due()
        self._counted = self._counted if counted is None else counted
        return max(0, self._counted - 1) // self._files_per_frame


def _files_in(root: str) -> int:
    """Count files by the listing of their folders, without `stat`."""
    count, folders = 0, [root]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        count += 1
        except OSError:
            # The folder is missing yet, or was removed by the renderer.
            continue
    return count


# Most output that one read follows. A renderer that prints more is followed by its newest output.
_LOOK_BYTES = 64 * 1024
# Most output before that which one read searches for lines that make the try fail.
_SEARCHED_BYTES = 1024 * 1024

# Longest part of a line that made a try fail, which becomes part of an error.
_LONGEST_FATAL = 600


@dataclass(frozen=True)
class Reading:
    """How far a command is by its own output and files."""

    # Frames of the command that are done; never fewer than in an earlier reading.
    frames_done: int = 0
    # What the renderer is doing: one short line of plain text.
    message: str = ""
    # The printed line that makes the try fail whatever its exit code.
    fatal: str | None = None


class ProgressReader:
    """Reads the progress of one command from its log and folder, at a bounded cost each time.

    Args:
        log: The head of the renderer's log; may be missing yet.
        spec: How progress is printed.
        frames: Numbers of the frames that the command renders.
        counted_dir: Where finished image files appear, if there are any to count.
        files_per_frame: How many of them a frame has.
        since: Offset in the log where this command's output begins; the commands of one attempt share a log.
        program: Name of the renderer.
    """

    def __init__(
        self,
        log: Path,
        spec: ProgressSpec,
        *,
        frames: range,
        counted_dir: Path | None,
        files_per_frame: int = 1,
        since: int = 0,
        program: str = "",
    ) -> None:
        self._log = AttemptLog(log)
        self._frames = frames
        self._files = FileCounter(counted_dir, files_per_frame) if counted_dir else None
        self._formats = make_formats(spec.format)
        # Secrets are looked for in every format, because scripts that start renderers may declare them.
        self._markers = (*{marker for known in self._formats for marker in known.markers}, b"openjd_redacted_env:")
        self._blender_errors = BlenderErrors(spec.format, program)
        self._patterns = UserPatterns(spec.patterns, spec.fatal_patterns)
        self._splitter = LineSplitter()
        self._redactor = Redactor()
        self._frames_done = 0
        self._message = ""
        self._fatal: str | None = None
        # Bytes printed so far, by earlier commands of the attempt too.
        self.printed_bytes = since

    def read(self, *, ended: bool = False) -> Reading:
        """Read what was printed since the last call, the newest 64 KiB at most; never raises for odd output.

        Args:
            ended: Whether the renderer has ended, which makes a last line without an end whole.
        """
        try:
            if ended:
                # What was printed after the last listing that was due is read now or never.
                self._log.segments()
            searched, lines = self._new_lines()
        except OSError:
            # A failing disk or share: a render must not end because its progress cannot be read.
            searched, lines = [], []
        if ended:
            lines += self._splitter.finish()
        self._search(searched)
        self._follow(lines)
        self._blender_errors.find(searched)
        if error := self._blender_errors.find(lines, ended=ended):
            self._fail(decode_line(error))
        if self._files is not None:
            self._apply(ProgressUpdate(frames_done=self._files.count_finished(ended=ended)))
        return Reading(self._frames_done, shorten_line(self._message, LONGEST_MESSAGE), self._fatal)

    def _new_lines(self) -> tuple[list[bytes], list[bytes]]:
        """Read the new lines: those that are only searched for failures, and the newest ones."""
        size = self._log.size
        newest_from = max(self.printed_bytes, size - _LOOK_BYTES)
        offset = max(self.printed_bytes, newest_from - _SEARCHED_BYTES)
        if offset > self.printed_bytes:
            self._splitter.skip()
        searched: list[bytes] = []
        newest: list[bytes] = []
        while offset < size:
            most = newest_from - offset if offset < newest_from else size - offset
            piece = self._log.read(offset, most)
            if piece.offset > offset:
                self._splitter.skip()
            if not piece.data:
                break
            (searched if piece.stop <= newest_from else newest).extend(self._splitter.feed(piece.data))
            offset = piece.stop
        self.printed_bytes = max(size, offset)
        return searched, newest

    def _search(self, lines: Sequence[bytes]) -> None:
        """Search lines that are too many to be followed for secrets and for what makes the try fail."""
        for line in lines:
            if line.startswith((b"openjd_redacted_env:", b"openjd_fail: ")):
                self._read_line(line)
        if self._patterns.fatal:
            self._fail(self._patterns.find_fatal_line([decode_line(line) for line in lines]))

    def _follow(self, lines: Sequence[bytes]) -> None:
        # Most output has no marker, or those of one format: testing each line for all of them took 12 ms for 64 KiB.
        together = b"\n".join(lines)
        markers = [marker for marker in self._markers if marker in together]
        for line in lines if markers else ():
            for marker in markers:
                if marker in line:
                    self._read_line(line)
                    break
        if self._patterns.progress or self._patterns.fatal:
            texts = [decode_line(line) for line in lines]
            for update in self._patterns.find_updates(texts):
                self._apply(update)
            self._fail(self._patterns.find_fatal_line(texts))

    def _read_line(self, line: bytes) -> None:
        text = self._redactor.mask(decode_line(line))
        for known in self._formats:
            if update := known.read(text):
                self._apply(update)
                if update.is_fatal:
                    self._fail(text)
                return

    def _apply(self, update: ProgressUpdate) -> None:
        """Apply an update to the progress, which never falls and never passes the end."""
        frames = len(self._frames)
        done = 0
        if update.frames_done is not None:
            done = update.frames_done
        if update.share is not None:
            done = max(done, int(update.share * frames))
        # Numbers outside of the range come from a renderer that counts otherwise, and are ignored.
        if update.current_frame is not None and update.current_frame in self._frames:
            done = max(done, self._frames.index(update.current_frame))
        if update.finished_frame is not None and update.finished_frame in self._frames:
            done = max(done, self._frames.index(update.finished_frame) + 1)
        self._frames_done = max(self._frames_done, min(done, frames))
        self._message = update.message or self._message

    def _fail(self, line: str | None) -> None:
        if line is not None and self._fatal is None:
            self._fatal = shorten_line(self._redactor.mask(line), _LONGEST_FATAL)

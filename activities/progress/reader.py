"""How far one command is, read from its log and its files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from activities.progress.formats import LONGEST_MESSAGE, ProgressUpdate, formats_of
from activities.progress.log_errors import LineSplitter, text_of
from activities.progress.patterns import UserPatterns
from longtake.attempt_log import AttemptLog
from longtake.concurrency import Throttle
from longtake.models.policies import ProgressSpec
from longtake.text import Redactor, short_line

# Counting 100,000 files takes some 50 ms, as often as progress is asked for a fifth of a core.
_SHARE_OF_A_CORE = 0.02


class FileCounter:
    """Counts the files in a folder and below; the newest is taken to be still in the making.

    Args:
        folder: Where finished files appear; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._counting = Throttle(lambda: _files_in(str(folder)), share=_SHARE_OF_A_CORE)
        self._counted = 0

    def finished(self) -> int:
        """Return how many files are finished; of a large folder, as of a few seconds ago."""
        counted = self._counting.now()
        self._counted = self._counted if counted is None else counted
        return max(0, self._counted - 1)


def _files_in(root: str) -> int:
    """Count without looking into the files: what kind an entry is comes with the listing."""
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
            # Not there yet, or taken away by the renderer.
            continue
    return count


# More than this in one look is a renderer that prints without end: its newest words say where it is.
_LOOK_BYTES = 64 * 1024
# What a look leaves out is still searched for lines that make the try fail, up to so much.
_SEARCHED_BYTES = 1024 * 1024

# Of the line that made a try fail; it becomes part of an error.
_LONGEST_FATAL = 600


@dataclass(frozen=True)
class Reading:
    """How far a command is, as far as it says."""

    # Frames of `[start, stop)` that are done; never fewer than in an earlier reading.
    frames_done: int = 0
    # What the renderer is doing: one short line of plain text.
    message: str = ""
    # The line that makes the try fail whatever its exit code.
    fatal: str | None = None


class ProgressReader:
    """Follows one attempt's log and folder, at a bounded cost a look.

    Args:
        log: The head of the log that the renderer's output goes to; it may not be there yet.
        spec: How progress is printed.
        start: First frame that the command renders.
        stop: The frame after its last one.
        counted_dir: Where finished image files appear, if there are any to count.
        since: Where in the log this command's output begins; the commands of one attempt share a log.
    """

    def __init__(
        self, log: Path, spec: ProgressSpec, *, start: int, stop: int, counted_dir: Path | None, since: int = 0
    ) -> None:
        self._log = AttemptLog(log)
        self._start = start
        self._stop = stop
        self._files = FileCounter(counted_dir) if counted_dir else None
        self._formats = formats_of(spec.format)
        # What is asked for secrets is asked in every format: renderers are started by scripts.
        self._words = (*{word for known in self._formats for word in known.words}, b"openjd_redacted_env:")
        self._own = UserPatterns(spec.patterns, spec.fatal_patterns)
        self._splitter = LineSplitter()
        self._redactor = Redactor()
        self._frames_done = 0
        self._message = ""
        self._fatal: str | None = None
        # How much was printed so far, by earlier commands too.
        self.printed_bytes = since

    def read(self, *, ended: bool = False) -> Reading:
        """Look once: at most the newest 64 KiB that were printed since the last look. Never raises for odd output.

        Args:
            ended: The renderer has ended, so that a last line without an end is whole too.
        """
        try:
            searched, lines = self._new_lines()
        except OSError:
            # A share that hangs on to its file, a disk that fails: no render ends because nobody could watch it.
            searched, lines = [], []
        if ended:
            lines += self._splitter.finish()
        self._search(searched)
        self._follow(lines)
        if self._files is not None:
            self._take(ProgressUpdate(done=self._files.finished()))
        return Reading(self._frames_done, short_line(self._message, LONGEST_MESSAGE), self._fatal)

    def _new_lines(self) -> tuple[list[bytes], list[bytes]]:
        """Return the lines that are only searched for failures, and the newest ones."""
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
        """Look for what makes the try fail, and for secrets, in lines that are too many to be followed."""
        for line in lines:
            if line.startswith((b"openjd_redacted_env:", b"openjd_fail: ")):
                self._take_line(line)
        if self._own.fatal:
            self._fail(self._own.first_fatal([text_of(line) for line in lines]))

    def _follow(self, lines: Sequence[bytes]) -> None:
        # Most output has no word of any format, or of one: looking for all of them line by line took 12 ms of 64 KiB.
        together = b"\n".join(lines)
        words = [word for word in self._words if word in together]
        for line in lines if words else ():
            for word in words:
                if word in line:
                    self._take_line(line)
                    break
        if self._own.progress or self._own.fatal:
            texts = [text_of(line) for line in lines]
            for sign in self._own.signs(texts):
                self._take(sign)
            self._fail(self._own.first_fatal(texts))

    def _take_line(self, line: bytes) -> None:
        text = self._redactor.mask(text_of(line))
        for known in self._formats:
            if sign := known.read(text):
                self._take(sign)
                if sign.fatal:
                    self._fail(text)
                return

    def _take(self, sign: ProgressUpdate) -> None:
        """Move on by what a line says; never back, and never past the end."""
        frames = self._stop - self._start
        says = 0
        if sign.done is not None:
            says = sign.done
        if sign.share is not None:
            says = max(says, int(sign.share * frames))
        # Numbers outside of the range belong to a renderer that counts otherwise: they say nothing.
        if sign.begun is not None and self._start <= sign.begun < self._stop:
            says = max(says, sign.begun - self._start)
        if sign.finished is not None and self._start <= sign.finished < self._stop:
            says = max(says, sign.finished + 1 - self._start)
        self._frames_done = max(self._frames_done, min(says, frames))
        self._message = sign.message or self._message

    def _fail(self, line: str | None) -> None:
        if line is not None and self._fatal is None:
            self._fatal = short_line(self._redactor.mask(line), _LONGEST_FATAL)

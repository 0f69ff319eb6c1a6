"""Output that comes in pieces cut anywhere, as lines of plain text."""

import re
from collections.abc import Iterator

from longtake.plaintext import plain

# What a renderer prints without a line's end, such as a picture, must not pile up in memory; OpenJD has the same cap.
LONGEST_LINE_BYTES = 64 * 1024

_ENDS = re.compile(rb"[\r\n]+")


class LineSplitter:
    """Makes lines of bytes; a carriage return ends one too, because that is how progress is drawn over and over."""

    def __init__(self) -> None:
        self._begun = b""
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete now, without their ends; empty ones are left out."""
        *ended, rest = _ENDS.split(data)
        for line in ended:
            whole = b"" if self._skipping else (self._begun + line)[:LONGEST_LINE_BYTES]
            self._begun, self._skipping = b"", False
            if whole:
                yield whole
        self._begun = (self._begun + rest)[:LONGEST_LINE_BYTES]

    def skip(self) -> None:
        """Hear that bytes are left out here: what comes up to the next line's end is no whole line."""
        self._begun, self._skipping = b"", True

    def finish(self) -> Iterator[bytes]:
        """Yield the last line, which nothing has ended."""
        begun, self._begun = self._begun, b""
        if begun and not self._skipping:
            yield begun


def text_of(line: bytes) -> str:
    """Return a line as plain text, whatever it holds."""
    return plain(line.decode("utf-8", "replace"))

"""The lines of one growing log, at a bounded cost in memory."""

from collections.abc import Iterator

from longtake.attempt_log import AttemptLog

# Read at a time; what is held in memory is a few times as much, however long a log or a line is.
_PIECE_BYTES = 256 * 1024
# A longer line comes in parts.
_LINE_BYTES = 64 * 1024


class LogLines:
    """Yields each line of a log once, in order.

    Args:
        log: The log, which may be growing.
    """

    def __init__(self, log: AttemptLog) -> None:
        self._log = log
        self._offset = 0
        self._line = b""

    @property
    def begun(self) -> bool:
        """Whether any of it was read."""
        return self._offset > 0

    def new(self, *, to_the_end: bool) -> Iterator[tuple[int, list[bytes]]]:
        """Yield how many bytes are left out, because they are not kept, and the lines that follow them.

        Args:
            to_the_end: Also a last line that is not complete.

        Raises:
            OSError: The log is there and cannot be read.
        """
        if to_the_end:
            # Sees also what a look at the newest segment alone would not.
            self._log.segments()
        # What is added meanwhile comes the next time: one try that prints without end must not hold up the others.
        size = self._log.size
        while self._offset < size and (piece := self._log.read(self._offset, _PIECE_BYTES)).data:
            left_out = piece.offset - self._offset
            self._offset = piece.stop
            if left_out and self._line:
                yield 0, self._rest()
            yield left_out, self._lines(piece.data)
        if to_the_end and self._line:
            yield 0, self._rest()

    def _lines(self, data: bytes) -> list[bytes]:
        *ended, self._line = (self._line + data).split(b"\n")
        lines = [part for line in ended for part in _parts(line)]
        while len(self._line) > _LINE_BYTES:
            lines.append(self._line[:_LINE_BYTES])
            self._line = self._line[_LINE_BYTES:]
        return lines

    def _rest(self) -> list[bytes]:
        line, self._line = self._line, b""
        return [line]


def _parts(line: bytes) -> list[bytes]:
    return [line[at : at + _LINE_BYTES] for at in range(0, len(line), _LINE_BYTES)] or [b""]

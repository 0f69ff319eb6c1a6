"""Read the logs of a job in its store, a folder or a bucket: parts of them and new lines, with secrets masked.

Declared secrets have as many stars as they have bytes, so that offsets are those of all that was printed. What a log
declares is known before any part of it is returned: a secret that stands before its declaration is masked, too.
"""

import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longtake.attempt_log import Piece, read_kept
from longtake.stores.job_layout import find_film_number
from longtake.stores.job_records import JobRecords
from longtake.stores.store import StoredFile
from longtake.stores.stored_file import opened
from longtake.text import Redactor, strip_controls

# `000007.<attempt>.log`, `film.<attempt>.log` and `film-1.<attempt>.log`, as workers name them; `.<offset>` behind that
# in segments. Groups: the name of the head, and the offset.
_LOG_NAME = re.compile(r"((?:\d{6,}|film(?:-\d+)?)\..+?\.log)(?:\.(\d{1,18}))?", re.ASCII)

_DECLARES = b"openjd_redacted_env:"
# What stands behind the name, as the value or what should be one, to the end of the line.
_DECLARED = re.compile(rb"(openjd_redacted_env:[ \t]*\"?(?:[A-Za-z_][A-Za-z0-9_]*=)?)([^\r\n]*)", re.ASCII)

# Bytes before and behind a part that are looked at too: a secret, or the line that declares one, may be cut in two.
_MARGIN_BYTES = 64 * 1024

# Logs whose secrets are remembered, so that a log that grows is not read anew from its beginning.
_MOST_REMEMBERED = 256

# Bytes read at a time; memory holds a few times as much, however long a log or a line is.
_PIECE_BYTES = 256 * 1024

# A longer line is returned in parts.
_LINE_BYTES = 64 * 1024


@dataclass(frozen=True)
class LogPart:
    """One file of a log: the bytes `[offset, stop)` of all that was printed."""

    offset: int
    file: StoredFile

    @property
    def stop(self) -> int:
        """Offset behind its last byte."""
        return self.offset + self.file.size_bytes


@dataclass(frozen=True)
class StoredLog:
    """Log of one try.

    Args:
        key: Number of its chunk as text, or `film`, `film-1`.
        attempt: Number of the try among those that have a log, from 1.
        name: Name of its first file.
        parts: Its files, in order; between them some may be gone.
    """

    key: str
    attempt: int
    name: str
    parts: tuple[LogPart, ...]

    @property
    def size_bytes(self) -> int:
        """Number of bytes that were printed, kept or not."""
        return self.parts[-1].stop

    @property
    def modified_ns(self) -> int:
        """When it was last written, in ns since 1970."""
        return max(part.file.modified_ns for part in self.parts)


def find_logs(records: JobRecords, key: str | None = None) -> list[StoredLog]:
    """Return the logs of a job in the order of their chunks and tries, those of films last. Blocking.

    Args:
        records: The job.
        key: Only those of a chunk, as `7`, or of `film`; None for all.
    """
    prefix = "" if key is None else f"{key.zfill(6) if key.isdigit() else key}."
    folder = records.logs_dir
    if prefix and records.store.is_local:
        # Names are cheap, and metadata of 100,000 files is not.
        names = [name for name in records.store.names(folder) if name.startswith(prefix)]
        files = [file for name in names if (file := records.store.stat(f"{folder}/{name}")) is not None]
    else:
        files = [file for file in records.store.files(folder) if file.name.startswith(prefix)]
    parts: dict[str, list[LogPart]] = {}
    for file in files:
        if match := _LOG_NAME.fullmatch(file.name):
            parts.setdefault(match[1], []).append(LogPart(int(match[2] or 0), file))
    # Tries of a chunk follow each other.
    ordered = sorted(parts.items(), key=lambda each: (each[1][0].file.modified_ns, each[0]))
    logs: list[StoredLog] = []
    numbers: dict[str, int] = {}
    for name, found in ordered:
        text = name.partition(".")[0]
        whose = text if find_film_number(text) is not None else str(int(text))
        numbers[whose] = number = numbers.get(whose, 0) + 1
        logs.append(StoredLog(whose, number, name, tuple(sorted(found, key=lambda part: part.offset))))
    return sorted(logs, key=_find_order)


def _find_order(log: StoredLog) -> tuple[bool, int, int]:
    film = find_film_number(log.key)
    return (film is not None, int(log.key) if film is None else film, log.attempt)


class LogTexts:
    """Read logs with their secrets masked, and remember the secrets of each; many threads may share it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Secrets] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, records: JobRecords, log: StoredLog, offset: int, most: int = _PIECE_BYTES, *, stop: int = sys.maxsize
    ) -> Piece:
        """Return bytes of a log from the first at or behind an offset that is kept; they end at a gap. Blocking.

        Args:
            records: The job.
            log: The log.
            offset: Offset of the first byte.
            most: Largest number of bytes to return.
            stop: Offset behind the last byte that is wanted.

        Raises:
            OutsideError: A file of it lies elsewhere.
            OSError: The store cannot be read.
        """
        source = _Source(records, log)
        secrets = self._remember(source.location)
        # What was added is mostly what is asked for, and a bucket is not asked twice for it.
        added = secrets.learn(source)
        piece = source.read(offset, most, stop=stop, known=added)
        if not piece.data or not secrets.has_any:
            return piece
        before = source.read(max(0, piece.offset - _MARGIN_BYTES), _MARGIN_BYTES, stop=piece.offset)
        if before.stop != piece.offset:
            before = Piece(piece.offset, b"")
        behind = source.read(piece.stop, _MARGIN_BYTES)
        text = before.data + piece.data + (behind.data if behind.offset == piece.stop else b"")
        masked = secrets.mask(text)
        return Piece(piece.offset, masked[len(before.data) : len(before.data) + len(piece.data)])

    def show_line(self, records: JobRecords, log: StoredLog, line: bytes) -> str:
        """Return a line that `read` has returned for a terminal: the last that a program drew, and no secret in it."""
        return self._remember(_Source(records, log).location).mask_text(clean_line(line.decode(errors="replace")))

    def _remember(self, location: str) -> "_Secrets":
        with self._lock:
            secrets = self._known.setdefault(location, _Secrets())
            self._known.move_to_end(location)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
            return secrets


class LogLines:
    """Read each line of a growing log once, in order, ready for a terminal.

    Args:
        texts: Reads the log.
        records: The job.
    """

    def __init__(self, texts: LogTexts, records: JobRecords) -> None:
        self._texts = texts
        self._records = records
        self._offset = 0
        self._line = b""

    @property
    def has_begun(self) -> bool:
        """Whether any line was read."""
        return self._offset > 0

    def read_new(self, log: StoredLog, *, final: bool) -> Iterator[tuple[int, list[str]]]:
        """Yield the new lines in pieces, each with the number of bytes before it that the log has not kept. Blocking.

        Args:
            log: The log, as it is listed now.
            final: Whether nothing more is written: an incomplete last line is yielded, too.

        Raises:
            OSError: The log cannot be read.
        """
        while self._offset < log.size_bytes and (piece := self._texts.read(self._records, log, self._offset)).data:
            left_out = piece.offset - self._offset
            self._offset = piece.stop
            if left_out and self._line:
                yield 0, self._show(log, [self._take_partial()])
            yield left_out, self._show(log, self._split(piece.data))
        if final and self._line:
            yield 0, self._show(log, [self._take_partial()])

    def _show(self, log: StoredLog, lines: Sequence[bytes]) -> list[str]:
        return [self._texts.show_line(self._records, log, line) for line in lines]

    def _split(self, data: bytes) -> list[bytes]:
        *complete, self._line = (self._line + data).split(b"\n")
        lines = [part for line in complete for part in _split_line(line)]
        while len(self._line) > _LINE_BYTES:
            lines.append(self._line[:_LINE_BYTES])
            self._line = self._line[_LINE_BYTES:]
        return lines

    def _take_partial(self) -> bytes:
        line, self._line = self._line, b""
        return line


def _split_line(line: bytes) -> list[bytes]:
    return [line[at : at + _LINE_BYTES] for at in range(0, len(line), _LINE_BYTES)] or [b""]


def clean_line(line: str) -> str:
    """Return the last state of a line that a program drew over and over, without control characters."""
    return strip_controls(line.rstrip("\r\n").rpartition("\r")[2])


@dataclass(frozen=True)
class _Source:
    """Where the bytes of a log come from."""

    records: JobRecords
    log: StoredLog

    @property
    def location(self) -> str:
        return f"{self.records.logs_dir}/{self.log.name}"

    def read(self, offset: int, most: int, *, stop: int = sys.maxsize, known: Piece | None = None) -> Piece:
        """Return bytes as they were printed.

        Args:
            offset: Offset of the first byte.
            most: Largest number of bytes to return.
            stop: Offset behind the last byte that is wanted.
            known: Bytes that were read a moment ago.
        """
        end = min(offset + most, stop, self.log.size_bytes)
        if known is not None and known.offset <= offset < end <= known.stop:
            return Piece(offset, known.data[offset - known.offset : end - known.offset])
        return read_kept(self.log.parts, offset, most, self._read_file, stop=stop)

    def _read_file(self, part: LogPart, offset: int, most: int) -> bytes:
        start = offset - part.offset
        end = min(start + most, part.file.size_bytes)
        store = self.records.store
        try:
            if not store.is_local:
                return store.read_part(part.file.location, start, end)
            with opened(store, part.file.location, [self.records.logs_dir], bookkeeping=True) as file:
                return file.read(start, end)
        except FileNotFoundError:
            # Workers remove the oldest parts of a long log.
            return b""


class _Secrets:
    """The secrets that one log has declared so far."""

    def __init__(self) -> None:
        self._redactor = Redactor()
        self._learned_to = 0
        self._rest = b""
        self._lock = threading.Lock()
        self._values: list[str] = []
        self.has_any = False

    def learn(self, source: _Source) -> Piece | None:
        """Read what was added to a log, for what it declares; return the last piece of it, if anything was."""
        piece = None
        with self._lock:
            while self._learned_to < source.log.size_bytes:
                piece = source.read(self._learned_to, _PIECE_BYTES)
                if not piece.data:
                    break
                text = piece.data if piece.offset > self._learned_to else self._rest + piece.data
                self._learned_to = piece.stop
                whole, _, rest = text.rpartition(b"\n")
                # Of a line that may go on; no longer one is a declaration.
                self._rest = rest[:_MARGIN_BYTES]
                if _DECLARES in text:
                    self.has_any = True
                    for line in [*whole.split(b"\n"), rest]:
                        if _DECLARES in line:
                            self._redactor.mask(clean_line(line.decode(errors="replace")))
                    self._values = sorted(self._redactor.secrets, key=len, reverse=True)
        return piece

    def mask(self, text: bytes) -> bytes:
        """Return bytes of a log with a star for each byte of a secret, and of what is declared as one."""
        text = _DECLARED.sub(lambda found: found[1] + b"*" * len(found[2]), text)
        for value in (value.encode(errors="replace") for value in self._values):
            text = text.replace(value, b"*" * len(value))
        return text

    def mask_text(self, line: str) -> str:
        """Return a line with stars for secrets that control characters had split."""
        for value in self._values:
            line = line.replace(value, "*" * len(value))
        return line

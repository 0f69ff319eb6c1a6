"""Read the log of one try in a store: the parts that are kept, with declared secrets masked and no byte moved."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.attempt_log import LOG_NAME
from longtake.stores.job_layout import find_film_number
from longtake.stores.job_records import JobRecords
from longtake.stores.store import StoredFile
from longtake.text import Redactor
from longtake.web.stored_file import opened

_DECLARES = b"openjd_redacted_env:"

# Bytes before and behind a part that are looked at too: a secret, or the line that declares one, may be cut in two.
_MARGIN_BYTES = 64 * 1024

# Logs whose secrets are remembered, so that a log that grows is not read anew from its beginning.
_MOST_REMEMBERED = 256

_PIECE_BYTES = 1 << 20


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
    """Return the logs of a job in the order of their chunks and tries. Blocking.

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
        if match := LOG_NAME.fullmatch(file.name):
            parts.setdefault(match[1], []).append(LogPart(int(match[2] or 0), file))
    # Tries of a chunk follow each other, as `longtake logs` numbers them.
    ordered = sorted(parts.items(), key=lambda each: (each[1][0].file.modified_ns, each[0]))
    logs: list[StoredLog] = []
    numbers: dict[str, int] = {}
    for name, found in ordered:
        text = name.partition(".")[0]
        whose = text if find_film_number(text) is not None else str(int(text))
        numbers[whose] = number = numbers.get(whose, 0) + 1
        logs.append(StoredLog(whose, number, name, tuple(sorted(found, key=lambda part: part.offset))))
    return sorted(logs, key=lambda log: (not log.key.isdigit(), int(log.key) if log.key.isdigit() else 0, log.attempt))


class LogTexts:
    """Read logs with their secrets masked, and remember the secrets of each."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Secrets] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, records: JobRecords, log: StoredLog, start: int, stop: int) -> tuple[int, bytes]:
        """Return bytes of a log, and the offset of the first: that of the next that is kept. Blocking.

        They end where what is kept has a gap. Secrets have as many stars as they have bytes.

        Args:
            records: The job.
            log: The log.
            start: Offset of the first byte.
            stop: Offset behind the last byte.
        """
        secrets = self._remember(f"{records.logs_dir}/{log.name}")
        secrets.learn(records, log)
        at, data = _read_kept(records, log.parts, start, stop)
        if not data or not secrets.values:
            return at, data
        first, before = _read_kept(records, log.parts, max(0, at - _MARGIN_BYTES), at)
        if first + len(before) != at:
            before = b""
        end = at + len(data)
        behind_at, behind = _read_kept(records, log.parts, end, end + _MARGIN_BYTES)
        if behind_at != end:
            behind = b""
        masked = secrets.mask(before + data + behind)
        return at, masked[len(before) : len(before) + len(data)]

    def _remember(self, location: str) -> "_Secrets":
        with self._lock:
            secrets = self._known.setdefault(location, _Secrets())
            self._known.move_to_end(location)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
            return secrets


class _Secrets:
    """The secrets that one log has declared so far."""

    def __init__(self) -> None:
        self._redactor = Redactor()
        self._learned_to = 0
        self._rest = b""
        self._lock = threading.Lock()
        self.values: list[bytes] = []

    def learn(self, records: JobRecords, log: StoredLog) -> None:
        """Read what was added to a log, for what it declares."""
        with self._lock:
            while self._learned_to < log.size_bytes:
                at, data = _read_kept(records, log.parts, self._learned_to, self._learned_to + _PIECE_BYTES)
                if not data:
                    break
                text = data if at > self._learned_to else self._rest + data
                self._learned_to = at + len(data)
                whole, _, rest = text.rpartition(b"\n")
                # Of a line that may go on; no longer one is a declaration.
                self._rest = rest[:_MARGIN_BYTES]
                if _DECLARES in text:
                    for line in [*whole.split(b"\n"), rest]:
                        if _DECLARES in line:
                            self._redactor.mask(line.decode(errors="replace").rstrip("\r"))
                    values = sorted(self._redactor.secrets, key=len, reverse=True)
                    self.values = [value.encode(errors="replace") for value in values]

    def mask(self, text: bytes) -> bytes:
        """Return bytes of a log with stars for each byte of a secret."""
        for value in self.values:
            text = text.replace(value, b"*" * len(value))
        return text


def _read_kept(records: JobRecords, parts: Sequence[LogPart], start: int, stop: int) -> tuple[int, bytes]:
    """Return bytes from the first offset at or behind `start` that is kept, up to `stop` or to a gap."""
    at, data = start, b""
    for part in parts:
        if part.stop <= at + len(data):
            continue
        if part.offset > at + len(data):
            if data:
                break
            at = part.offset
        if at + len(data) >= stop:
            break
        place = at + len(data) - part.offset
        try:
            with opened(records.store, part.file.location, [records.logs_dir], bookkeeping=True) as file:
                data += file.read(place, stop - part.offset)
        except FileNotFoundError:
            # Workers remove the oldest parts of a long log.
            continue
    return (at, data) if data else (start, b"")

"""Group commit: publish the chunks of a span together, by one record of many; see `longtake.stores.segments`.

1. The outputs are made to survive a power cut, and then a *part* is created exclusively: the claim on its chunks.
2. Their files get their final names, which are made to survive likewise. Now the chunks are finished.
3. The next part, or the end of the span, proves step 2: readers need not look at the files.

Whoever takes over seals the segment first, and then finishes or drops what its last part claims. An attempt that was
sealed learns it from the part that it cannot create any more, before it has given any file of it a final name.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from activities.errors import AttemptError, AttemptLostError, attempt_failure
from activities.stores.job_folder import JobFolder, Sidecar, encode_line, encode_record
from activities.stores.publish import (
    check_undeclared,
    clear_attempts,
    finish_record,
    place_files,
    sync_targets,
)
from longtake.concurrency import finish_once_begun
from longtake.stores.segments import ENDED, OPENED, FoundRecord, SegmentMark, SegmentName
from longtake.stores.store import StoreError, map_parallel

_log = logging.getLogger(__name__)

# Chunks and bytes of a part, so that what is read at once stays small.
MOST_CHUNKS = 64
_MOST_PART_BYTES = 8 * 2**20
# A longer segment stays in parts.
_MOST_CLOSED_BYTES = 16 * 2**20
# Of larger files each takes its own time to reach the disk.
_SMALL_BYTES = 1 << 20
# A call of the store that hangs has the segment for itself.
_LONGEST_TURN_SECONDS = 60.0


@dataclass
class Committed:
    """What became of chunks whose publication was begun together.

    Args:
        finished: Records of the chunks that are finished.
        failed: Records of those whose files cannot have their names, and why.
    """

    finished: list[Sidecar] = field(default_factory=list)
    failed: list[tuple[Sidecar, Exception]] = field(default_factory=list)


class SegmentWriter:
    """The segment of one attempt at a span. All methods block; each may be called from any thread.

    Args:
        folder: The job's.
        start: First chunk of the span.
        stop: Chunk after its last one.
        attempt: Name of the attempt at the span, never used twice.
    """

    def __init__(self, folder: JobFolder, start: int, stop: int, attempt: str) -> None:
        self._folder = folder
        self._store = folder.store
        self._chunks = range(start, stop)
        self.name = SegmentName(folder.segments_dir, start, stop - 1, attempt)
        # One call of `commit` at a time, and what is waiting for it.
        self._turn = threading.Lock()
        self._waiting: list[Sidecar] = []
        # Chunks of the part that is being written, until all of its files have their names.
        self._group: list[Sidecar] = []
        self._is_claimed = False
        self._next_part = 0
        self._lines: list[bytes] = []
        self._before: dict[str, FoundRecord[Sidecar]] = {}
        self._handed_in: set[str] = set()
        # Called when something was handed in, by the thread that did.
        self.on_handed_in: Callable[[], None] = lambda: None
        # What clears away the attempts at a chunk when it is finished, where that is not `clear_attempts`.
        self._clear: dict[str, Callable[[Sidecar], None]] = {}
        self._committed = Committed()
        self._committed_lock = threading.Lock()

    def has(self, key: str) -> bool:
        """Tell whether a chunk was handed in; `take_committed` tells when it is finished."""
        return key in self._handed_in

    def open(self) -> None:
        """Begin the segment, and seal those of others that may hold chunks of the span.

        Its own name is there before others are looked for: of two attempts at least one sees the other. What claims
        say is looked at later, for the same reason; see `finish`.

        Raises:
            StoreError: The store is away, or this is another one.
        """
        self._folder.check_store()
        # Again after a failed call, the first one may have succeeded.
        self._store.create(self.name.part(0), SegmentMark(mark=OPENED).encode())
        self._next_part = 1
        self._before = self._folder.take_over_segments(
            self._chunks.start, self._chunks.stop, by=self.name.attempt, own=self.name
        )
        if self._store.is_local:
            # A worker that was killed may have left places of finished chunks, to use them again.
            for key, found in self._before.items():
                if found.is_placed and os.path.lexists(self._folder.attempts_dir(key)):
                    clear_attempts(self._folder, key)

    def finish(self, key: str) -> Sidecar | None:
        """Return the record of a chunk that others have finished; finishes what a dead winner began to publish."""
        self._folder.check_store()
        standing = finish_record(self._folder, key, self._folder.read_sidecar(key), self._before.get(key))
        self._folder.check_store()
        return standing

    def publish(self, winner: Sidecar) -> Sidecar:
        """Hand in a chunk whose files are staged without a sync; `commit` finishes it.

        Raises:
            AttemptError: A file that another chunk has published has the name of one that no output declares.
            StoreError: The store is away, or this is another one.
        """
        self._folder.check_store()
        check_undeclared(self._folder, winner)
        (handed_in,) = self._hand_in([winner])
        return handed_in

    def publish_declared(self, winners: Iterable[Sidecar], clear: Callable[[Sidecar], None]) -> list[Sidecar]:
        """Hand in chunks that have no other files than declared outputs, as `publish` does.

        Args:
            winners: Their records.
            clear: Clears away what attempts at a finished chunk have left.

        Raises:
            StoreError: The store is away, or this is another one.
        """
        self._folder.check_store()
        winners = list(winners)
        self._clear.update((winner.key, clear) for winner in winners)
        return self._hand_in(winners)

    def is_free(self, key: str) -> bool:
        """Tell whether there is no sign yet that somebody has published a chunk, or has begun to."""
        if key in self._before or key in self._handed_in:
            return False
        records = (self._folder.sidecar_path(key), self._folder.claim_path(key))
        return all(self._store.stat(location) is None for location in records)

    def _hand_in(self, winners: Iterable[Sidecar]) -> list[Sidecar]:
        now = datetime.now(UTC)
        handed_in = [winner.model_copy(update={"published_at": now}) for winner in winners]
        self._waiting += handed_in
        self._handed_in.update(winner.key for winner in handed_in)
        if handed_in:
            self.on_handed_in()
        return handed_in

    def commit(self) -> None:
        """Finish what was handed in. Safe to repeat after a failure anywhere in it.

        Raises:
            AttemptLostError: Another attempt has sealed the segment.
            StoreError: The store is away, or this is another one.
        """
        with self._take_turn():
            while self._group or self._waiting:
                if not self._group:
                    self._choose_group()
                self._commit_group()

    def take_committed(self) -> Committed:
        """Return what became of chunks since this was asked for last."""
        with self._committed_lock:
            committed, self._committed = self._committed, Committed()
            return committed

    def close(self) -> None:
        """End the segment: all of its records in one file, in place of its parts. Everything was committed.

        Raises:
            StoreError: The store is away, or this is another one.
        """
        with self._take_turn(), finish_once_begun():
            if not self._next_part:
                return
            self._folder.check_store()
            if sum(map(len, self._lines)) > _MOST_CLOSED_BYTES:
                self._store.create(self.name.part(self._next_part), SegmentMark(mark=ENDED).encode())
                return
            if self._lines:
                self._store.create(self.name.closed, b"".join(self._lines))
            # The last ones first: what a crash leaves is then a segment that lacks nothing before its end.
            for number in reversed(range(self._next_part)):
                self._store.remove(self.name.part(number))
            self._next_part = 0

    @contextmanager
    def _take_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=_LONGEST_TURN_SECONDS):
            raise StoreError("does not answer", self.name.folder, is_temporary=True)
        try:
            yield
        finally:
            self._turn.release()

    def _choose_group(self) -> None:
        size = 0
        while self._waiting and len(self._group) < MOST_CHUNKS and (not self._group or size < _MOST_PART_BYTES):
            size += len(self._waiting[0].files) * 512
            self._group.append(self._waiting.pop(0))

    def _commit_group(self) -> None:
        self._folder.check_store()
        if not self._is_claimed:
            self._sync_outputs()
        if not self._group:
            return
        lines = [encode_line(record) for record in self._group]
        with finish_once_begun():
            self._create_part(b"".join(lines))
            self._is_claimed = True
            failed = self._place_group()
            sync_targets(self._store, self._group)
            # Once more: a share may have vanished while this looked, and what was done on the disk below it is not.
            self._folder.check_store()
            names = {each.key for each, _ in failed}
            map_parallel(self._store, self._clear_place, [each for each in self._group if each.key not in names])
            self._lines += [line for line, each in zip(lines, self._group, strict=True) if each.key not in names]
            with self._committed_lock:
                self._committed.finished += [each for each in self._group if each.key not in names]
                self._committed.failed += failed
            self._next_part += 1
            self._group, self._is_claimed = [], False

    def _create_part(self, content: bytes) -> None:
        location = self.name.part(self._next_part)
        if self._store.create(location, content):
            return
        with suppress(FileNotFoundError):
            # A call that has failed before may have succeeded.
            if self._store.read(location) == content:
                return
        raise AttemptLostError("another attempt has taken over the chunks of this span")

    def _place_group(self) -> list[tuple[Sidecar, AttemptError]]:
        """Give the files of the group their names; return the chunks whose files cannot have theirs."""
        errors = map_parallel(self._store, self._place, self._group)
        return [(record, error) for record, error in zip(self._group, errors, strict=True) if error is not None]

    def _place(self, record: Sidecar) -> AttemptError | None:
        try:
            if place_files(self._folder, record):
                return None
            error = AttemptError("its files were removed before they were published; let nothing remove them")
        except AttemptError as raised:
            error = raised
            # As a claim it is finished by the next try, once somebody has moved away what stands there.
            self._store.create(self._folder.claim_path(record.key), encode_record(record))
        # The next part would say that it is finished.
        self._folder.forget(record)
        return error

    def _clear_place(self, record: Sidecar) -> None:
        """Remove what attempts at a finished chunk have left."""
        clear = self._clear.pop(record.key, None)
        if clear is not None:
            clear(record)
        else:
            clear_attempts(self._folder, record.key)

    def _sync_outputs(self) -> None:
        """Make the content of the outputs survive a power cut; chunks of which some cannot are dropped."""
        if not self._store.is_local:
            # They were uploaded.
            return
        for begin in (True, False):
            # Once all are on their way, one wait is one for most of them.
            for record in list(self._group):
                try:
                    for file in record.files:
                        _sync(file.attempt_path, begin=begin)
                except FileNotFoundError:
                    # Another attempt has published the chunk, and sealed this segment before that.
                    continue
                except OSError as error:
                    # No second sync would tell of it again.
                    self._group.remove(record)
                    with self._committed_lock:
                        self._committed.failed.append((record, attempt_failure(error, Path(record.key))))


def _sync(path: str, *, begin: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if not begin:
            os.fsync(descriptor)
        elif os.fstat(descriptor).st_size <= _SMALL_BYTES:
            # Begins to write what is not on the disk. Of a large file it would drop what a stitch reads again.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)

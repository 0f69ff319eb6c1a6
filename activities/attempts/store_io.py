"""Store access during an attempt: upload of its log, group commits, and retries while the store is away.

A log that grows is in the store within seconds, and whole at the end.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from activities.errors import AttemptError, AttemptLostError, attempt_failure
from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.segment_writer import SegmentWriter
from longtake.attempt_log import AttemptLog
from longtake.concurrency import clean_up_in_thread, run_beside, run_in_thread
from longtake.stores.store import Store, find_away_error, store_call

_log = logging.getLogger(__name__)

# A segment that grows is sent whole each time, and holds 4 MiB at most.
_UPLOAD_SECONDS = 5.0

# What is published within this time is published together.
_COMMIT_SECONDS = 0.05


@asynccontextmanager
async def ship_log(store: Store, location: str) -> AsyncIterator[None]:
    """Upload a log to the store while the block runs, and once more, whole, at its end."""
    await run_in_thread(partial(make_log_folder, store, location))
    if store.is_local:
        yield
        return
    upload = _LogUpload(store, location)
    try:
        async with run_beside(upload.run()):
            yield
    finally:
        await clean_up_in_thread(partial(upload.send, is_last=True))


def make_log_folder(store: Store, location: str) -> None:
    """Make the folder of a log on this host; blocking."""
    with store_call(location):
        store.local(location).parent.mkdir(parents=True, exist_ok=True)


class _LogUpload:
    """The upload of one log, segment by segment."""

    def __init__(self, store: Store, location: str) -> None:
        self._store = store
        self._location = location
        self._sent: dict[str, int] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_UPLOAD_SECONDS)
            await run_in_thread(self.send)

    def send(self, *, is_last: bool = False) -> None:
        """Send each file of the log that has grown, and take back those whose bytes are no longer kept."""
        folder = self._location.rpartition("/")[0]
        path = self._store.local(self._location)
        try:
            found = {segment.path.name: segment for segment in AttemptLog(path).segments()}
            for name, segment in found.items():
                if self._sent.get(name) != segment.size:
                    self._store.replace(f"{folder}/{name}", segment.path.read_bytes()[: segment.size])
                    self._sent[name] = segment.size
            for name in set(self._sent) - set(found):
                self._store.remove(f"{folder}/{name}")
                del self._sent[name]
            if is_last:
                for segment in found.values():
                    segment.path.unlink(missing_ok=True)
        except OSError as error:
            # A store that is away is noticed where it matters: when the chunk is published.
            _log.warning("%s cannot be sent to the store: %s", path, error)


Result = TypeVar("Result")

# Below the time that an activity may take beside its render (`workflows/options.py`); a bucket's own calls have
# been patient for a minute each before this begins to count.
_LONGEST_SECONDS = 20 * 60.0
_LONGEST_PAUSE_SECONDS = 30.0

# A disk without room for so much is full, whoever has filled it.
_LEAST_ROOM_BYTES = 1 << 18


@asynccontextmanager
async def commit_beside(
    segment: SegmentWriter, on_finished: Callable[[Mapping[int, Sidecar]], None], on_wait: Callable[[str], None]
) -> AsyncIterator[None]:
    """Open a segment, finish what is handed in to it while the block runs, and at its end; then close it.

    Args:
        segment: The segment.
        on_finished: Called with the records of chunks that are finished, by their numbers.
        on_wait: Called with the cause before each wait for a store that is away.

    Raises:
        AttemptLostError: Another attempt has taken over, or a chunk could not be published: the next try tells why.
        StoreError: The store stays away, or this is another one.
    """
    handed_in = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note_handed_in() -> None:
        loop.call_soon_threadsafe(handed_in.set)

    async def commit() -> None:
        try:
            await retry_while_store_is_away(segment.commit, on_wait)
        finally:
            tell()

    def tell() -> None:
        committed = segment.take_committed()
        on_finished(_by_number(committed.finished))
        for sidecar, error in committed.failed:
            raise AttemptLostError(f"chunk {int(sidecar.key)} could not be published: {error}")

    async def commit_regularly() -> None:
        while True:
            await handed_in.wait()
            await asyncio.sleep(_COMMIT_SECONDS)
            handed_in.clear()
            await commit()

    segment.on_handed_in = note_handed_in
    await run_in_thread(segment.open)
    try:
        async with run_beside(commit_regularly()):
            yield
        await commit()
        await retry_while_store_is_away(segment.close, on_wait)
    except BaseException:
        # What is rendered is finished and counts, whatever has ended the block.
        try:
            await clean_up_in_thread(segment.commit)
            await clean_up_in_thread(segment.close)
        except (AttemptLostError, OSError) as failed:
            _log.warning("chunks that were not published are rendered again: %s", failed)
        finally:
            on_finished(_by_number(segment.take_committed().finished))
        raise


def _by_number(finished: Iterable[Sidecar]) -> dict[int, Sidecar]:
    return {int(sidecar.key): sidecar for sidecar in finished}


async def retry_while_store_is_away(
    work: Callable[[], Result], on_wait: Callable[[str], None], *, longest_seconds: float = _LONGEST_SECONDS
) -> Result:
    """Call blocking work, and again while the store is away; return its result.

    Args:
        work: Blocking; safe to repeat after a failure anywhere in it.
        on_wait: Called with the cause before each wait.
        longest_seconds: How long to try again.

    Raises:
        StoreError: The store stays away, or refuses for good.
    """
    clock = asyncio.get_running_loop().time
    end, pause = clock() + longest_seconds, 1.0
    while True:
        try:
            return await run_in_thread(work)
        except OSError as error:
            away = find_away_error(error)
            if away is None or clock() + pause > end:
                raise
            _log.warning("%s; trying again in %g s", away, pause)
            on_wait(f"the store is away, and the finished render waits for it: {away}")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def explain_failure(
    error: AttemptError | OSError, folder: JobFolder, place: Path
) -> AttemptError | AttemptLostError:
    """Return what a failed try comes to: one that does not count where its store is away or its disk stays full.

    A renderer whose folder has vanished, or whose disk somebody else has filled, fails too, and is not to blame. What
    it fills itself is removed before this is asked, so that a chunk that needs more room than there is counts.

    Args:
        error: What ended the try.
        folder: The job's.
        place: The attempt's own folder on this host, removed by now.
    """
    try:
        await run_in_thread(folder.check_store)
        if isinstance(error, AttemptError) and not error.fatal:
            await run_in_thread(partial(check_room, place))
    except OSError as found:
        if (away := find_away_error(found, str(place))) is not None:
            said = str(error)
            return AttemptLostError(said if str(away) in said else f"{away}; the try has ended by that: {error}")
    return error if isinstance(error, AttemptError) else attempt_failure(error, place)


def note_full_disk(error: AttemptError, place: Path) -> None:
    """Say in the error of a failed try that its disk is full; a renderer can print no line of it there."""
    try:
        check_room(place)
    except OSError as found:
        if (away := find_away_error(found, str(place))) is not None:
            error.add_sentence(str(away))


def check_room(place: Path) -> None:
    """Raise unless the disk of a folder takes a small file.

    Raises:
        OSError: It is full or read-only.
    """
    folder = next(each for each in (place, *place.parents) if each.is_dir())
    probe = folder / f".{secrets.token_hex(8)}.partial"
    try:
        with probe.open("xb", buffering=0) as file:
            left = _LEAST_ROOM_BYTES
            while left:
                left -= file.write(bytes(left))
            # A share may say only now that it is full.
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place)) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)

"""Records of tries that failed: written by workers when a try fails, read by clients, and never needed by a job."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from pydantic import Field, ValidationError

from longtake.models.fields import Contract
from longtake.stores.job_layout import chunk_key, parse_try_name
from longtake.stores.job_records import JobRecords
from longtake.stores.store import OversizedFileError, map_parallel

# Of one chunk; older ones are removed by workers, and not read.
MOST_TRIES = 50

# Read at once: a job of which every chunk fails has a million.
_MOST_READ = 5_000


class FailedTry(Contract):
    """A try of a chunk that failed, or that was lost with its worker."""

    chunk: int = Field(ge=0)
    attempt: str = Field(default="", description="name of the attempt")
    number: int = Field(default=1, description="which try of the chunk it was in its pass, from 1")
    host: str = ""
    began: datetime | None = Field(default=None, description="unknown where its worker was lost")
    ended: datetime | None = Field(default=None, description="when that was known, where its worker was lost")
    error: str = Field(default="", max_length=4000, description="one sentence, with the lines of the log that matter")
    exit: int | None = Field(default=None, description="exit code, or minus the signal that ended it")
    frames_done: int = 0
    cpu_seconds: float = 0
    peak_memory_bytes: int = 0
    log: str = Field(default="", description="path of its log in the store")
    lost: bool = Field(default=False, description="it ended with its worker, or with what the worker renders by")
    last: bool = Field(default=False, description="its chunk was given up with it")


def write_try(records: JobRecords, failed: FailedTry) -> None:
    """Write the record of a try, and remove the oldest ones of its chunk now and then; blocking.

    A listing may have a million names, so that it is made with every 50th try of a chunk alone.
    """
    store, key = records.store, chunk_key(failed.chunk)
    store.create(records.try_path(key, failed.attempt), failed.model_dump_json(indent=1).encode())
    if failed.number % MOST_TRIES == 0:
        found = read_listed_tries(records, [each for each in list_tries(records) if each[0] == failed.chunk])
        for older in _sort(found)[:-MOST_TRIES]:
            store.remove(records.try_path(key, older.attempt))


def list_tries(records: JobRecords) -> list[tuple[int, str]]:
    """Return the chunks and the attempts of the tries that failed, by one listing."""
    found = map(parse_try_name, records.store.names(records.tries_dir))
    return [each for each in found if each is not None]


def read_tries(records: JobRecords, chunk: int | None = None, *, most: int = _MOST_READ) -> list[FailedTry]:
    """Return the tries of a job that failed, in order of their ends; blocking.

    Args:
        records: Records of the job.
        chunk: The only chunk whose tries are read; None reads those of all chunks.
        most: How many are read at most; of a chunk the newest 50 are returned.
    """
    listed = [each for each in list_tries(records) if chunk in (None, each[0])]
    by_chunk: dict[int, list[FailedTry]] = defaultdict(list)
    for failed in _sort(read_listed_tries(records, listed[:most])):
        by_chunk[failed.chunk].append(failed)
    return _sort(failed for tries in by_chunk.values() for failed in tries[-MOST_TRIES:])


def read_listed_tries(records: JobRecords, listed: Iterable[tuple[int, str]]) -> list[FailedTry]:
    """Return the records of some tries, by the names that `list_tries` returns; those that cannot be read are none."""

    def read(named: tuple[int, str]) -> FailedTry | None:
        chunk, attempt = named
        with suppress(FileNotFoundError, ValidationError, OversizedFileError):
            raw = records.store.read(records.try_path(chunk_key(chunk), attempt))
            # Its name counts: what stands in the store may be written by others.
            return FailedTry.model_validate_json(raw).model_copy(update={"chunk": chunk, "attempt": attempt})
        return None

    return [failed for failed in map_parallel(records.store, read, listed) if failed is not None]


def _sort(tries: Iterable[FailedTry]) -> list[FailedTry]:
    return sorted(tries, key=lambda each: each.ended.timestamp() if each.ended else 0)

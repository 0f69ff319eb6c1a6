"""Records of failed tries: each has a file of its own, and of a chunk no more than some stay."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import JobRecords
from longtake.stores.try_records import MOST_TRIES, FailedTry, list_tries, read_tries, write_try

BEGAN = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def records(tmp_path: Path) -> JobRecords:
    return JobRecords(DirectoryStore(tmp_path), "job")


def failed(chunk: int, number: int) -> FailedTry:
    ended = BEGAN + timedelta(minutes=number)
    return FailedTry(
        chunk=chunk, attempt=f"run-{number}", number=number, ended=ended, error="exited with code 1", exit=1
    )


def test_tries_are_read_in_the_order_of_their_ends(records: JobRecords) -> None:
    for each in (failed(7, 2), failed(12, 3), failed(7, 1)):
        write_try(records, each)

    assert [(each.chunk, each.number) for each in read_tries(records)] == [(7, 1), (7, 2), (12, 3)]
    assert read_tries(records, 7) == [failed(7, 1), failed(7, 2)]
    assert read_tries(records, 8) == []


def test_a_chunk_that_fails_for_ever_keeps_its_newest_tries(records: JobRecords) -> None:
    for number in range(1, 2 * MOST_TRIES + 6):
        write_try(records, failed(3, number))
    write_try(records, failed(4, 1))

    assert len(list_tries(records)) <= 2 * MOST_TRIES
    assert [each.number for each in read_tries(records, 3)] == list(range(MOST_TRIES + 6, 2 * MOST_TRIES + 6))


def test_a_record_that_cannot_be_read_is_none(records: JobRecords) -> None:
    write_try(records, failed(3, 1))
    records.store.create(records.try_path("000003", "b"), b"not json")

    assert read_tries(records) == [failed(3, 1)]


def test_a_record_is_of_the_chunk_that_its_name_says(records: JobRecords) -> None:
    records.store.create(records.try_path("000003", "b"), failed(9, 1).model_dump_json().encode())

    assert [(each.chunk, each.attempt) for each in read_tries(records)] == [(3, "b")]

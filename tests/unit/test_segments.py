"""Segments: what counts of the records of a span, whoever looks, and what a seal ends."""

from pathlib import Path

import pytest
from support.watched_store import WatchedStore

from activities.stores.job_folder import JobFolder, Sidecar, encode_line
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key
from longtake.stores.job_records import JobRecords
from longtake.stores.segments import (
    ENDED,
    OPENED,
    SEALED,
    SegmentMark,
    SegmentName,
    list_segments,
    read_segment,
    seal_segment,
)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(DirectoryStore(tmp_path), "job")


def line(chunk: int, attempt: str) -> bytes:
    return encode_line(Sidecar(key=chunk_key(chunk), digest="d", attempt=attempt, frames=1, files=()))


def mark(name: str) -> bytes:
    return SegmentMark(mark=name).encode()


def write(folder: JobFolder, *parts: bytes, attempt: str = "a", closed: bytes | None = None) -> SegmentName:
    name = SegmentName(folder.segments_dir, 0, 9, attempt)
    for number, content in enumerate(parts):
        folder.store.create(name.part(number), content)
    if closed is not None:
        folder.store.create(name.closed, closed)
    return name


def finished(folder: JobFolder) -> dict[str, str]:
    return {record.key: record.attempt for record in folder.finished_sidecars()}


def test_a_part_is_a_claim_until_its_writer_goes_on(folder: JobFolder) -> None:
    name = write(folder, mark(OPENED), line(0, "a") + line(1, "a"))
    assert finished(folder) == {}
    assert folder.claimed_keys() == {"000000", "000001"}

    folder.store.create(name.part(2), line(2, "a"))

    assert finished(folder) == {"000000": "a", "000001": "a"}
    assert folder.claimed_keys() == {"000002"}
    assert list(folder.finished_chunks()) == [0, 1]


@pytest.mark.parametrize("way", ["closed", "ended", "closed beside its parts"])
def test_a_clean_end_finishes_all(folder: JobFolder, way: str) -> None:
    lines = line(3, "a") + line(7, "a")
    if way == "closed":
        write(folder, closed=lines)
    elif way == "ended":
        write(folder, mark(OPENED), lines, mark(ENDED))
    else:
        write(folder, mark(OPENED), lines, closed=lines)

    assert finished(folder) == {"000003": "a", "000007": "a"}
    assert folder.claimed_keys() == set()
    assert [seal_segment(folder.store, each, "b").is_ended for each in list_segments(folder.store, folder.segments_dir)]
    assert len(folder.store.names(folder.segments_dir)) == {"closed": 1, "ended": 3}.get(way, 3)


def test_a_seal_proves_nothing_of_the_part_before_it(folder: JobFolder) -> None:
    name = write(folder, mark(OPENED), line(0, "a"), line(1, "a"))

    (listed,) = list_segments(folder.store, folder.segments_dir)
    lines = seal_segment(folder.store, listed, "b")

    assert ([*lines.placed], [*lines.claimed]) == ([line(0, "a").strip()], [line(1, "a").strip()])
    assert not folder.store.create(name.part(3), line(2, "a")), "its writer cannot go on"
    assert finished(folder) == {"000000": "a"}


def test_a_part_that_is_quicker_than_the_seal_counts(folder: JobFolder) -> None:
    name = write(folder, mark(OPENED))
    (listed,) = list_segments(folder.store, folder.segments_dir)
    folder.store.create(name.part(1), line(0, "a"))
    folder.store.create(name.part(2), line(1, "a"))

    lines = seal_segment(folder.store, listed, "b")

    assert [*lines.placed, *lines.claimed] == [line(0, "a").strip(), line(1, "a").strip()]
    assert SegmentMark.model_validate_json(folder.store.read(name.part(3))).mark == SEALED


def test_a_segment_that_is_closed_while_it_is_read_is_read_whole(folder: JobFolder) -> None:
    name = write(folder, mark(OPENED), line(0, "a"))
    (listed,) = list_segments(folder.store, folder.segments_dir)
    folder.store.create(name.closed, line(0, "a"))
    for number in (1, 0):
        folder.store.remove(name.part(number))

    assert read_segment(folder.store, listed).placed == [line(0, "a").strip()]
    assert seal_segment(folder.store, listed, "b").placed == [line(0, "a").strip()]


def test_a_record_that_was_taken_back_counts_for_nobody(folder: JobFolder) -> None:
    write(folder, closed=line(0, "a") + line(1, "a"))
    (record,) = [record for record in folder.finished_sidecars() if record.key == "000000"]
    folder.forget(record)

    assert finished(folder) == {"000001": "a"}
    assert folder.sidecar("000000") is None
    assert list(folder.finished_chunks()) == [1]
    write(folder, attempt="b", closed=line(0, "b"))
    assert finished(folder) == {"000000": "b", "000001": "a"}


def test_a_sidecar_counts_before_what_a_segment_says(folder: JobFolder) -> None:
    write(folder, closed=line(0, "a"))
    folder.adopt(Sidecar(key="000000", digest="d", attempt="old", frames=1, files=()))

    assert finished(folder) == {"000000": "old"}
    assert len(list(JobRecords(folder.store, "job").finished_records())) == 1


@pytest.mark.parametrize("bad", [b"{}\n", b'{"key":"000001","attempt":"a"', b"\xff\n", b'{"mood": 1}\n'])
def test_a_line_that_cannot_be_read_ends_nothing_but_itself(folder: JobFolder, bad: bytes) -> None:
    write(folder, closed=line(0, "a") + bad + (b"" if bad.endswith(b"\n") else b"\n") + line(2, "a"))

    assert finished(folder) == {"000000": "a", "000002": "a"}
    assert [record.key for record in JobRecords(folder.store, "job").finished_records() if record.files == ()]


def test_only_segments_that_may_hold_a_chunk_are_read(tmp_path: Path) -> None:
    store = WatchedStore(tmp_path)
    folder = JobFolder(store, "job")
    for first in range(0, 1000, 10):
        name = SegmentName(folder.segments_dir, first, first + 9, "a")
        folder.store.create(name.closed, b"".join(line(chunk, "a") for chunk in range(first, first + 10)))

    segments = folder.read_segments()
    found = [segments.find(chunk) for chunk in range(500, 520)]

    assert [each.record.key for each in found if each] == [chunk_key(chunk) for chunk in range(500, 520)]
    assert len(store.read_locations) == 2


def test_names_of_other_files_are_none_of_a_segment(folder: JobFolder) -> None:
    for name in ("notes.txt", "0-1.a.jsonl", "000000-000001.jsonl", "000000-000001.a.part"):
        folder.store.create(f"{folder.segments_dir}/{name}", b"{}")

    assert list_segments(folder.store, folder.segments_dir) == []


def test_segments_that_overlap_are_read_once_by_whoever_asks_in_order(tmp_path: Path) -> None:
    """After a kill two attempts have a segment each of one span: each chunk had both read anew."""
    store = WatchedStore(tmp_path)
    folder = JobFolder(store, "job")
    first, second = (
        b"".join(line(chunk, who) for chunk in chunks) for who, chunks in (("a", range(5)), ("b", range(5, 10)))
    )
    write(folder, closed=first, attempt="a")
    write(folder, closed=second, attempt="b")
    segments = folder.read_segments()

    found = [segments.find(chunk) for chunk in range(10)]

    assert [each.record.attempt for each in found if each] == ["a"] * 5 + ["b"] * 5
    assert len(store.read_locations) == 2
    assert {chunk: record.attempt for chunk, record in segments.find_placed(3, 7).items()} == {
        3: "a", 4: "a", 5: "b", 6: "b"
    }  # fmt: skip

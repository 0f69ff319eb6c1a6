"""Chunks of other jobs that become those of a job: recorded together, and only once the job is accepted."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from activities.stores.job_folder import JobFolder, Sidecar
from activities.stores.reuse import AdoptedChunks
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key
from longtake.stores.publications import PublishedFile
from longtake.stores.store import LARGEST_RECORD_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(DirectoryStore(tmp_path / "store"), "job")


@pytest.fixture
def adopted(folder: JobFolder, tmp_path: Path) -> Iterator[AdoptedChunks]:
    with closing(AdoptedChunks(folder, tmp_path)) as adopted:
        yield adopted


def record(chunk: int, *, files: int = 1) -> Sidecar:
    made = PublishedFile(path="/out/a.png", size_bytes=1, sha256="0" * 64, attempt_path="/out/a.png.gone")
    return Sidecar(key=chunk_key(chunk), digest="d", attempt="a", frames=files, files=files * (made,))


def test_thousands_share_files_of_records(folder: JobFolder, adopted: AdoptedChunks) -> None:
    chunks = [*range(3000), *range(5000, 8000)]
    for chunk in chunks:
        adopted.add(record(chunk))
    assert list(folder.finished_chunks()) == [], "nothing is written before the job is accepted"

    adopted.write()

    assert list(folder.finished_chunks()) == list(adopted.chunks) == chunks
    assert len(folder.store.names(folder.segments_dir)) == 3
    assert folder.store.names(folder.sidecars_dir) == []
    assert folder.sidecar(chunk_key(7999)) == record(7999)


def test_no_file_of_records_is_too_large_to_be_read(folder: JobFolder, adopted: AdoptedChunks) -> None:
    for chunk in range(60):
        adopted.add(record(chunk, files=2000))

    adopted.write()

    files = list(folder.store.files(folder.segments_dir))
    assert len(files) > 1
    assert max(file.size_bytes for file in files) < LARGEST_RECORD_BYTES
    assert list(folder.finished_chunks()) == list(range(60))


def test_a_chunk_that_was_taken_back_before_counts_again(folder: JobFolder, adopted: AdoptedChunks) -> None:
    """Files that were damaged and put back: what was taken back of a segment counts in no segment any more."""
    before = AdoptedChunks(folder, folder.store.local(folder.store.url).parent)
    before.add(record(3))
    before.write()
    before.close()
    folder.forget(record(3))
    assert list(folder.finished_chunks()) == []

    adopted.add(record(3))
    adopted.add(record(4))
    adopted.write()

    assert list(folder.finished_chunks()) == [3, 4]
    assert folder.sidecar(chunk_key(3)) == record(3)

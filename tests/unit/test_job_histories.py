"""What is known of a job is read once for all who look at it, and who wants all of it holds up nobody."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from activities.stores.job_folder import JobFolder, Sidecar, encode_job, encode_record
from longtake.chunk_history import ChunkHistory, HistoryReader
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.status import JobStatus
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_layout import chunk_key
from longtake.web import job_histories
from longtake.web.job_histories import JobHistories

STATUS = JobStatus(id="job", total_chunks=3)


@pytest.fixture
def records(tmp_path: Path) -> JobFolder:
    folder = JobFolder(DirectoryStore(tmp_path), "job")
    job = RenderJobSpec(frames=FrameRange(count=3, per_chunk=1), command=("r", "{output}"), chunk_output="{chunk}.txt")
    folder.store.create(folder.job_file, encode_job(job))
    for chunk in range(3):
        done = Sidecar(key=chunk_key(chunk), digest="d", attempt="a", host="anna", render_seconds=2, files=())
        folder.store.create(folder.sidecar_path(done.key), encode_record(done))
    return folder


def test_who_wants_all_gets_all_and_the_others_have_it_then(
    records: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_histories, "_MOST_SECONDS", 0)
    histories = JobHistories()

    assert histories.read(records, STATUS).chunks.unread == 3, "a person waits no longer"
    assert histories.read_whole(records, STATUS).chunks.unread == 0
    known = histories.read(records, STATUS).chunks
    assert (known.unread, known.host(2)) == (0, "anna")


def test_who_reads_all_of_a_job_lets_others_look_meanwhile(records: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    has_looked, turns = threading.Event(), 0
    histories = JobHistories()

    def look() -> None:
        histories.read(records, STATUS)
        has_looked.set()

    other = threading.Thread(target=look)

    def refresh(reader: HistoryReader, status: JobStatus, *, most_seconds: float) -> ChunkHistory:
        """Read, for whoever wants all, until the other has had its look: it waits for the lock from the first turn."""
        nonlocal turns
        if threading.current_thread() is not other:
            turns += 1
            if turns == 1:
                other.start()
        is_over = has_looked.is_set() or turns > 2000
        return cast(ChunkHistory, SimpleNamespace(unread=0 if is_over else 1))

    monkeypatch.setattr(HistoryReader, "refresh", refresh)
    histories.read_whole(records, STATUS)
    other.join(60)

    assert has_looked.is_set()
    assert turns < 2000

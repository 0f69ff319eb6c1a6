"""What became of each chunk: from sidecars, segments and the status, and again at the cost of what has changed."""

import struct
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.watched_store import WatchedStore

from activities.stores.job_folder import JobFolder, Sidecar, encode_record
from longtake.chunk_history import ChunkState, HistoryReader, read_chunk_history
from longtake.models.frames import FrameRange
from longtake.models.job import RenderJobSpec
from longtake.models.status import ChunkFailure, JobState, JobStatus, RunningChunk
from longtake.stores.job_layout import chunk_key
from longtake.stores.segments import OPENED, SEALED, SegmentMark, SegmentName
from longtake.stores.try_records import FailedTry, write_try

ENDED = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> WatchedStore:
    return WatchedStore(tmp_path)


@pytest.fixture
def folder(store: WatchedStore) -> JobFolder:
    return JobFolder(store, "job")


def make_job(frames: FrameRange | None = None) -> RenderJobSpec:
    return RenderJobSpec(
        frames=frames or FrameRange(first=1, count=10, per_chunk=2),
        command=("render", "{step}", "{output}"),
        chunk_output="{chunk}.mp4",
        fps=24,
    )


def record(chunk: int, host: str = "anna", attempt: str = "a", seconds: float = 2.5) -> Sidecar:
    return Sidecar(
        key=chunk_key(chunk),
        digest="d",
        attempt=attempt,
        host=host,
        files=(),
        render_seconds=seconds,
        cpu_seconds=8.0,
        peak_memory_bytes=1 << 30,
        published_at=ENDED,
    )


def write_sidecar(folder: JobFolder, sidecar: Sidecar) -> None:
    folder.store.create(folder.sidecar_path(sidecar.key), encode_record(sidecar))


def write_part(folder: JobFolder, number: int, *lines: Sidecar | str, attempt: str = "a") -> None:
    name = SegmentName(folder.segments_dir, 0, 4, attempt)
    content = [
        SegmentMark(mark=line).encode() if isinstance(line, str) else line.model_dump_json().encode() + b"\n"
        for line in lines
    ]
    folder.store.create(name.part(number), b"".join(content))


def states(reader: HistoryReader, status: JobStatus | None = None) -> str:
    """Return the first letter of the state of each chunk."""
    history = reader.refresh(status)
    return "".join(history.state(chunk)[0] for chunk in range(len(history)))


def test_a_chunk_with_a_sidecar_is_done_and_the_sidecar_tells_the_rest(folder: JobFolder) -> None:
    write_sidecar(folder, record(3))

    history = read_chunk_history(folder, make_job(), None)

    assert [history.state(chunk) for chunk in (2, 3)] == [ChunkState.TODO, ChunkState.DONE]
    assert history.host(3) == "anna"
    assert history.host(2) == ""
    assert history.facts.render_seconds[3] == 2.5
    assert history.facts.published_at[3] == ENDED.timestamp()
    assert history.frames(3) == range(7, 9)
    assert list(history.find(ChunkState.DONE)) == [3]


def test_of_a_segment_a_part_counts_when_the_next_one_is_there_and_no_part_is_read_twice_for_nothing(
    folder: JobFolder, store: WatchedStore
) -> None:
    reader = HistoryReader(folder, make_job())
    write_part(folder, 0, OPENED)
    write_part(folder, 1, record(0), record(1))

    assert states(reader) == "ttttt"
    write_part(folder, 2, record(2, host="berta"))
    assert states(reader) == "ddttt"

    store.read_locations.clear()
    assert states(reader) == "ddttt"
    assert store.read_locations == []
    write_part(folder, 3, SEALED)
    assert states(reader) == "ddttt"
    assert [location.rpartition(".00000")[2] for location in store.read_locations] == ["2.part", "3.part"]


def test_a_segment_that_was_closed_meanwhile_is_read_once_more(folder: JobFolder) -> None:
    reader = HistoryReader(folder, make_job())
    write_part(folder, 0, OPENED)
    write_part(folder, 1, record(0))
    states(reader)

    name = SegmentName(folder.segments_dir, 0, 4, "a")
    lines = [record(chunk).model_dump_json().encode() + b"\n" for chunk in range(3)]
    folder.store.create(name.closed, b"".join(lines))
    for number in (1, 0):
        folder.store.remove(name.part(number))

    assert states(reader) == "dddtt"


def test_what_was_taken_back_is_to_do_again(folder: JobFolder) -> None:
    reader = HistoryReader(folder, make_job())
    write_part(folder, 0, OPENED)
    write_part(folder, 1, record(0), record(1))
    write_part(folder, 2, OPENED)
    write_sidecar(folder, record(4))
    assert states(reader) == "ddttd"

    folder.forget(record(1))
    folder.store.remove(folder.sidecar_path(chunk_key(4)))

    assert states(reader) == "dtttt"
    assert reader.refresh(None).facts.render_seconds[4] == 0


def test_frames_that_are_rendered_anew_have_their_new_record_read(folder: JobFolder) -> None:
    reader = HistoryReader(folder, make_job())
    write_sidecar(folder, record(1, host="anna"))
    assert reader.refresh(None).host(1) == "anna"

    folder.store.create(folder.rerender_path("r1"), b"{}")
    folder.store.replace(folder.sidecar_path(chunk_key(1)), encode_record(record(1, host="berta")))

    assert reader.refresh(None).host(1) == "berta"


def test_the_status_tells_what_is_rendered_and_what_has_failed(folder: JobFolder) -> None:
    write_sidecar(folder, record(0))
    status = JobStatus(
        id="job",
        state=JobState.RUNNING,
        failed_chunks=1,
        failures=(ChunkFailure(chunk=4),),
        running=(
            RunningChunk(chunk=0),
            RunningChunk(chunk=1),
            RunningChunk(chunk=2, waiting=True, attempt=3),
            RunningChunk(chunk=3, frozen=True),
        ),
    )

    history = read_chunk_history(folder, make_job(), status)

    found = [history.state(chunk) for chunk in range(5)]
    assert found == [ChunkState.DONE, ChunkState.RUNNING, ChunkState.WAITING, ChunkState.FROZEN, ChunkState.FAILED]
    assert list(history.facts.tries) == [1, 1, 3, 1, 0]


def test_what_is_skipped_is_left_out_while_the_job_runs(folder: JobFolder) -> None:
    write_sidecar(folder, record(0))
    reader = HistoryReader(folder, make_job())
    running = JobStatus(id="job", state=JobState.RUNNING, left_out=((0, 2), (4, 9)), left_out_chunks=2)

    assert [reader.refresh(running).state(chunk) for chunk in range(5)] == [
        ChunkState.DONE, ChunkState.LEFT_OUT, ChunkState.TODO, ChunkState.TODO, ChunkState.LEFT_OUT,
    ]  # fmt: skip
    assert states(reader, running.model_copy(update={"left_out": (), "left_out_chunks": 0})) == "dtttt"


def test_sidecars_that_there_was_no_time_for_are_done_and_read_later(folder: JobFolder) -> None:
    for chunk in range(3):
        write_sidecar(folder, record(chunk))
    reader = HistoryReader(folder, make_job())

    history = reader.refresh(None, most_seconds=0)
    assert history.unread == 3
    assert history.count_states()[ChunkState.DONE] == 3
    assert history.host(0) == ""
    history = reader.refresh(None)
    assert history.unread == 0
    assert history.host(0) == "anna"


def test_columns_travel_as_little_endian_numbers(folder: JobFolder) -> None:
    write_sidecar(folder, record(1))

    columns = read_chunk_history(folder, make_job(), None).columns()

    assert (columns.count, columns.first_frames, columns.first_frame) == (5, "contiguous", 1)
    assert (columns.frames_per_chunk, columns.total_frames) == (2, 10)
    assert b64decode(columns.state) == bytes([0, 4, 0, 0, 0])
    assert struct.unpack("<5H", b64decode(columns.host)) == (0, 1, 0, 0, 0)
    assert struct.unpack("<5f", b64decode(columns.seconds)) == (0, 2.5, 0, 0, 0)
    assert struct.unpack("<5d", b64decode(columns.ended)) == (0, ENDED.timestamp(), 0, 0, 0)
    assert b64decode(columns.tries) == bytes([0, 1, 0, 0, 0])


def test_chunks_that_do_not_follow_each_other_have_their_first_frames(folder: JobFolder) -> None:
    job = make_job(FrameRange.model_validate({"range": "1-5,20,30-34x2", "per_chunk": 2}))

    columns = read_chunk_history(folder, job, None).columns()

    assert struct.unpack(f"<{columns.count}i", b64decode(columns.first_frames)) == (1, 3, 5, 20, 30, 34)
    assert struct.unpack(f"<{columns.count}i", b64decode(columns.frame_counts)) == (2, 2, 1, 1, 2, 1)


def test_the_tag_changes_with_what_is_known(folder: JobFolder) -> None:
    reader = HistoryReader(folder, make_job())
    before = reader.refresh(None).tag

    assert reader.refresh(None).tag == before
    write_sidecar(folder, record(1))
    assert reader.refresh(None).tag != before


def test_chunks_that_failed_beyond_those_of_the_status_are_known_by_their_tries(folder: JobFolder) -> None:
    def fail(chunk: int, number: int, *, last: bool) -> None:
        ended = datetime.fromtimestamp(1_800_000_000 + number, UTC)
        write_try(folder, FailedTry(chunk=chunk, attempt=f"t{number}", number=number, ended=ended, last=last))

    fail(1, 1, last=True)
    fail(2, 2, last=True)
    fail(3, 3, last=False)
    write_sidecar(folder, record(4))
    fail(4, 4, last=True)
    reader = HistoryReader(folder, make_job())

    assert states(reader) == "tfftd"
    failures = (ChunkFailure(chunk=3),)
    assert states(reader, JobStatus(id="job", failed_chunks=2, failures=failures)) == "ttffd"
    assert states(reader, JobStatus(id="job", failed_chunks=0)) == "ttttd"
    assert list(reader.refresh(None).facts.tries) == [0, 1, 1, 1, 2]
    fail(1, 5, last=False)
    assert states(reader) == "ttftd"

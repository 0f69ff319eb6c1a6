"""What people see of a job while it runs: lines, JSON lines and the picture."""

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console
from support.jobs.statuses import BEGAN, job_status

from longtake.cli.views import JsonView, LineView, SpeedEstimate, View, make_running_table
from longtake.models.status import ChunkFailure, JobPhase, JobState, JobStatus, RunningChunk

Captured = pytest.CaptureFixture[str]


def show_all(view: View, looks: list[JobStatus]) -> None:
    with view:
        for status in looks:
            view.show(status)


def test_plain_lines_come_with_changes_and_not_with_looks(capsys: Captured) -> None:
    slow = [job_status(frames) for frames in range(100) for _ in range(3)]
    show_all(LineView(), slow)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[0] == "job-1 running, rendering: 0 %, 0 of 100 frames, 0 of 10 chunks"
    assert lines[-1] == "job-1 running, rendering: 95 %, 95 of 100 frames, 9 of 10 chunks"


def test_each_failure_is_told_once(capsys: Captured) -> None:
    failed = job_status(failures=(ChunkFailure(chunk=3, attempts=2, error="exited\x1b[31m\nwith code 1", host="node"),))
    again = job_status(running=(RunningChunk(chunk=4, attempt=2, waiting=True, error="out of memory"),))
    show_all(LineView(), [failed, failed, again, again])
    told = capsys.readouterr().err.splitlines()
    assert told.count("chunk 3 failed for good after 2 tries on node: exited with code 1") == 1
    assert told.count("chunk 4: out of memory") == 1


def test_failed_tries_stop_being_told_one_by_one(capsys: Captured) -> None:
    looks = [job_status(running=(RunningChunk(chunk=n, attempt=2, waiting=True, error=f"e{n}"),)) for n in range(500)]
    show_all(LineView(), looks)
    told = capsys.readouterr().err.splitlines()
    assert len(told) < 30
    assert "more tries go wrong; `longtake logs` has them all" in told


def test_json_lines_come_with_changes_and_not_with_looks(capsys: Captured) -> None:
    begun = job_status(running=(RunningChunk(chunk=1, frames=10, frames_done=1),), eta_seconds=5)
    usage = {"message": "Tile 3", "cpu_seconds": 1.5, "memory_bytes": 2**20, "io_bytes": 5}
    later = job_status(
        running=(RunningChunk(chunk=1, frames=10, frames_done=7, **usage),),
        eta_seconds=2,
        updated_at=BEGAN + timedelta(seconds=3),
    )
    show_all(JsonView(), [begun, later, job_status(10)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["completed_frames"] for line in lines] == [0, 10]
    assert lines[0]["created_at"] == "2026-01-01T00:00:00Z"


def test_the_pace_counts_frames_of_unfinished_chunks() -> None:
    pace = SpeedEstimate(clock=lambda: 0.0)
    pace.update(job_status(20, eta_seconds=80, running=(RunningChunk(chunk=2, frames=10, frames_done=8),)))
    assert pace.frames == 28
    assert pace.eta_seconds == pytest.approx(72)


def test_the_pace_estimates_by_itself_while_no_chunk_is_finished() -> None:
    now = 0.0
    pace = SpeedEstimate(clock=lambda: now)
    for done in range(6):
        now = float(done)
        pace.update(job_status(0, running=(RunningChunk(chunk=0, frames=100, frames_done=done),)))
    assert pace.eta_seconds == pytest.approx(95)
    pace.update(job_status(0, state=JobState.PAUSED))
    assert pace.eta_seconds is None


def test_the_picture_has_no_more_rows_than_there_is_room_for() -> None:
    running = tuple(RunningChunk(chunk=n, frames=10, host="node", waiting=n >= 30) for n in range(500))
    drawn = io.StringIO()
    Console(file=drawn, width=80).print(make_running_table(running, 12, width=80))
    rows = drawn.getvalue().splitlines()
    assert len(rows) == 13
    assert "489 more chunks" in rows[-1]
    assert "470 of them in a queue" in rows[-1]
    assert all(len(row) <= 80 for row in rows)


def drawn_rows(*running: RunningChunk, width: int, whole: bool = False) -> list[str]:
    drawn = io.StringIO()
    Console(file=drawn, width=width).print(make_running_table(running, 12, width=width, whole=whole))
    return drawn.getvalue().splitlines()


def test_the_picture_marks_frozen_chunks_and_tells_what_the_renderer_says() -> None:
    still = RunningChunk(chunk=3, frames=10, frames_done=4, host="north", frozen=True)
    busy = RunningChunk(chunk=4, frames=10, frames_done=4, host="south", message="Tile\x1b[31m 3-16")
    _, frozen, rendering = drawn_rows(busy, still, width=80)

    assert frozen.split() == ["3", "1", "frozen", "4/10", "north"]
    assert rendering.endswith("south  Tile 3-16".ljust(len(rendering) - rendering.index("south")))


@pytest.mark.parametrize(("width", "told"), [(80, False), (100, True)])
def test_the_picture_tells_what_renders_use_where_it_fits(width: int, told: bool) -> None:
    chunk = RunningChunk(chunk=3, frames=10, host="north", cpu_seconds=3900, memory_bytes=3 * 2**29)
    head, row = drawn_rows(chunk, width=width)

    assert ("memory" in head, "1:05:00" in row, "1.5 GiB" in row) == (told, told, told)
    assert "north" in row
    assert len(row) <= width


def test_an_error_is_whole_where_it_is_read_and_cut_where_it_is_watched() -> None:
    chunk = RunningChunk(chunk=3, waiting=True, error="chunk 3 (frames 0-9): " + "x" * 200 + " the end")

    assert len(drawn_rows(chunk, width=80)) == 2
    assert "the end" in " ".join(drawn_rows(chunk, width=80, whole=True))


HOLDING = job_status(
    20,
    state=JobState.PAUSED,
    phase=JobPhase.HOLDING,
    failed_chunks=3,
    failures=tuple(ChunkFailure(chunk=n, error="no licence") for n in (3, 8, 9)),
)


def test_a_job_that_holds_says_once_what_to_do_and_again_when_it_holds_again(capsys: Captured) -> None:
    show_all(LineView(), [HOLDING, HOLDING, job_status(30), HOLDING])
    told = capsys.readouterr().err.splitlines()

    advised = (
        "job-1 holds: mend the cause, then `longtake resume job-1`; or go on without: "
        "`longtake skip job-1 --chunk 3,8-9 --allow-gaps`"
    )
    assert told.count(advised) == 2
    assert sum(line.startswith("chunk 8 failed for good") for line in told) == 2
    assert any(line.startswith("job-1 paused, holding: 20 %") and "3 failed" in line for line in told)


def test_lines_count_frozen_and_left_out_chunks(capsys: Captured) -> None:
    show_all(LineView(), [job_status(20, state=JobState.PAUSED, frozen_chunks=2, left_out_chunks=1)])
    assert capsys.readouterr().err == "job-1 paused: 20 %, 20 of 100 frames, 2 of 10 chunks, 2 frozen, 1 left out\n"


def test_an_activity_paused_in_temporal_is_told_beside_the_try_before_it(capsys: Captured) -> None:
    before = job_status(running=(RunningChunk(chunk=4, attempt=2, error="out of memory"),))
    paused = job_status(
        running=(RunningChunk(chunk=4, attempt=2, waiting=True, error="paused in Temporal; unpause it"),)
    )
    show_all(LineView(), [before, paused, paused])
    told = capsys.readouterr().err.splitlines()

    assert told.count("chunk 4: out of memory") == told.count("chunk 4: paused in Temporal; unpause it") == 1

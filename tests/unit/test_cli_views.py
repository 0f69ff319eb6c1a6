"""What people see of a job: lines, JSON lines, the picture, and numbers they can read."""

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from longtake.cli.control import describe_effect
from longtake.cli.formatting import describe_end, describe_film, format_bytes, format_duration
from longtake.cli.logs import LogReader, readable
from longtake.cli.submit import follow
from longtake.cli.terminal import shortened
from longtake.cli.views import JsonView, LineView, SpeedEstimate, View, running_table
from longtake.errors import NotReachableError
from longtake.models.status import ChunkFailure, JobPhase, JobState, JobStatus, PauseMode, RenderJobResult, RunningChunk
from longtake.text import plain

Captured = pytest.CaptureFixture[str]

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def look(frames: int = 0, **fields: object) -> JobStatus:
    """A look at a running job of 100 frames in 10 chunks."""
    known = {
        "id": "job-1",
        "state": JobState.RUNNING,
        "phase": JobPhase.RENDERING,
        "total_frames": 100,
        "total_chunks": 10,
        "completed_frames": frames,
        "completed_chunks": frames // 10,
        "progress": float(frames),
        "created_at": BEGAN,
        "updated_at": BEGAN,
    }
    return JobStatus.model_validate(known | fields)


def show_all(view: View, looks: list[JobStatus]) -> None:
    with view:
        for status in looks:
            view.show(status)


def test_plain_lines_come_with_changes_and_not_with_looks(capsys: Captured) -> None:
    slow = [look(frames) for frames in range(100) for _ in range(3)]
    show_all(LineView(), slow)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[0] == "job-1 running, rendering: 0 %, 0 of 100 frames, 0 of 10 chunks"
    assert lines[-1] == "job-1 running, rendering: 95 %, 95 of 100 frames, 9 of 10 chunks"


def test_each_failure_is_told_once(capsys: Captured) -> None:
    failed = look(failures=(ChunkFailure(chunk=3, attempts=2, error="exited\x1b[31m\nwith code 1", host="node"),))
    again = look(running=(RunningChunk(chunk=4, attempt=2, waiting=True, error="out of memory"),))
    show_all(LineView(), [failed, failed, again, again])
    told = capsys.readouterr().err.splitlines()
    assert told.count("chunk 3 failed for good after 2 tries on node: exited with code 1") == 1
    assert told.count("chunk 4: out of memory") == 1


def test_failed_tries_stop_being_told_one_by_one(capsys: Captured) -> None:
    looks = [look(running=(RunningChunk(chunk=n, attempt=2, waiting=True, error=f"e{n}"),)) for n in range(500)]
    show_all(LineView(), looks)
    told = capsys.readouterr().err.splitlines()
    assert len(told) < 30
    assert "more tries go wrong; `longtake logs` has them all" in told


def test_json_lines_come_with_changes_and_not_with_looks(capsys: Captured) -> None:
    begun = look(running=(RunningChunk(chunk=1, frames=10, frames_done=1),), eta_seconds=5)
    usage = {"message": "Tile 3", "cpu_seconds": 1.5, "memory_bytes": 2**20, "io_bytes": 5}
    later = look(
        running=(RunningChunk(chunk=1, frames=10, frames_done=7, **usage),),
        eta_seconds=2,
        updated_at=BEGAN + timedelta(seconds=3),
    )
    show_all(JsonView(), [begun, later, look(10)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["completed_frames"] for line in lines] == [0, 10]
    assert lines[0]["created_at"] == "2026-01-01T00:00:00Z"


def test_the_pace_counts_frames_of_unfinished_chunks() -> None:
    pace = SpeedEstimate(clock=lambda: 0.0)
    pace.look(look(20, eta_seconds=80, running=(RunningChunk(chunk=2, frames=10, frames_done=8),)))
    assert pace.frames == 28
    assert pace.eta_seconds == pytest.approx(72)


def test_the_pace_estimates_by_itself_while_no_chunk_is_finished() -> None:
    now = 0.0
    pace = SpeedEstimate(clock=lambda: now)
    for done in range(6):
        now = float(done)
        pace.look(look(0, running=(RunningChunk(chunk=0, frames=100, frames_done=done),)))
    assert pace.eta_seconds == pytest.approx(95)
    pace.look(look(0, state=JobState.PAUSED))
    assert pace.eta_seconds is None


def test_the_picture_has_no_more_rows_than_there_is_room_for() -> None:
    running = tuple(RunningChunk(chunk=n, frames=10, host="node", waiting=n >= 30) for n in range(500))
    drawn = io.StringIO()
    Console(file=drawn, width=80).print(running_table(running, 12, width=80))
    rows = drawn.getvalue().splitlines()
    assert len(rows) == 13
    assert "489 more chunks" in rows[-1]
    assert "470 of them in a queue" in rows[-1]
    assert all(len(row) <= 80 for row in rows)


def drawn_rows(*running: RunningChunk, width: int, whole: bool = False) -> list[str]:
    drawn = io.StringIO()
    Console(file=drawn, width=width).print(running_table(running, 12, width=width, whole=whole))
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


HOLDING = look(
    20,
    state=JobState.PAUSED,
    phase=JobPhase.HOLDING,
    failed_chunks=3,
    failures=tuple(ChunkFailure(chunk=n, error="no licence") for n in (3, 8, 9)),
)


def test_a_job_that_holds_says_once_what_to_do_and_again_when_it_holds_again(capsys: Captured) -> None:
    show_all(LineView(), [HOLDING, HOLDING, look(30), HOLDING])
    told = capsys.readouterr().err.splitlines()

    advised = (
        "job-1 holds: mend the cause, then `longtake resume job-1`; or go on without: "
        "`longtake skip job-1 --chunk 3,8-9 --allow-gaps`"
    )
    assert told.count(advised) == 2
    assert sum(line.startswith("chunk 8 failed for good") for line in told) == 2
    assert any(line.startswith("job-1 paused, holding: 20 %") and "3 failed" in line for line in told)


def test_lines_count_frozen_and_left_out_chunks(capsys: Captured) -> None:
    show_all(LineView(), [look(20, state=JobState.PAUSED, frozen_chunks=2, left_out_chunks=1)])
    assert capsys.readouterr().err == "job-1 paused: 20 %, 20 of 100 frames, 2 of 10 chunks, 2 frozen, 1 left out\n"


def test_an_activity_paused_in_temporal_is_told_beside_the_try_before_it(capsys: Captured) -> None:
    before = look(running=(RunningChunk(chunk=4, attempt=2, error="out of memory"),))
    paused = look(running=(RunningChunk(chunk=4, attempt=2, waiting=True, error="paused in Temporal; unpause it"),))
    show_all(LineView(), [before, paused, paused])
    told = capsys.readouterr().err.splitlines()

    assert told.count("chunk 4: out of memory") == told.count("chunk 4: paused in Temporal; unpause it") == 1


@pytest.mark.parametrize(
    ("fields", "mode", "words"),
    [
        ({"phase": JobPhase.PAUSING, "running_chunks": 2}, PauseMode.DRAIN, "job-1 is pausing: 2 chunks finish first"),
        ({"phase": JobPhase.PAUSING, "running_chunks": 1}, PauseMode.DRAIN, "job-1 is pausing: 1 chunk finishes first"),
        ({"phase": JobPhase.PAUSING, "running_chunks": 2}, PauseMode.FREEZE, "job-1 is pausing: 2 chunks to freeze"),
        ({"phase": JobPhase.PAUSING, "running_chunks": 1}, PauseMode.NOW, "job-1 is pausing: 1 chunk to stop"),
        ({"phase": JobPhase.PAUSING}, PauseMode.NOW, "job-1 is pausing"),
        ({"state": JobState.PAUSED, "frozen_chunks": 3}, PauseMode.FREEZE, "job-1 is paused at 20 %, 3 chunks frozen"),
        ({"state": JobState.PAUSED}, PauseMode.DRAIN, "job-1 is paused at 20 %"),
        ({"phase": JobPhase.CLEANING_UP, "running_chunks": 1}, PauseMode.DRAIN, "is being cancelled: 1 chunk to stop"),
    ],
)
def test_what_a_request_has_brought_about_is_one_line(fields: dict[str, object], mode: PauseMode, words: str) -> None:
    assert describe_effect(look(20, **fields), mode).endswith(words)


def test_a_job_that_holds_is_told_by_pause_and_resume_too() -> None:
    assert "mend the cause" in describe_effect(HOLDING, PauseMode.DRAIN)


class Scripted:
    """A job that answers as it is told, one look after the other."""

    id = "job-1"

    def __init__(self, *looks: JobStatus | NotReachableError) -> None:
        self._looks = list(looks)

    async def status(self) -> JobStatus:
        look = self._looks.pop(0)
        if isinstance(look, NotReachableError):
            raise look
        return look


async def test_watching_goes_on_while_the_server_is_away_and_says_so_once(capsys: Captured) -> None:
    away, done = NotReachableError("gone"), look(100, state=JobState.COMPLETED, phase=JobPhase.ENDED)
    end = await follow(Scripted(look(), away, away, away, done), LineView(), interval_seconds=0)

    assert end.state is JobState.COMPLETED
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "job-1 running, rendering: 0 %, 0 of 100 frames, 0 of 10 chunks",
        "no answer",
        "job-1 completed: 100 %, 100 of 100 frames, 10 of 10 chunks",
    ]


async def test_watching_does_not_begin_where_no_server_answers() -> None:
    with pytest.raises(NotReachableError):
        await follow(Scripted(NotReachableError("gone"), look()), LineView(), interval_seconds=0)


async def test_a_look_older_than_the_last_one_does_not_turn_the_clock_back(capsys: Captured) -> None:
    old, new = look(10), look(50, updated_at=BEGAN + timedelta(seconds=9))
    end = look(100, state=JobState.COMPLETED, phase=JobPhase.ENDED)
    await follow(Scripted(new, old, end), JsonView(), interval_seconds=0)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["completed_frames"] for line in lines] == [50, 100]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x1b[1;31mred\x1b[0m", "ared"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1b(Bplain\x1bc", "plain"),
        ("bell\x07back\x08nul\x00del\x7f", "bellbacknuldel"),
        ("\u202eevil\u2066", "evil"),
        ("tab\tstays ü", "tab\tstays ü"),
        ("\x1b[31", "31"),
    ],
)
def test_control_characters_are_taken_out(text: str, left: str) -> None:
    assert plain(text) == left


def test_lines_drawn_over_and_over_are_left_as_drawn_last() -> None:
    assert readable("frame=1\rframe=2\r\x1b[Kframe=3\r\n") == "frame=3"


def test_logs_come_in_the_order_of_chunks_and_tries_with_the_film_last(tmp_path: Path, capsys: Captured) -> None:
    names = ("film.a-0-1", "000010.a-chunk-10.5-1", "000002.b-chunk-2.9-2", "000002.a-chunk-2.3-1", "1000000.a-1-1")
    for age, name in enumerate(names):
        path = tmp_path / f"{name}.log"
        path.write_text(f"{name}\n")
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "unfinished.tmp").write_text("x")

    LogReader(tmp_path).print_new(to_the_end=True)

    written = capsys.readouterr()
    assert written.out.split() == [names[3], names[2], names[1], names[4], names[0]]
    assert written.err.splitlines()[1] == f"==> chunk 2, try 2 ({names[2]}.log)"


def test_a_growing_log_is_printed_line_by_line_and_never_twice(tmp_path: Path, capsys: Captured) -> None:
    log, reader = tmp_path / "000003.a-chunk-3.1-1.log", LogReader(tmp_path, 3)
    log.write_text("one\ntw")
    reader.print_new()
    reader.print_new()
    log.write_text("one\ntwo\nthree")
    reader.print_new()
    assert capsys.readouterr().out == "one\ntwo\n"

    reader.print_new(to_the_end=True)
    assert capsys.readouterr().out == "three\n"


def test_long_errors_keep_their_beginning_and_their_end() -> None:
    short = shortened(f"ffmpeg exited {'x' * 1000} No space left on device")
    assert len(short) < 250
    assert short.startswith("ffmpeg exited")
    assert short.endswith("No space left on device")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (11_100, "3:05:00"), (187_200, "2 d 4 h")]
)
def test_spans_of_time_are_readable(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (2**20, "1.0 MiB"), (812 * 2**20, "812 MiB"),
        (1023 * 2**20, "1.0 GiB"), (int(9.96 * 2**30), "10 GiB"), (5 * 2**50, "5120 TiB"),
    ],
)  # fmt: skip
def test_amounts_of_memory_are_readable(count: int, words: str) -> None:
    assert format_bytes(count) == words


def test_a_film_with_gaps_says_which() -> None:
    result = RenderJobResult(output="/films/film.mp4", frames=90, missing_chunks=((3, 4), (7, 9)))
    assert describe_film(result) == "/films/film.mp4 (90 frames), without chunks 3, 7-8"
    assert describe_film(RenderJobResult(frames=90, missing_chunks=((3, 4),))).endswith(
        "in chunks, no film, without chunks 3"
    )


def test_the_end_of_a_job_is_one_line_with_what_to_do_next() -> None:
    result = RenderJobResult(output="/films/film.mp4", sha256="ab" * 32, frames=100, duration_seconds=4)
    after = BEGAN + timedelta(seconds=65)
    assert describe_end(look(100, state=JobState.COMPLETED, updated_at=after, result=result)) == (
        "job-1 completed in 1:05: /films/film.mp4 (100 frames, 4 s, sha256 abababababab)"
    )
    assert "longtake retry job-1" in describe_end(look(state=JobState.FAILED, error="chunk 3 failed"))
    assert "longtake retry job-1" in describe_end(look(state=JobState.CANCELLED))

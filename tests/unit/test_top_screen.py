"""The farm on a terminal: it fits any size, failures stand first, and foreign text controls nothing."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from longtake.cli.terminal import PlainConsole
from longtake.cli.top_screen import TopView, draw_screen, draw_snapshot, list_chunks
from longtake.farm_overview import FarmHost, Rendering
from longtake.models.status import ChunkFailure, JobPhase, JobState, JobStatus, RunningChunk

NOW = datetime.now(UTC)


def job(id: str, state: JobState = JobState.RUNNING, **fields: object) -> JobStatus:
    given = {"phase": JobPhase.RENDERING, "created_at": NOW, "updated_at": NOW, "total_chunks": 10, **fields}
    return JobStatus.model_validate({"id": id, "state": state, **given})


def show(view: TopView, width: int = 80, height: int = 24, *, colour: bool = False) -> list[str]:
    """Return the lines that a terminal of this size shows."""
    out = io.StringIO()
    console = PlainConsole(
        file=out, width=width, height=height, force_terminal=colour, no_color=not colour, markup=False, highlight=False
    )
    console.print(draw_screen(view, width, height))
    return out.getvalue().rstrip("\n").split("\n")


def farm() -> TopView:
    failing = job("b-failing", failed_chunks=2, progress=40)
    old = NOW - timedelta(days=3)
    jobs = [
        job("a-done", JobState.COMPLETED, progress=100),
        failing,
        job("c-failed", JobState.FAILED),
        job("d-old-failure", JobState.FAILED, updated_at=old, created_at=old),
        job("e-running", progress=50, eta_seconds=75),
        job("f-held", JobState.PAUSED, phase=JobPhase.HOLDING, created_at=old),
        job("g-paused", JobState.PAUSED),
    ]
    running = (
        Rendering(job="e-running", chunk=3, frames=10, frames_done=5),
        Rendering(job="g-paused", chunk=4, frames=10, frames_done=5, frozen=True),
    )
    hosts = [
        FarmHost(name="node-1", slots=4, used_slots=2, running=running),
        FarmHost(name="node-2", last_heard=datetime.now(UTC) - timedelta(minutes=5), is_silent=True),
    ]
    return TopView(place="default @ localhost:7233", jobs=jobs, hosts=hosts, is_loaded=True)


def test_what_needs_somebody_stands_first() -> None:
    assert [each.id for each in farm().listed()] == [
        "b-failing",
        "f-held",
        "c-failed",
        "e-running",
        "g-paused",
        "a-done",
        "d-old-failure",
    ]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (60, 12), (40, 8), (132, 43)])
@pytest.mark.parametrize("page", ["jobs", "job", "log"])
def test_a_screen_of_any_size_is_filled_and_never_outgrown(width: int, height: int, page: str) -> None:
    view = farm()
    view.page, view.job = page, view.jobs[1].model_copy(update={"error": "x" * 500, "waiting_for": "y" * 500})
    view.log_lines = [f"line {number} {'z' * 300}" for number in range(500)]
    view.jobs += [job(f"z-{number}" * 20) for number in range(100)]
    lines = show(view, width, height)

    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_all_is_told_in_80_columns_without_colours() -> None:
    text = "\n".join(show(farm()))

    for said in ("b-failing", "40", "1:15", "holding", "node-1", "2/4", "e-running 3 50%", "g-paused 4 frozen"):
        assert said in text, said
    assert "not heard of for 5:0" in text
    assert ">  b-failing" in text
    assert "\x1b" not in text


def test_the_cursor_moves_and_stays_in_sight() -> None:
    view = farm()
    view.jobs += [job(f"z-{number:03}") for number in range(200)]
    view.move(150)
    chosen = view.find_selected()
    assert chosen is not None
    assert any(line.startswith(f">  {chosen.id}") for line in show(view))

    view.move(-1_000_000)
    assert view.find_selected() == view.listed()[0]


def test_a_filter_leaves_what_has_all_of_its_words() -> None:
    view = farm()
    view.filter = "FAILED c-"

    assert [each.id for each in view.listed()] == ["c-failed"]
    view.filter = "nothing"
    assert "no job has all of: nothing" in "\n".join(show(view))


def test_a_farm_without_a_job_tells_how_to_start_one() -> None:
    assert "longtake submit" in "\n".join(show(TopView(is_loaded=True)))
    assert "looking" in "\n".join(show(TopView()))


def test_when_nobody_answers_that_is_told_with_since_when() -> None:
    view = farm()
    view.away_since, view.trouble = datetime.now(UTC) - timedelta(seconds=75), "Temporal does not answer"
    text = "\n".join(show(view, 120))

    assert "away since" in text
    assert "(1:15)" in text
    assert "b-failing" in text, "what was known last stays"


def test_foreign_text_controls_no_terminal() -> None:
    view = farm()
    evil = "\x1b]0;title\x07\x1b[2Jevil"
    view.jobs = [job(evil, error=evil, failures=(ChunkFailure(chunk=1, error=evil, host=evil),))]
    view.hosts = [FarmHost(name=evil, running=(Rendering(job=evil, chunk=1),))]
    for page in ("jobs", "job", "log"):
        view.page, view.job, view.log_title, view.log_lines = page, view.jobs[0], evil, [evil]
        text = "\n".join(show(view))
        assert "\x1b" not in text
        assert "evil" in text


def test_chunks_that_failed_stand_before_those_that_run() -> None:
    one = job(
        "a",
        failures=(ChunkFailure(chunk=9, error="no camera"), ChunkFailure(chunk=2)),
        running=(RunningChunk(chunk=4, waiting=True), RunningChunk(chunk=3), RunningChunk(chunk=2)),
    )

    assert [entry.chunk for entry in list_chunks(one)] == [9, 2, 3, 4]
    assert list_chunks(None) == []


def test_a_snapshot_has_all_jobs_and_hosts() -> None:
    out = io.StringIO()
    PlainConsole(file=out, width=1000, markup=False).print(draw_snapshot(farm()))

    assert out.getvalue().count("\n") > 9
    assert "d-old-failure" in out.getvalue()
    assert "node-2" in out.getvalue()

"""The harness of `make bench`: who is compared with whom, what is written where, and that nothing is left running."""

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import bench
import growth
import makespan
import pytest
import real_render
import throughput
from harness import Contest, NotHereError, Run, compete, format_ratio
from overhead import Overhead
from reports import Part, Table, write_into_page, write_json
from sessions import SessionError, find_members, run_session
from ways import Go, Way, Work, run_way

from activities.processes.programs import find_ffmpeg

ROOT = Path(__file__).parents[2]


def ignore(_: str) -> None:
    """Take a message."""


def part(rows: Sequence[Sequence[str]]) -> Part:
    return Part("speed", "How fast.", Table(("way", "rate"), rows), {"rate": 2}, {"xargs": "4.9"}, ("A note.",))


def test_ways_take_turns_and_every_other_round_goes_backwards() -> None:
    order: list[str] = []

    async def run(name: str) -> Run:
        order.append(name)
        return Run(10, 2.0)

    contest = asyncio.run(compete({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=2, on_message=ignore))

    assert order == ["a", "b", "b", "a"]
    assert contest.rate("a") == 5


def test_a_way_that_cannot_run_is_told_and_tried_no_more() -> None:
    tries = []

    async def run() -> Run:
        tries.append(1)
        raise NotHereError("not installed")

    contest = asyncio.run(compete({"parallel": run}, rounds=3, on_message=ignore))

    assert contest.missing == {"parallel": "not installed"}
    assert len(tries) == 1


def test_ratios_are_of_runs_of_the_same_round() -> None:
    # The second round met twice the load.
    contest = Contest({"ours": [Run(50, 1), Run(25, 1)], "base": [Run(100, 1), Run(50, 1)]})

    assert contest.ratios("ours", "base") == [0.5, 0.5]
    assert format_ratio([0.5, 0.4, 0.9]) == "0.500 (0.400 to 0.900)"
    assert format_ratio([0.5]) == "0.500"
    assert format_ratio([]) == "-"


def test_a_table_escapes_what_would_end_a_cell() -> None:
    assert Table(("a",), [["x|y\nz"]]).to_markdown() == "| a |\n| --- |\n| x\\|y z |"


def test_a_run_replaces_its_own_table_of_the_page_alone(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    page.write_text("before\n<!-- begin of make bench, speed -->\nold\n<!-- end of make bench, speed -->\nafter\n")

    for rows in ([["ours", "1"]], [["ours", "2"]]):
        write_into_page(page, part(rows), "2 cores")

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| ours | 2 |" in text
    assert "| ours | 1 |" not in text
    assert "old" not in text
    assert "A note. 2 cores; xargs 4.9." in text


def test_a_page_without_a_place_for_a_table_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    page.write_text("nothing here\n")

    with pytest.raises(ValueError, match="has no place for speed"):
        write_into_page(page, part([]), "2 cores")
    assert page.read_text() == "nothing here\n"


def test_the_json_file_has_figures_versions_and_what_was_asked(tmp_path: Path) -> None:
    out = tmp_path / "made" / "scale.json"

    write_json(out, [part([])], machine="2 cores", arguments={"rounds": 3, "out": out})

    text = out.read_text()
    assert '"rate": 2' in text
    assert '"xargs": "4.9"' in text
    assert '"rounds": 3' in text
    assert str(tmp_path) not in text


def test_the_page_on_scale_has_a_place_for_each_part() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()

    for name in bench.PARTS:
        for word in ("begin", "end"):
            assert page.count(f"<!-- {word} of make bench, {name} -->") == 1


def test_the_limits_of_the_page_on_scale_are_those_of_the_code() -> None:
    rows = re.findall(r"\| `(\w+)` in `([\w/.]+)` \|$", (ROOT / "docs" / "scale.md").read_text(), re.MULTILINE)

    assert len(rows) > 10
    assert [
        row for row in rows if not re.search(rf"^ *{row[0]}\b.* = ", (ROOT / row[1]).read_text(), re.MULTILINE)
    ] == []


@pytest.mark.parametrize("shape", makespan.SHAPES)
def test_chunks_of_every_shape_take_a_tenth_of_a_second_to_two(shape: str) -> None:
    durations = makespan.SHAPES[shape](200, random.Random(1))

    assert len(durations) == 200
    assert min(durations) >= 0.1
    assert 1 < max(durations) <= 2


def test_commands_beside_longtake_are_those_of_the_job(tmp_path: Path) -> None:
    job = real_render.make_plasma(tmp_path, seconds=60, parallel=2)
    work = Work(tmp_path, job.model_copy(update={"base_dir": str(tmp_path / "store")}))
    commands = work.list_commands()

    assert len(commands) == 12
    assert commands[0][0] == find_ffmpeg()
    assert commands[1][commands[1].index("-frames:v") + 1] == "120"
    assert "(N+120)" in " ".join(commands[1])
    assert commands[1][-1] == str(tmp_path / "store" / "plasma" / "chunks" / "000001.mp4")


def test_overhead_is_the_cpu_time_since_the_first_look() -> None:
    # What this process used before does not count, nor do processes that are gone.
    overhead = Overhead()
    overhead.note("worker", os.getpid())
    overhead.note("server", 2**22 + 1)
    overhead.seconds = 1.0
    used = time.process_time()
    while time.process_time() < used + 0.1:
        pass
    overhead.note("worker", os.getpid())

    assert 0.05 <= overhead.share("worker") * (os.cpu_count() or 1) <= 0.5
    assert overhead.share() == overhead.share("worker")
    assert overhead.share("server") == 0


def test_the_command_line_takes_parts_and_sizes() -> None:
    given = bench.parse(["--only", "throughput", "--chunks", "1,000", "--ways", "longtake"])

    assert (given.only, given.chunks, given.ways, given.rounds) == (["throughput"], 1000, ["longtake"], 3)
    assert bench.parse([]).only == list(bench.PARTS)


@pytest.mark.parametrize("words", [["--chunks", "0"], ["--only", "speed"], ["--ways", "make"]])
def test_the_command_line_refuses_what_makes_no_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.parse(words)
    assert words[0] in capsys.readouterr().err


async def test_a_session_leaves_nothing_that_it_has_started(tmp_path: Path) -> None:
    # The child ignores what would end it, and its parent is gone before it.
    script = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)\n"
        "time.sleep(60)"
    )
    async with run_session((sys.executable, "-c", script), log=tmp_path / "log") as session:
        await session.wait_until_ready()
        began = session.pid
        assert len(find_members(began)) == 2

    assert find_members(began) == []


async def test_a_program_that_ends_badly_is_told_with_what_it_printed(tmp_path: Path) -> None:
    script = "import sys; sys.exit('no licence')"

    with pytest.raises(SessionError, match="ended with 1\nno licence"):
        async with run_session((sys.executable, "-c", script), log=tmp_path / "log") as session:
            await session.wait()


@pytest.mark.integration
@pytest.mark.slow
async def test_no_op_chunks_run_beside_xargs_and_temporal(tmp_path: Path) -> None:
    found = await throughput.measure(
        chunks=20,
        parallel=4,
        rounds=1,
        seconds=60,
        ways=["longtake", "temporal"],
        places={"disk": tmp_path},
        on_message=ignore,
    )

    assert [(row[0], row[2]) for row in found.table.rows] == [("xargs", "20"), ("longtake", "20"), ("temporal", "20")]
    assert os.listdir(tmp_path) == []


async def test_a_run_that_takes_too_long_is_stopped_and_counted(tmp_path: Path) -> None:
    @asynccontextmanager
    async def open_slow(work: Work) -> AsyncIterator[Go]:
        async def go() -> None:
            for path in work.outputs[:3]:
                path.touch()
            await asyncio.Event().wait()

        yield go

    make_job = partial(throughput.make_job, chunks=100, parallel=2)
    run = await run_way(Way("nothing", open_slow), make_job, tmp_path, seconds=0.1)

    assert (run.done, run.whole) == (3, False)
    assert os.listdir(tmp_path) == []


@pytest.mark.integration
@pytest.mark.slow
async def test_chunks_that_cost_nothing_leave_a_short_history(tmp_path: Path) -> None:
    found = await growth.measure_size(20_000, growth.FREE_SECONDS, tmp_path, 120)

    assert found is not None
    assert found.chunks == 20_000
    assert 0 < found.most_events < 4000
    assert os.listdir(tmp_path) == []

"""The command line against a real server and real workers: ids, states, exit codes, detaching, the live picture."""

import asyncio
import json
import os
import pty
import signal
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.command_line import Cli, command_line, until_exit, until_line
from support.farm import PATIENCE_SECONDS, Farm, until, until_state

from longtake import JobState, Retry
from longtake.cli.app import main
from longtake.text import strip_controls

pytestmark = pytest.mark.integration


def new_id() -> str:
    return f"job-{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def cli(farm: Farm) -> AsyncIterator[Cli]:
    async with command_line(farm) as cli:
        yield cli


async def test_submit_prints_the_id_alone_and_watch_ends_as_the_job_does(cli: Cli) -> None:
    ran = await cli("submit", cli.job_file(), "--watch", "--max-parallel", "2", "--set", "name=my film")

    assert ran.code == 0, ran.err
    assert ran.out.startswith("my-film-")
    assert len(ran.out.split()) == 1
    assert "completed in" in ran.err
    assert (await cli.farm.render.job(ran.out.strip()).status()).max_parallel == 2


async def test_the_same_job_under_the_same_id_is_started_once_and_another_is_refused(cli: Cli) -> None:
    job_id = new_id()
    first = await cli("submit", cli.job_file(), "--id", job_id)
    again = await cli("submit", cli.job_file(), "--id", job_id)
    other = await cli("submit", cli.job_file(chunks=7), "--id", job_id)

    assert (first.code, first.out) == (again.code, again.out) == (0, f"{job_id}\n")
    assert (other.code, other.out) == (2, "")
    assert "is taken by a different job" in other.err


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_a_submit_of_a_job_that_has_failed_or_was_cancelled_starts_nothing_and_says_so(
    cli: Cli, how: str
) -> None:
    job_id = new_id()
    options = ("--fail-times", "9") if how == "failed" else ("--gate", str(cli.farm.gate))
    file = cli.job_file(options=options)
    await cli("submit", file, "--id", job_id)
    if how == "cancelled":
        await cli("cancel", job_id, "--wait")
    await until(cli.farm.render.job(job_id), lambda status: status.state.value == how)

    again = await cli("submit", file, "--id", job_id)

    assert (again.code, again.out) == (1, "")
    assert f"nothing was started; `longtake retry {job_id}` renders what is missing" in again.err


async def test_a_failed_job_is_told_everywhere_and_retried(cli: Cli) -> None:
    job_id, red = new_id(), "\x1b[31mno codec\x1b[0m here"
    options = ("--say", red, "--fail-times", "2", "--only", "1")
    file = cli.job_file(options=options, on_chunk_failure="continue", retry=Retry(attempts=2, initial_seconds=0.01))

    failed = await cli("submit", file, "--id", job_id, "--watch")
    status, logs, watch = await asyncio.gather(
        cli("status", job_id, "--json"), cli("logs", job_id, "--chunk", "1"), cli("watch", job_id)
    )
    retried = await cli("retry", job_id, "--watch")

    assert failed.code == watch.code == 1
    assert "chunk 1 failed" in failed.err
    assert f"longtake retry {job_id}" in watch.out
    assert status.code == 0
    assert json.loads(status.out)["failed_chunks"] == 1
    assert logs.code == 0
    assert logs.out == "no codec here\ntry 1 goes wrong\nno codec here\ntry 2 goes wrong\n"
    assert "==> chunk 1, try 2" in logs.err
    assert (retried.code, retried.out) == (0, f"{job_id}\n")


async def test_status_json_has_the_documented_fields(cli: Cli) -> None:
    job_id = (await cli.farm.run(cli.farm.job())).id
    status = json.loads((await cli("status", job_id, "--json")).out)

    documented = """id name state phase progress total_chunks completed_chunks failed_chunks skipped_chunks
        running_chunks total_frames completed_frames error created_at updated_at result metrics frozen_chunks
        left_out_chunks"""
    assert set(documented.split()) <= set(status)
    assert {"output", "sha256", "frames", "duration_seconds"} <= set(status["result"])
    assert "render_seconds" in status["metrics"]
    assert (status["state"], status["progress"], status["error"]) == ("completed", 100.0, None)
    assert status["created_at"].endswith("Z")
    assert status["updated_at"].endswith("Z")


async def test_pause_waits_until_idle_and_resume_goes_on(cli: Cli) -> None:
    job_id = (await cli.farm.submit(cli.farm.job(options=("--gate", str(cli.farm.gate)), max_parallel=1))).id
    await cli.farm.ledger.until_started(1)

    asked = await cli("pause", job_id)
    cli.farm.open_gate()
    paused = await cli("pause", job_id, "--wait", "--json")
    listed = await cli.until_listed(job_id, "--json", "--state", "paused")
    resumed = await cli("resume", job_id, "--wait")
    watched = await cli("watch", job_id, "--json")

    assert (asked.code, asked.out) == (0, f"{job_id} is pausing: 1 chunk finishes first\n")
    assert paused.code == resumed.code == watched.code == 0
    assert json.loads(paused.out)["state"] == "paused"
    assert (job_id, "paused") in [(row["id"], row["state"]) for row in json.loads(listed.out)]
    assert json.loads(watched.out.splitlines()[-1])["state"] == "completed"
    assert cli.farm.ledger.started == [0, 1, 2, 3]


async def test_cancel_waits_until_nothing_runs_and_may_be_repeated(cli: Cli) -> None:
    job_id = (await cli.farm.submit(cli.farm.job(options=("--gate", str(cli.farm.gate))))).id
    await cli.farm.ledger.until_started(4)

    cancelled = await cli("cancel", job_id, "--wait")
    alive = [pid for pid in cli.farm.ledger.pids if os.path.exists(f"/proc/{pid}")]  # noqa: ASYNC240  # no disk
    again, paused, watched = await asyncio.gather(
        cli("cancel", job_id), cli("pause", job_id, "--wait"), cli("watch", job_id)
    )

    assert cancelled.code == again.code == 0
    assert "was cancelled" in cancelled.out
    assert alive == []
    assert "cannot cancel any more" in again.err
    assert "cannot pause any more" in paused.err
    assert paused.code == watched.code == 3


async def test_retry_of_a_completed_job_is_told_so_and_of_a_running_one_refused(cli: Cli) -> None:
    done = (await cli.farm.run(cli.farm.job(chunk_output="done/{chunk}.txt"))).id
    running = await cli.farm.submit(cli.farm.job(options=("--gate", str(cli.farm.gate))))
    busy = (await until_state(running, JobState.RUNNING)).id

    of_done, of_busy, of_none, too_early = await asyncio.gather(
        *(cli("retry", done), cli("retry", busy)),
        *(cli("retry", done, "--frames", "3-4"), cli("retry", busy, "--frames", "1")),
    )

    assert of_done.code == 0
    assert "there is nothing to retry" in of_done.err
    assert of_busy.code == 2
    assert of_busy.err == f"longtake: {busy}: no chunk has failed; there is nothing to retry\n"
    assert of_done.out == of_busy.out == ""
    assert (of_none.code, of_none.err) == (2, "longtake: frames: 4 are not among those of the job; name others\n")
    assert (too_early.code, too_early.out) == (2, "")
    assert "frames are rendered anew when a job has ended; wait for its end" in too_early.err
    cli.farm.open_gate()
    await until_state(running, JobState.COMPLETED)
    before = cli.farm.sidecars(done)
    anew = await cli("retry", done, "--frames", "1,3", "--watch")
    assert (anew.code, anew.out) == (0, f"{done}\n"), anew.err
    assert [name for name, now in cli.farm.sidecars(done).items() if now != before[name]] == [
        "000001.json",
        "000003.json",
    ]


@pytest.mark.parametrize("arguments", [("submit", "--watch"), ("watch",), ("pause", "--wait")])
async def test_ctrl_c_detaches_and_the_job_goes_on(cli: Cli, arguments: tuple[str, ...]) -> None:
    job_id, (command, *options) = new_id(), arguments
    gate = ("--gate", str(cli.farm.gate))
    if command == "submit":
        process = await cli.start("submit", cli.job_file(options=gate), "--id", job_id, *options)
    else:
        job_id = (await cli.farm.submit(cli.farm.job(options=gate))).id
        process = await cli.start(command, job_id, *options)
    if command == "pause":
        await until(cli.farm.render.job(job_id), lambda status: status.phase == "pausing")
    else:
        await until_line(process, "running, rendering")

    process.send_signal(signal.SIGINT)
    ran = await until_exit(process)
    cli.farm.open_gate()

    assert ran.code == 130
    assert f"longtake watch {job_id}" in ran.err
    assert "Traceback" not in ran.err
    wanted = JobState.PAUSED if command == "pause" else JobState.COMPLETED
    assert (await until_state(cli.farm.render.job(job_id), wanted)).error is None


async def test_watch_draws_what_runs_on_a_terminal(cli: Cli) -> None:
    screen, terminal = pty.openpty()
    process = await cli.start(
        "submit", cli.job_file(options=("--gate", str(cli.farm.gate))), "--watch", stderr=terminal
    )
    os.close(terminal)
    drawn = ""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "completed in" not in drawn:
            drawn += (await asyncio.to_thread(os.read, screen, 65536)).decode()
            if "0/1" in drawn:
                cli.farm.open_gate()
    ran = await until_exit(process)
    os.close(screen)

    assert ran.code == 0
    assert "chunk  try" in strip_controls(drawn)
    assert "0/4 chunks · 4 running" in strip_controls(drawn)
    assert "running, rendering" in strip_controls(drawn)
    assert "\x1b[?25h" in drawn, "the cursor is shown again"


@pytest.mark.parametrize(
    "command",
    [
        ("status",), ("watch",), ("pause",), ("resume",), ("cancel",), ("retry",), ("logs",),
        ("skip", "--chunk", "3"), ("retry", "--chunk", "3"),
    ],
)  # fmt: skip
def test_a_job_that_is_not_there_exits_4(
    server: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--address", server, *command, "nobody"]) == 4
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("longtake: there is no job nobody")


@pytest.mark.parametrize("command", [("status", "job-1"), ("list",), ("watch", "job-1")])
def test_a_namespace_that_is_not_there_exits_5(
    server: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--address", server, "--namespace", "nowhere", *command]) == 5
    assert "there is no namespace nowhere; create it (`temporal operator namespace" in capsys.readouterr().err


async def test_doctor_finds_the_workers_of_the_queue(cli: Cli) -> None:
    ran = await cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(ran.out)["checks"]}

    assert ran.code == 0, ran.out
    assert f"queue {cli.farm.task_queue}-local: {os.getpid()}@" in checks["workers, rendering"]["found"]
    assert checks["Temporal"]["ok"]
    assert checks["search attributes"]["ok"]


def test_doctor_exits_1_where_no_worker_serves_the_queue(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--address", server, "--task-queue", "deserted", "doctor"]) == 1
    assert "no worker on queue deserted-local; start `python worker.py`" in capsys.readouterr().out


async def test_logs_of_a_store_that_is_not_here_say_where_to_look(cli: Cli) -> None:
    job_id = (await cli.farm.run(cli.farm.job())).id
    none = await cli("logs", job_id, "--chunk", "99")
    (cli.farm.store / ".longtake").rename(cli.farm.store / "elsewhere")
    away = await cli("logs", job_id)

    assert none.code == away.code == 1
    assert f"there is no log of chunk 99 of {job_id}" in none.err
    assert "is not visible on this host" in away.err


async def test_list_by_state_finds_jobs_of_that_state_only(cli: Cli) -> None:
    good = (await cli.farm.run(cli.farm.job(chunk_output="good/{chunk}.txt"))).id
    bad = (await cli.farm.run(cli.farm.job(options=("--exit", "3")))).id
    failed = await cli.until_listed(bad, "--state", "failed")

    assert failed.code == 0
    assert bad in failed.out
    assert good not in failed.out


async def test_logs_follow_a_job_to_its_end(cli: Cli) -> None:
    options = ("--say", "hello", "--gate", str(cli.farm.gate))
    job_id = (await cli.farm.submit(cli.farm.job(chunks=2, options=options, max_parallel=1))).id
    process = await cli.start("logs", job_id, "--follow")
    assert process.stdout is not None

    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS) == b"hello\n"
    cli.farm.open_gate()
    ran = await until_exit(process)

    assert ran.code == 0
    assert ran.out == "hello\n"
    assert ran.err.index("==> chunk 0, try 1") < ran.err.index("==> chunk 1, try 1")

"""Stopping a render stops all of it: survivors are looked for by a scan of /proc of the test's own."""

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.processes.process_table import children, cpu_ticks, kill_quietly, state_of, survivors, until, wait_for
from support.processes.render_trees import READY, SPAWN, TREES
from support.processes.supervisors import require_control_groups

from activities.processes.render_process import ProcessSurvivedError, RenderProcess
from activities.processes.supervisor import Supervisor

SLEEPER = "import time; time.sleep(300)"


@pytest.fixture
def tag() -> dict[str, str]:
    return {"LONGTAKE_ATTEMPT": uuid.uuid4().hex}


@pytest_asyncio.fixture(params=["scans", "cgroup", "portable"])
async def supervisor(request: pytest.FixtureRequest) -> AsyncIterator[Supervisor]:
    """Each way in which a tree is found, as far as this host has it."""
    async with Supervisor(control_groups=request.param == "cgroup", exact=request.param != "portable") as supervisor:
        if request.param == "cgroup":
            require_control_groups(supervisor)
        yield supervisor


async def start(supervisor: Supervisor, tag: dict[str, str], folder: Path, *command: str) -> RenderProcess:
    """Return a process tree that stands."""
    log = folder / "log"
    process = await supervisor.spawn(command, cwd=folder, env={**os.environ, **tag}, log=log, tag=tag)
    await until(lambda: log.exists() and b"ready" in log.read_bytes(), "the tree")
    return process


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left_behind(tag: dict[str, str]) -> AsyncIterator[None]:
    yield
    kill_quietly(*survivors(tag))


# Through psutil eight trees take five seconds; the other tests have each way.
@pytest.mark.parametrize(
    "supervisor", ["scans", "cgroup", pytest.param("portable", marks=pytest.mark.slow)], indirect=True
)
async def test_a_stop_reaches_the_last_process(supervisor: Supervisor, tag: dict[str, str], tmp_path: Path) -> None:
    for number, (name, script) in enumerate(TREES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        process = await start(supervisor, tag, folder, sys.executable, "-S", "-c", script)
        assert survivors(tag), name

        await process.stop(0.3)

        assert survivors(tag) == [], name


async def test_a_stop_reaches_a_pipeline_of_a_shell(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    process = await start(
        supervisor, tag, tmp_path, "sh", "-c", "echo ready; sleep 300 | cat | cat & setsid sleep 300 & wait"
    )

    await process.stop(0.3)

    assert survivors(tag) == []


async def test_a_stop_leaves_processes_of_others_alone(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", SLEEPER, env={**os.environ, "LONGTAKE_ATTEMPT": f"{tag['LONGTAKE_ATTEMPT']}-2"}
    )
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", TREES["a child in its group"])

    await process.stop(0.3)

    assert other.returncode is None
    os.kill(other.pid, 0)
    other.kill()
    await other.wait()


async def test_a_stop_after_the_end_takes_what_was_left_running(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    script = SPAWN + "subprocess.Popen(sleeper, start_new_session=True)\nprint('ready', flush=True)\n"
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", script)
    assert await process.wait() == 0
    assert survivors(tag)

    await process.stop(0)

    assert survivors(tag) == []


async def test_a_cancel_while_a_process_starts_leaves_none_behind(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        environment = {**os.environ, **tag}
        starting = asyncio.ensure_future(
            supervisor.spawn(("sleep", "300"), cwd=tmp_path, env=environment, log=tmp_path / "log", tag=tag)
        )
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    assert survivors(tag) == []


# Two busy processes, of which one has left the group and counts aloud.
BUSY = (
    SPAWN
    + """
if os.fork() == 0:
    os.setsid()
    number = 0
    while True:
        number += 1
        if number % 200000 == 0:
            print(number, flush=True)
print('ready', flush=True)
while True:
    pass
"""
)


async def test_a_frozen_tree_uses_no_cpu_and_goes_on_where_it_stood(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", BUSY)

    await process.freeze()
    pids = sorted(survivors(tag))
    used = {pid: cpu_ticks(pid) for pid in pids}
    printed = (tmp_path / "log").read_bytes()
    await asyncio.sleep(1.0)

    assert len(pids) == 2
    assert {state_of(pid) for pid in pids} == {"T"}
    assert {pid: cpu_ticks(pid) for pid in pids} == used
    assert (tmp_path / "log").read_bytes() == printed

    await process.thaw()
    log = tmp_path / "log"
    await until(lambda: log.read_bytes() != printed and all(cpu_ticks(pid) > used[pid] for pid in pids), "going on")

    assert sorted(survivors(tag)) == pids
    counted = [int(line) for line in (tmp_path / "log").read_text().split() if line.isdigit()]
    assert counted == list(range(200000, 200000 * (len(counted) + 1), 200000))
    await process.stop(0)
    assert survivors(tag) == []


async def test_a_tree_that_forks_without_end_stands_still_when_frozen(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    process = await start(
        supervisor, tag, tmp_path, sys.executable, "-S", "-c", TREES["a child that forks without end"]
    )

    await process.freeze()

    pids = survivors(tag)
    assert {state_of(pid) for pid in pids} == {"T"}
    await asyncio.sleep(0.3)
    assert sorted(survivors(tag)) == sorted(pids)
    await process.stop(0.2)
    assert survivors(tag) == []


async def test_a_frozen_tree_can_be_stopped_and_obeys(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    script = SPAWN + "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), os._exit(5)))\n" + READY
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", script)
    await process.freeze()

    begun = time.monotonic()
    await process.stop(100)

    assert time.monotonic() - begun < 60
    assert await process.wait() == 5
    assert (tmp_path / "log").read_text() == "ready\nbye\n"


async def test_a_later_stop_with_less_grace_wins(supervisor: Supervisor, tag: dict[str, str], tmp_path: Path) -> None:
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", TREES["ignores TERM"])
    patient = asyncio.ensure_future(process.stop(100))
    await asyncio.sleep(0.1)

    await process.stop(0)

    await asyncio.wait_for(patient, 60)
    assert survivors(tag) == []


async def test_a_stop_goes_on_when_its_caller_is_cancelled(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", TREES["ignores TERM"])
    stopping = asyncio.ensure_future(process.stop(0.3))
    await asyncio.sleep(0.05)
    stopping.cancel()

    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


async def test_an_order_to_a_keeper_that_has_just_ended_is_answered(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", TREES["obeys TERM"])
    assert supervisor.pid is not None
    (keeper,) = children(supervisor.pid)
    first = asyncio.ensure_future(process.stop(0))
    await asyncio.sleep(0)
    # Nothing reads the keeper's last messages while this blocks the event loop.
    wait_for(lambda: state_of(keeper) in "ZX", "the end of the keeper")

    async with asyncio.timeout(60):
        await process.stop(0)
        await first

    assert process.is_gone
    assert survivors(tag) == []


async def test_usage_counts_the_whole_tree_and_what_has_ended(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path
) -> None:
    script = 'for i in 1 2; do python -S -c \'sum(range(16000000)); open("f", "w").write("x" * 3000000)\' & done; wait'
    process = await supervisor.spawn(
        ("sh", "-c", script.replace("python", sys.executable)),
        cwd=tmp_path,
        env={**os.environ, **tag},
        log=tmp_path / "log",
        tag=tag,
    )

    assert await process.wait() == 0, (tmp_path / "log").read_text()

    assert process.usage.cpu_seconds > 0.1
    assert process.usage.processes == 0
    assert process.usage.peak_memory_bytes > 2_000_000
    if supervisor.exact:
        assert process.usage.io_bytes > 6_000_000
    await process.stop(0)


async def test_survivors_are_named_and_die_when_they_can(tag: dict[str, str], tmp_path: Path) -> None:
    # A process in a frozen cgroup of version 1 sleeps uninterruptibly, as one does whose disk does not answer.
    freezer = Path("/sys/fs/cgroup/freezer")
    if not os.access(freezer / "cgroup.procs", os.W_OK):
        pytest.skip("no freezer of cgroup version 1 here, and no other way to make a process that cannot die")
    group = freezer / f"longtake-test-{os.getpid()}"
    group.mkdir()
    async with Supervisor(kill_seconds=0.5) as supervisor:
        process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", TREES["obeys TERM"])
        (group / "cgroup.procs").write_text(str(process.pid))
        (group / "freezer.state").write_text("FROZEN")
        try:
            for _ in range(2):
                with pytest.raises(ProcessSurvivedError, match=f"processes {process.pid} are still there"):
                    await process.stop(0.1)
            assert survivors(tag) == [process.pid]
            assert not process.is_gone
        finally:
            (group / "freezer.state").write_text("THAWED")

        await process.stop(0)

        assert survivors(tag) == []
    group.rmdir()

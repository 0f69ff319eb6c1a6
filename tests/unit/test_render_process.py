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
from survivors import cpu_ticks, kill_quietly, state_of, survivors

from activities.processes.render_process import RenderProcess
from activities.processes.supervisor import Supervisor

SLEEPER = "import time; time.sleep(300)"
SPAWN = """
import os, subprocess, sys, time, signal
sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
"""
READY = "print('ready', flush=True)\ntime.sleep(300)\n"

TREES = {
    "obeys TERM": SPAWN + READY,
    "ignores TERM": SPAWN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY,
    "a child in its group": SPAWN + "subprocess.Popen(sleeper)\n" + READY,
    "a grandchild that leads a session": SPAWN + "subprocess.Popen(sleeper, start_new_session=True)\n" + READY,
    "forked twice into a session of its own": SPAWN
    + "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(300)\n    os._exit(0)\n"
    + READY,
    "detached from all output": SPAWN
    + "subprocess.Popen(sleeper, start_new_session=True, stdin=-3, stdout=-3, stderr=-3, cwd='/')\n"
    + READY,
    "a child that forks without end": SPAWN
    + """
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        time.sleep(0.01)
"""
    + READY,
    "frozen": SPAWN + "subprocess.Popen(sleeper)\nprint('ready', flush=True)\nos.kill(0, signal.SIGSTOP)\n",
}


@pytest.fixture
def tag() -> dict[str, str]:
    return {"LONGTAKE_ATTEMPT": uuid.uuid4().hex}


@pytest_asyncio.fixture(params=["scans", "cgroup", "portable"])
async def supervisor(request: pytest.FixtureRequest) -> AsyncIterator[Supervisor]:
    """Each way in which a tree is found, as far as this host has it."""
    async with Supervisor(control_groups=request.param == "cgroup", exact=request.param != "portable") as supervisor:
        if request.param == "cgroup" and supervisor.group_prefix is None:
            pytest.skip("this host lets nobody make cgroups")
        yield supervisor


async def start(supervisor: Supervisor, tag: dict[str, str], folder: Path, *command: str) -> RenderProcess:
    """Return a process tree that stands."""
    log = folder / "log"
    process = await supervisor.spawn(command, cwd=folder, env={**os.environ, **tag}, log=log, tag=tag)
    end = time.monotonic() + 20
    while not log.exists() or b"ready" not in log.read_bytes():
        assert time.monotonic() < end, log.read_text()
        await asyncio.sleep(0.01)
    return process


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left_behind(tag: dict[str, str]) -> AsyncIterator[None]:
    yield
    kill_quietly(*survivors(tag))


@pytest.mark.parametrize("script", TREES.values(), ids=TREES.keys())
async def test_a_stop_reaches_the_last_process(
    supervisor: Supervisor, tag: dict[str, str], tmp_path: Path, script: str
) -> None:
    process = await start(supervisor, tag, tmp_path, sys.executable, "-S", "-c", script)
    assert survivors(tag)

    await process.stop(0.3)

    assert survivors(tag) == []


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
    for _ in range(20):
        environment = {**os.environ, **tag}
        starting = asyncio.ensure_future(
            supervisor.spawn(("sleep", "300"), cwd=tmp_path, env=environment, log=tmp_path / "log", tag=tag)
        )
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    assert survivors(tag) == []

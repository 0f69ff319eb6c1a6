"""Whatever of ours is killed, no render outlives its worker: each tree hides from groups, sessions and tags."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.farm import eventually
from support.processes.process_table import children, kill_quietly, living, state_of, survivors, until, wait_for
from support.processes.render_trees import HIDDEN, HiddenWorker, noted, tag

from activities.processes.render_process import KeeperLostError, RenderProcess
from activities.processes.supervisor import Supervisor

# Nothing outlives its worker for longer.
PROMISE_SECONDS = 1.0


async def hidden(supervisor: Supervisor, folder: Path, name: str = "tree") -> tuple[RenderProcess, list[int]]:
    """Start a hidden tree; return it with its pids."""
    log, file = folder / f"{name}.log", folder / f"{name}.pids"
    process = await supervisor.spawn(
        (sys.executable, "-S", "-c", HIDDEN, str(file)),
        cwd=folder,
        env={**os.environ, **tag(name)},
        log=log,
        tag=tag(name),
    )
    await until(lambda: log.exists() and b"ready" in log.read_bytes(), "the tree")
    return process, noted(file)


def keepers(supervisor: int) -> list[int]:
    return [seen.pid for seen in children(supervisor).values() if seen.name == "longtake-keeper"]


def gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not living(*pids)


async def test_a_stop_reaches_a_child_that_hides(supervisor: Supervisor, tmp_path: Path) -> None:
    process, pids = await hidden(supervisor, tmp_path)

    begun = time.monotonic()
    await process.stop(0.2)
    took = time.monotonic() - begun

    assert len(pids) == 3
    assert survivors(tag(), *pids) == []
    assert await process.wait() == -signal.SIGKILL
    print(f"a hidden tree with a grace of 0.2 s: proof after {took * 1000:.0f} ms")


@pytest.mark.timed
async def test_a_killed_worker_takes_all_of_its_renders_along(tmp_path: Path) -> None:
    async with HiddenWorker(tmp_path) as worker:
        ours = [worker.supervisor, *keepers(worker.supervisor)]
        pids = worker.renders
        assert len(ours) == 3
        assert len(pids) == 6

        os.kill(worker.pid, signal.SIGKILL)
        took = wait_for(gone([*pids, *ours]), "renders of a killed worker", PROMISE_SECONDS)

    print(f"SIGKILL of a worker to the end of its renders: {took * 1000:.0f} ms")
    assert survivors(worker.tag) == []


@pytest.mark.timed
async def test_a_killed_worker_and_supervisor_leave_nothing(tmp_path: Path) -> None:
    async with HiddenWorker(tmp_path) as worker:
        ours, pids = keepers(worker.supervisor), worker.renders

        os.kill(worker.supervisor, signal.SIGKILL)
        os.kill(worker.pid, signal.SIGKILL)
        took = wait_for(gone([*pids, *ours]), "renders without worker and supervisor", PROMISE_SECONDS)

    print(f"SIGKILL of worker and supervisor to the end of its renders: {took * 1000:.0f} ms")


async def test_renders_go_on_without_their_supervisor_and_the_next_gets_another(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    first, pids = await hidden(supervisor, tmp_path, "first")
    lost = supervisor.pid
    assert lost is not None
    os.kill(lost, signal.SIGKILL)
    wait_for(lambda: state_of(lost) in "ZX", "the supervisor")

    second, others = await hidden(supervisor, tmp_path, "second")

    assert supervisor.pid not in (None, lost)
    assert len(living(*pids)) == 3
    await first.stop(0)
    assert living(*pids) == []
    await second.stop(0)
    assert survivors(tag("first"), *pids, *others) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_killed_keeper_is_an_error_of_its_own_and_leaves_nothing(
    supervisor: Supervisor, tmp_path: Path, number: signal.Signals
) -> None:
    process, pids = await hidden(supervisor, tmp_path)
    other, others = await hidden(supervisor, tmp_path, "other")
    assert supervisor.pid is not None
    (keeper,) = [pid for pid in keepers(supervisor.pid) if process.pid in children(pid)]

    begun = time.monotonic()
    os.kill(keeper, number)
    with pytest.raises(KeeperLostError):
        await asyncio.wait_for(process.wait(), 60)

    print(f"{number.name} of a keeper to the proof that its render is gone: {(time.monotonic() - begun) * 1000:.0f} ms")
    assert living(*pids) == []
    await process.stop(5)
    await process.freeze()
    assert len(living(*others)) == 3
    await other.stop(0)


async def test_a_killed_keeper_and_supervisor_leave_nothing_that_carries_the_tag(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    process, pids = await hidden(supervisor, tmp_path)
    assert supervisor.pid is not None
    ours = [supervisor.pid, *keepers(supervisor.pid)]
    try:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in ours:
                os.kill(pid, number)
        with pytest.raises(KeeperLostError):
            await asyncio.wait_for(process.wait(), 60)

        assert survivors(tag()) == []
    finally:
        kill_quietly(*pids)


async def test_a_supervisor_that_is_told_to_end_ends_its_renders_first(supervisor: Supervisor, tmp_path: Path) -> None:
    process, pids = await hidden(supervisor, tmp_path)
    told = supervisor.pid
    assert told is not None

    os.kill(told, signal.SIGTERM)
    with pytest.raises(KeeperLostError):
        await asyncio.wait_for(process.wait(), 60)

    assert survivors(tag(), *pids) == []
    wait_for(lambda: state_of(told) in "ZX", "the supervisor")


async def test_a_stopped_keeper_cannot_keep_a_render_alive(tmp_path: Path) -> None:
    async with HiddenWorker(tmp_path, renders=1) as worker:
        (keeper,), pids = keepers(worker.supervisor), worker.renders
        os.kill(keeper, signal.SIGSTOP)

        os.kill(worker.pid, signal.SIGKILL)

        wait_for(gone([*pids, keeper, worker.supervisor]), "a render whose keeper stands still")


async def test_the_end_of_a_supervisor_leaves_nothing(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        trees = [await hidden(supervisor, tmp_path, f"{index}") for index in range(3)]
        ours = [supervisor.pid or 0, *keepers(supervisor.pid or 0)]

    assert survivors(tag(), *ours, *(pid for _, pids in trees for pid in pids)) == []
    assert all(process.is_gone for process, _ in trees)


# Ends with the fourth SIGTERM, as ffmpeg does.
LATE = """#!/bin/sh
asked=0
trap 'asked=$((asked + 1)); [ $asked -lt 4 ] || exit 44' TERM
echo ready
while :; do sleep 0.01; done
"""


@pytest.mark.parametrize(("name", "code"), [("ffmpeg", 44), ("ffmpeg-linux-x86_64-v7.0.2", 44), ("other", -9)])
async def test_ffmpeg_is_asked_until_it_hears_and_others_once(tmp_path: Path, name: str, code: int) -> None:
    program, log = tmp_path / name, tmp_path / "log"
    program.write_text(LATE)
    program.chmod(0o755)
    async with Supervisor() as supervisor:
        render = await supervisor.spawn([str(program)], cwd=tmp_path, env=dict(os.environ), log=log, tag={"T": name})
        await eventually(lambda: log.exists() and b"ready" in log.read_bytes(), "the program listens")
        # The one that is asked once has to be killed; the others have all the time they want.
        await render.stop(0.5 if code == -9 else 60)

        assert await render.wait() == code

"""The sweep at a worker's start ends renders of dead workers, and of nobody else."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes.process_table import children, kill_quietly, living, state_of, survivors, wait_for
from support.processes.render_trees import HiddenWorker
from support.processes.supervisors import require_control_groups

from activities.processes.orphans import WORKER_VARIABLE, WorkerMark, kill_orphans
from activities.processes.supervisor import Supervisor


@contextmanager
def render_of(worker: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """Run a process that says it is a render of this worker."""
    tag = {"LONGTAKE_TEST_SWEEP": uuid.uuid4().hex}
    environment = {**os.environ, **tag, WORKER_VARIABLE: worker}
    script = "import time; print('ready', flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-S", "-c", script], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process, tag
        finally:
            process.kill()


def a_dead_worker() -> WorkerMark:
    """Return the mark of a worker that had our pid before us."""
    own = WorkerMark.current()
    return WorkerMark(own.boot, own.namespace, own.pid, str(int(float(own.started)) - 100))


def test_renders_of_a_dead_worker_are_ended() -> None:
    with render_of(str(a_dead_worker())) as (process, tag):
        assert process.pid in kill_orphans()

        assert survivors(tag) == []


def test_a_worker_that_is_gone_with_its_pid_is_dead() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    own = WorkerMark.current()

    with render_of(str(WorkerMark(own.boot, own.namespace, gone.pid, own.started))) as (process, tag):
        assert process.pid in kill_orphans()

        assert survivors(tag) == []


@pytest.mark.parametrize(
    "whose",
    ["a living worker", "another boot", "another container", "someone who means something else", "nobody"],
)
def test_everything_else_is_left_alone(whose: str) -> None:
    own, dead = WorkerMark.current(), a_dead_worker()
    mark = {
        "a living worker": str(own),
        "another boot": str(WorkerMark("another-boot", dead.namespace, dead.pid, dead.started)),
        "another container": str(WorkerMark(dead.boot, "4026530000", dead.pid, dead.started)),
        "someone who means something else": "worker number 3",
        "nobody": "",
    }[whose]

    with render_of(mark) as (process, tag):
        assert process.pid not in kill_orphans()

        assert survivors(tag) == [process.pid]


def test_a_mark_reads_back() -> None:
    own = WorkerMark.current()

    assert WorkerMark.parse(str(own)) == own
    assert not own.is_dead
    assert a_dead_worker().is_dead
    assert [WorkerMark.parse(text) for text in ("", "a/b/c/d", "a/b", "a/b/3/4/5")] == [None] * 4


def keepers(supervisor: int) -> list[int]:
    return [seen.pid for seen in children(supervisor).values() if seen.name == "longtake-keeper"]


def gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not living(*pids)


@pytest.mark.parametrize("control_groups", [False, True], ids=["by tag", "by cgroup"])
async def test_the_sweep_ends_what_is_left_when_all_of_ours_is_killed(tmp_path: Path, control_groups: bool) -> None:
    if control_groups:
        require_control_groups(Supervisor())
    async with HiddenWorker(tmp_path, control_groups=control_groups) as worker, HiddenWorker(tmp_path) as other:
        pids = worker.renders
        ours = [worker.pid, worker.supervisor, *keepers(worker.supervisor)]
        # Stopped first, so that none of them can do anything about the others.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in ours:
                os.kill(pid, number)
        wait_for(gone(ours), "all of ours")
        left = survivors(worker.tag, *pids)
        # The renderers themselves die with their keepers; what they started does not.
        assert left

        swept = kill_orphans()

        try:
            # One whose environment is empty is seen by its cgroup only.
            unseen = {pid for pid in left if not control_groups and pid not in survivors(worker.tag)} - set(swept)
            # A renderer may still be dying when it is looked for.
            missed = {pid for pid in set(left) - set(swept) if state_of(pid) not in "ZX"}
            assert missed <= unseen
            assert survivors(worker.tag) == []
            assert control_groups <= (not survivors(worker.tag, *pids))
            assert len(survivors(other.tag, *other.renders)) == 6
        finally:
            kill_quietly(*pids)

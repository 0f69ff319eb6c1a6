"""The sweep at a worker's start ends renders of dead workers, and of nobody else."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from survivors import survivors

from activities.processes.orphans import WORKER_VARIABLE, WorkerMark, kill_orphans


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

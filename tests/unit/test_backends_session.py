"""Sessions: one process renders chunk after chunk, and is started again when it has failed or ended."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.processes.process_table import survivors

from activities.backends.backend import Progress, RenderTask
from activities.backends.local import LocalBackend
from activities.errors import AttemptError
from activities.processes.supervisor import Supervisor
from longtake.models.policies import Timeouts

BOUND_SECONDS = 60

# Tells which process it is, and does what each line says.
SESSION = """
import os, shlex, subprocess, sys, time
print("started", flush=True)
for line in sys.stdin:
    do, *words = shlex.split(line)
    print("asked to", do, *words, flush=True)
    if do == "write":
        open(words[0], "w").write(str(os.getpid()))
        print("longtake: done", flush=True)
    elif do == "fail":
        print("longtake: failed", *words, flush=True)
    elif do == "end":
        sys.exit(int(words[0]))
    elif do == "hang":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
        print("hangs", flush=True)
        time.sleep(300)
"""


class Watcher:
    """Orders a freeze where the test says so, and hears of progress."""

    def __init__(self) -> None:
        self.freeze_order = 0
        self.most_grace_seconds = float("inf")
        self.frozen = asyncio.Event()
        self.newest = Progress()

    def on_frozen(self, order: int) -> None:
        if order:
            self.frozen.set()

    def on_progress(self, progress: Progress) -> None:
        self.newest = progress


class Stage:
    """The backend of one span, and the log of each of its chunks."""

    def __init__(self, backend: LocalBackend, folder: Path) -> None:
        self.backend = backend
        self.folder = folder
        self.tag = {"LONGTAKE_ATTEMPT": uuid.uuid4().hex}
        self.watcher = Watcher()
        self.count = 0

    def log(self, number: int) -> str:
        return (self.folder / f"log{number}").read_text()

    async def ask(self, line: str, timeouts: Timeouts | None = None) -> None:
        task = RenderTask(
            (sys.executable, "-c", SESSION),
            self.folder,
            {**os.environ, **self.tag},
            self.tag,
            self.folder / f"log{self.count}",
            timeouts or Timeouts(grace_seconds=0.5),
            program="renderer",
            request=line + "\n",
        )
        self.count += 1
        await asyncio.wait_for(self.backend.render(task, self.watcher), BOUND_SECONDS)

    async def write(self) -> int:
        """Have the session write a file, and return which process has written it."""
        await self.ask("write 'an output'")
        return int((self.folder / "an output").read_text())


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with Supervisor() as supervisor, LocalBackend(supervisor).open_span() as backend:
        stage = Stage(backend, tmp_path)
        yield stage


async def test_one_process_renders_all_chunks_of_a_span_and_ends_with_it(tmp_path: Path) -> None:
    async with Supervisor() as supervisor:
        async with LocalBackend(supervisor).open_span() as backend:
            stage = Stage(backend, tmp_path)
            processes = {await stage.write() for _ in range(5)}
            assert len(processes) == 1
        assert survivors(stage.tag) == []
    # Each chunk has a log of its own.
    assert stage.log(0) == "started\nasked to write an output\nlongtake: done\n"
    assert stage.log(4) == "asked to write an output\nlongtake: done\n"


async def test_a_failed_chunk_says_why_and_the_next_one_gets_another_process(stage: Stage) -> None:
    first = await stage.write()
    with pytest.raises(AttemptError, match="renderer has failed: the scene is empty"):
        await stage.ask("fail the scene is empty")
    assert survivors(stage.tag) == []
    assert await stage.write() != first


@pytest.mark.parametrize("code", [0, 3])
async def test_a_session_that_ends_has_not_rendered_its_chunk(stage: Stage, code: int) -> None:
    first = await stage.write()
    with pytest.raises(AttemptError, match=f"renderer ended with code {code} before it had answered"):
        await stage.ask(f"end {code}")
    assert await stage.write() != first


async def test_a_session_that_has_ended_between_chunks_is_started_again(stage: Stage) -> None:
    first = await stage.write()
    os.kill(first, 9)
    # Whether or not that is known by now.
    assert await stage.write() != first


async def test_a_chunk_that_takes_too_long_is_ended_with_all_its_processes(stage: Stage) -> None:
    first = await stage.write()
    with pytest.raises(AttemptError, match=r"timeouts\.chunk_seconds, 0\.5 s"):
        await stage.ask("hang", Timeouts(chunk_seconds=0.5, grace_seconds=0.1))
    assert survivors(stage.tag) == []
    assert await stage.write() != first


async def test_a_cancel_ends_the_session(stage: Stage) -> None:
    rendering = asyncio.create_task(stage.ask("hang"))
    log = stage.folder / "log0"
    async with asyncio.timeout(BOUND_SECONDS):
        while not (log.exists() and "hangs" in log.read_text()):  # noqa: ASYNC110  # a file knows nothing of events
            await asyncio.sleep(0.01)
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    assert survivors(stage.tag) == []


async def test_a_session_is_frozen_and_goes_on(stage: Stage) -> None:
    first = await stage.write()
    stage.watcher.freeze_order = 1
    writing = asyncio.create_task(stage.write())
    await asyncio.wait_for(stage.watcher.frozen.wait(), BOUND_SECONDS)
    assert not writing.done()
    stage.watcher.freeze_order = 0
    assert await asyncio.wait_for(writing, BOUND_SECONDS) == first

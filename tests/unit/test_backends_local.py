"""How the local backend ends renders when processes, keepers and callers do not do as they should."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from activities.backends.backend import Progress, RenderTask
from activities.backends.local import LocalBackend
from activities.errors import AttemptError, AttemptLostError
from activities.processes.render_process import (
    KeeperConnection,
    KeeperLostError,
    ProcessSurvivedError,
    RenderProcess,
    Usage,
)
from activities.processes.supervisor import Supervisor, SupervisorError
from longtake.models.policies import Timeouts

BOUND_SECONDS = 20


class Watcher:
    """Orders nothing, or what the test sets."""

    def __init__(self) -> None:
        self.freeze_order = 0
        self.most_grace_seconds = float("inf")
        self.told: list[int] = []
        self.heard: list[Progress] = []

    def on_frozen(self, order: int) -> None:
        self.told.append(order)

    def on_progress(self, progress: Progress) -> None:
        self.heard.append(progress)


class Puppet(RenderProcess):
    """A render that ends when the test says so; `survives` stops fail before one succeeds."""

    def __init__(self, survives: int = 0) -> None:
        super().__init__(KeeperConnection(lambda _: asyncio.sleep(0), kill_seconds=30), kill_seconds=30)
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()
        self.stopping = asyncio.Event()
        self.may_freeze = asyncio.Event()
        self.done: list[str] = []
        self._usage = Usage(cpu_seconds=3)
        self._survives = survives

    async def wait(self) -> int:
        self.begun.set()
        return await asyncio.shield(self.exit)

    async def stop(self, grace_seconds: float) -> None:
        self.done.append(f"stop {grace_seconds:g}")
        self.stopping.set()
        if self._survives:
            self._survives -= 1
            raise ProcessSurvivedError([123], 30)

    async def freeze(self) -> None:
        self.done.append("freeze")
        await self.may_freeze.wait()

    async def thaw(self) -> None:
        self.done.append("thaw")


class Stage(Supervisor):
    """A supervisor whose renders are puppets."""

    def __init__(self, start: Callable[[], Puppet]) -> None:
        super().__init__(control_groups=False)
        self._make = start

    async def spawn(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        tag: Mapping[str, str],
        session: bool = False,
        input: Path | None = None,
    ) -> Puppet:
        return self._make()


@pytest.fixture
def task(tmp_path: Path) -> RenderTask:
    return RenderTask(("/bin/render",), tmp_path, {}, {}, tmp_path / "log", Timeouts(grace_seconds=5))


def backend(start: Callable[[], Puppet]) -> LocalBackend:
    return LocalBackend(Stage(start), first_pause_seconds=0.1)


async def begin(puppet: Puppet, task: RenderTask, watcher: Watcher) -> "asyncio.Task[Usage]":
    rendering = asyncio.create_task(backend(lambda: puppet).render(task, watcher))
    await asyncio.wait_for(puppet.begun.wait(), BOUND_SECONDS)
    return rendering


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():  # noqa: ASYNC110  # what is waited for knows nothing of events
            await asyncio.sleep(0.01)


async def until_told(watcher: Watcher, order: int) -> None:
    await until(lambda: watcher.told[-1] == order)


async def test_a_success_ends_what_is_left_at_once_and_tells_the_usage(task: RenderTask) -> None:
    puppet, watcher = Puppet(), Watcher()
    rendering = await begin(puppet, task, watcher)
    puppet.exit.set_result(0)

    assert await asyncio.wait_for(rendering, BOUND_SECONDS) == Usage(cpu_seconds=3)
    assert puppet.done == ["stop 0"]
    assert watcher.heard[-1].usage.cpu_seconds == 3


@pytest.mark.parametrize(
    ("most_grace_seconds", "stop"), [(float("inf"), "stop 5"), (2, "stop 2")], ids=["all of it", "cut off, so less"]
)
async def test_a_cancel_gives_the_grace(task: RenderTask, most_grace_seconds: float, stop: str) -> None:
    puppet, watcher = Puppet(), Watcher()
    rendering = await begin(puppet, task, watcher)
    watcher.most_grace_seconds = most_grace_seconds
    rendering.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(rendering, BOUND_SECONDS)
    assert puppet.done == [stop]


async def test_survivors_keep_the_render_until_they_are_gone(
    task: RenderTask, caplog: pytest.LogCaptureFixture
) -> None:
    puppet, watcher = Puppet(survives=3), Watcher()
    rendering = await begin(puppet, task, watcher)
    with caplog.at_level(logging.ERROR):
        puppet.exit.set_result(0)
        await asyncio.wait_for(rendering, BOUND_SECONDS)

    assert puppet.done == ["stop 0"] * 4
    assert watcher.heard[-1].message == "cannot be stopped: processes 123 are still there 30 s after SIGKILL"
    assert len(caplog.records) == 3
    assert "processes 123" in caplog.text


async def test_no_number_of_cancels_gets_past_survivors(task: RenderTask) -> None:
    puppet = Puppet(survives=1)
    rendering = await begin(puppet, task, Watcher())
    rendering.cancel()
    await asyncio.wait_for(puppet.stopping.wait(), BOUND_SECONDS)
    for _ in range(5):
        rendering.cancel()
        await asyncio.sleep(0)
        assert not rendering.done()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(rendering), BOUND_SECONDS)
    assert puppet.done == ["stop 5", "stop 0"]


async def test_a_lost_keeper_is_no_failure_of_the_try(task: RenderTask) -> None:
    puppet = Puppet()
    rendering = await begin(puppet, task, Watcher())
    puppet.exit.set_exception(KeeperLostError("the keeper was killed"))

    with pytest.raises(AttemptLostError, match="render did not end by itself: the keeper was killed"):
        await asyncio.wait_for(rendering, BOUND_SECONDS)
    assert puppet.done == ["stop 5"]


async def test_a_cancel_does_not_wait_for_a_freeze(task: RenderTask) -> None:
    puppet, watcher = Puppet(), Watcher()
    rendering = await begin(puppet, task, watcher)
    watcher.freeze_order = 1
    await until(lambda: "freeze" in puppet.done)
    rendering.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(rendering, BOUND_SECONDS)
    assert puppet.done == ["freeze", "stop 5"]
    assert 1 not in watcher.told


async def test_a_freeze_that_is_taken_back_before_it_is_complete_is_never_told(task: RenderTask) -> None:
    puppet, watcher = Puppet(), Watcher()
    rendering = await begin(puppet, task, watcher)
    watcher.freeze_order = 1
    await until(lambda: "freeze" in puppet.done)
    watcher.freeze_order = 0
    await until(lambda: "thaw" in puppet.done)
    puppet.exit.set_result(0)
    await asyncio.wait_for(rendering, BOUND_SECONDS)

    assert puppet.done == ["freeze", "thaw", "stop 0"]
    assert 1 not in watcher.told


async def test_a_newer_order_is_confirmed_without_a_thaw(task: RenderTask) -> None:
    puppet, watcher = Puppet(), Watcher()
    puppet.may_freeze.set()
    rendering = await begin(puppet, task, watcher)
    for order in (1, 2, 0, 3):
        watcher.freeze_order = order
        await until_told(watcher, order)
    watcher.freeze_order = 0
    await until_told(watcher, 0)
    puppet.exit.set_result(0)
    await asyncio.wait_for(rendering, BOUND_SECONDS)

    assert watcher.told == [0, 1, 2, 0, 3, 0]
    assert puppet.done == ["freeze", "thaw", "freeze", "thaw", "stop 0"]


async def test_nothing_is_started_while_the_job_stands_frozen(task: RenderTask) -> None:
    puppet, watcher = Puppet(), Watcher()
    watcher.freeze_order = 4
    rendering = asyncio.create_task(backend(lambda: puppet).render(task, watcher))
    await until(lambda: 4 in watcher.told)
    assert not puppet.begun.is_set()

    watcher.freeze_order = 0
    await asyncio.wait_for(puppet.begun.wait(), BOUND_SECONDS)
    assert watcher.told[-1] == 0
    puppet.exit.set_result(0)
    await asyncio.wait_for(rendering, BOUND_SECONDS)


@pytest.mark.parametrize(
    ("error", "fatal", "another_host"),
    [
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT)), True, False),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), True, False),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), False, False),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), False, False),
        (SupervisorError("it dies at once"), False, True),
    ],
)
async def test_what_cannot_be_started(task: RenderTask, error: Exception, fatal: bool, another_host: bool) -> None:
    def start() -> Puppet:
        raise error

    with pytest.raises(AttemptError, match="render cannot be started: ") as caught:
        await backend(start).render(task, Watcher())

    assert (caught.value.fatal, caught.value.another_host) == (fatal, another_host)

"""Rendering with real processes: how they end, how they are ended, and that nothing is left of them."""

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from support.processes.process_table import cpu_ticks, kill_quietly, state_of, survivors

from activities.backends.backend import Progress, RenderTask
from activities.backends.local import LocalBackend
from activities.errors import AttemptError, AttemptLostError
from activities.media.facts import MediaError
from activities.media.video import inspect_video
from activities.processes.render_process import Usage
from activities.processes.supervisor import Supervisor
from longtake.models.policies import FailureRule, ProgressSpec, Retry, Timeouts, Verdict

# Longer than anything here takes on a machine that is busy with other things.
BOUND_SECONDS = 60

FRAMES = """
import time
for frame in range(3):
    open(f"f_{frame}.png", "w").write("picture")
    print(f"Rendered {frame + 1}/3", flush=True)
"""
SLEEP = "time.sleep(300)\n"
SPIN = "end = time.monotonic() + 300\nwhile time.monotonic() < end: pass\n"
TICK = "while True: time.sleep(0.01)\n"
# A fifth of one core is work enough.
WORK = """
import time
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    until = time.process_time() + 0.01
    while time.process_time() < until: pass
    time.sleep(0.04)
"""
# Leads a session of its own, so that no group leads to it.
START_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", {child!r}], start_new_session=True)
"""
WAIT_FOR_GATE = """
import os, time
print("ready", os.getpid(), flush=True)
end = time.monotonic() + 120
while not os.path.exists("gate") and time.monotonic() < end: time.sleep(0.01)
"""


class Watcher:
    """Hears what the render tells, and orders what the test sets."""

    def __init__(self) -> None:
        self.freeze_order = 0
        self.most_grace_seconds = float("inf")
        self.order_obeyed = 0
        self.newest = Progress()

    def on_frozen(self, order: int) -> None:
        self.order_obeyed = order

    def on_progress(self, progress: Progress) -> None:
        self.newest = progress


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    async with Supervisor() as running:
        yield running


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


class Stage:
    """A folder to render in; every process started here carries one tag."""

    def __init__(self, supervisor: Supervisor, folder: Path, watcher: Watcher) -> None:
        self.folder = folder
        self.watcher = watcher
        self.tag = {"LONGTAKE_ATTEMPT": uuid.uuid4().hex}
        self.log = folder / "log"
        self._backend = LocalBackend(supervisor)

    def task(self, *command: str, timeouts: Timeouts | None = None, retry: Retry | None = None) -> RenderTask:
        return RenderTask(
            command,
            self.folder,
            {**os.environ, **self.tag},
            self.tag,
            self.log,
            timeouts or Timeouts(grace_seconds=0.5),
            retry or Retry(),
        )

    def python(self, script: str, **limits: float) -> RenderTask:
        return self.task(sys.executable, "-S", "-c", script, timeouts=Timeouts(**{"grace_seconds": 0.5, **limits}))

    def frames(self, script: str, *, weak: bool = False, **limits: float) -> RenderTask:
        """A task for three frames whose proof is that they are there."""
        outputs = tuple(self.folder / f"f_{frame}.png" for frame in range(3))
        return replace(
            self.python(script, **limits),
            frames=range(3),
            outputs=outputs,
            is_whole=lambda: all(path.read_text() == "picture" for path in outputs),
            proof_is_weak=weak,
        )

    async def render(self, task: RenderTask) -> Usage:
        """Return what the render used, or raise what it raises; nothing of it may be left by then."""
        try:
            return await asyncio.wait_for(self._backend.render(task, self.watcher), BOUND_SECONDS)
        finally:
            assert survivors(self.tag) == []

    async def fails(self, task: RenderTask) -> AttemptError:
        with pytest.raises(AttemptError) as caught:
            await self.render(task)
        return caught.value

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            while not condition():  # noqa: ASYNC110  # other processes set no events
                await asyncio.sleep(0.01)

    async def pid(self) -> int:
        """Return the renderer's pid when it says that it is ready."""
        await self.until(lambda: self.log.exists() and self.log.read_text().endswith("\n"))
        return int(self.log.read_text().split()[1])


@pytest.fixture
def stage(supervisor: Supervisor, tmp_path: Path, watcher: Watcher) -> Iterator[Stage]:
    made = Stage(supervisor, tmp_path, watcher)
    yield made
    kill_quietly(*survivors(made.tag))


async def test_a_renderer_that_ends_well_tells_what_it_used(stage: Stage) -> None:
    usage = await stage.render(
        stage.frames(FRAMES + "end = time.process_time() + 0.3\nwhile time.process_time() < end: pass")
    )

    assert usage.cpu_seconds >= 0.3
    assert usage.peak_memory_bytes > 1024**2
    assert stage.watcher.newest.frames_done == 3
    assert stage.watcher.newest.usage.cpu_seconds >= 0.3


@pytest.mark.parametrize("habit", [SLEEP, SPIN, TICK], ids=["sleeps", "spins", "ticks"])
async def test_a_renderer_that_made_all_frames_and_never_exits_counts(
    stage: Stage, habit: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await stage.render(stage.frames(FRAMES + habit, linger_seconds=1))

    assert "has made its outputs" in caplog.text
    assert "3 of 3 frames done" in caplog.text


async def test_a_film_that_is_whole_counts_though_its_renderer_never_exits(stage: Stage, ffmpeg: str) -> None:
    film = stage.folder / "film.mp4"
    source = "-nostdin -v error -f lavfi -i testsrc2=s=64x64:r=25 -frames:v 50 -c:v libx264"
    proofs = []

    def is_whole() -> bool:
        try:
            proofs.append(inspect_video(film, fps=Fraction(25), frames=50).frames == 50)
        except MediaError:
            proofs.append(False)
        return proofs[-1]

    task = stage.task("sh", "-c", f"{ffmpeg} {source} film.mp4; sleep 300", timeouts=Timeouts(linger_seconds=1))
    await stage.render(replace(task, frames=range(50), outputs=(film,), is_whole=is_whole))

    assert proofs[-2:] == [True, True]


async def test_a_renderer_that_goes_over_its_frames_again_is_not_cut_off(stage: Stage) -> None:
    again = """
end = time.monotonic() + 3
while time.monotonic() < end:
    open("f_1.png", "w").write("picture")
    time.sleep(0.2)
open("second pass", "w").close()
"""
    await stage.render(stage.frames(FRAMES + again, linger_seconds=1))

    assert (stage.folder / "second pass").exists()


async def test_frames_that_are_not_whole_do_not_count(stage: Stage) -> None:
    spoilt = FRAMES + "open('f_1.png', 'w').write('pict')\n" + SLEEP
    error = await stage.fails(stage.frames(spoilt, linger_seconds=0.5, chunk_seconds=4))

    assert "took longer than timeouts.chunk_seconds, 4 s: 3 of 3 frames done" in str(error)


@pytest.mark.slow
async def test_a_weak_proof_ends_no_renderer_that_works(stage: Stage) -> None:
    error = await stage.fails(stage.frames(FRAMES + SPIN, weak=True, linger_seconds=0.5, chunk_seconds=5))

    assert "took longer than timeouts.chunk_seconds, 5 s" in str(error)


async def test_a_weak_proof_ends_a_renderer_that_does_nothing(stage: Stage) -> None:
    await stage.render(stage.frames(FRAMES + SLEEP, weak=True, linger_seconds=1))


async def test_whole_outputs_count_also_when_time_is_up(stage: Stage) -> None:
    await stage.render(stage.frames(FRAMES + SLEEP, linger_seconds=600, chunk_seconds=5))


@pytest.mark.slow
async def test_whole_outputs_count_also_when_their_renderer_stands_still(stage: Stage) -> None:
    await stage.render(stage.frames(FRAMES + SLEEP, linger_seconds=600, stall_seconds=4))


async def test_a_renderer_that_spins_without_progress_is_ended_when_its_time_is_up(stage: Stage) -> None:
    script = "print('Rendered 1/3\\nsampling', flush=True)\n" + WORK.format(seconds=300)
    error = await stage.fails(stage.frames(script, stall_seconds=1.5, chunk_seconds=4))

    assert "took longer than timeouts.chunk_seconds, 4 s: 1 of 3 frames done, no progress or output for " in str(error)
    assert "processes: 1; it said last: sampling" in str(error)
    assert stage.watcher.newest.usage.cpu_seconds > 0.1


async def test_a_renderer_that_is_silent_and_busy_lives(stage: Stage) -> None:
    usage = await stage.render(stage.python(WORK.format(seconds=4), stall_seconds=1.5))

    assert usage.cpu_seconds > 0.1


async def test_a_renderer_whose_child_does_the_work_lives(stage: Stage) -> None:
    script = START_CHILD.format(child=WORK.format(seconds=4))

    await stage.render(stage.python(script + "child.wait()", stall_seconds=1.5))


@pytest.mark.parametrize("habit", [SLEEP, TICK], ids=["sleeps", "ticks"])
async def test_a_renderer_that_stands_still_is_ended_with_the_evidence(stage: Stage, habit: str) -> None:
    script = "import time\nprint('Rendered 1/3\\nwaiting for a licence', flush=True)\n" + habit
    error = await stage.fails(stage.frames(script, stall_seconds=3))

    assert "stood still for timeouts.stall_seconds, 3 s: 1 of 3 frames done, no progress or output for " in str(error)
    assert "processes: 1; it said last: waiting for a licence" in str(error)
    assert not error.fatal


@pytest.mark.slow
async def test_no_limit_counts_while_a_render_is_frozen(stage: Stage) -> None:
    limits = {"chunk_seconds": 5, "stall_seconds": 1.5, "linger_seconds": 1}
    script = START_CHILD.format(child="while True: pass") + WAIT_FOR_GATE
    rendering = asyncio.create_task(stage.render(stage.python(script, **limits)))
    pid = await stage.pid()
    tree = survivors(stage.tag)
    stage.watcher.freeze_order = 7
    await stage.until(lambda: stage.watcher.order_obeyed == 7)
    assert {state_of(each) for each in tree} == {"T"}
    before = [cpu_ticks(each) for each in tree]

    # As long as the chunk may take, and a second more.
    await asyncio.sleep(6)
    assert [cpu_ticks(each) for each in tree] == before
    assert not rendering.done()
    (stage.folder / "gate").touch()
    stage.watcher.freeze_order = 0
    await asyncio.wait_for(rendering, BOUND_SECONDS)

    assert stage.watcher.order_obeyed == 0
    assert pid in tree


async def test_a_cancel_of_a_frozen_render_leaves_nothing(stage: Stage) -> None:
    rendering = asyncio.create_task(stage.render(stage.python(WAIT_FOR_GATE)))
    await stage.pid()
    stage.watcher.freeze_order = 1
    await stage.until(lambda: stage.watcher.order_obeyed == 1)
    rendering.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(rendering, BOUND_SECONDS)


async def test_a_child_that_its_renderer_left_is_ended(stage: Stage) -> None:
    script = START_CHILD.format(child="import time; time.sleep(300)")

    # `render` looks for survivors itself.
    await stage.render(stage.python(script, grace_seconds=30))


@pytest.mark.parametrize(
    ("script", "rule"),
    [
        ("exit 3", FailureRule(exit_codes=(3,), then=Verdict.ACCEPT)),
        ("echo 'some textures were missing'; exit 1", FailureRule(pattern="^some textures", then=Verdict.ACCEPT)),
        ("exit 0", FailureRule(exit_codes=(0,), pattern="error", then=Verdict.GIVE_UP)),
    ],
)
async def test_what_a_rule_accepts_or_does_not_fit_is_a_success(stage: Stage, script: str, rule: FailureRule) -> None:
    await stage.render(stage.task("sh", "-c", script, retry=Retry(rules=(rule,))))


async def test_an_exit_code_of_zero_can_be_a_failure_by_rule(stage: Stage) -> None:
    rule = FailureRule(exit_codes=(0,), pattern="^Error:", then=Verdict.ANOTHER_HOST, wait_seconds=12)
    task = stage.task("sh", "-c", "echo Error: no GPU; exit 0", retry=Retry(rules=(rule,)))
    error = await stage.fails(task)

    assert str(error) == "sh exited with code 0 (retry.rules[0]: another_host): Error: no GPU"
    assert (error.fatal, error.another_host, error.wait_seconds) == (False, True, 12)


async def test_a_rule_gives_up(stage: Stage) -> None:
    rule = FailureRule(exit_codes=(4,), then=Verdict.GIVE_UP)
    error = await stage.fails(stage.task("sh", "-c", "exit 4", retry=Retry(rules=(rule,))))

    assert str(error) == "sh exited with code 4 (retry.rules[0]: give_up), and printed nothing"
    assert error.fatal


async def test_a_renderer_that_says_that_it_failed_has_failed(stage: Stage) -> None:
    error = await stage.fails(stage.task("sh", "-c", "echo 'openjd_fail: no licence'; exit 0"))

    assert "sh exited with code 0, and said that it had failed: " in str(error)
    assert "no licence" in str(error)


async def test_a_line_that_the_job_calls_fatal_makes_the_try_fail(stage: Stage) -> None:
    task = stage.task("sh", "-c", "echo 'Warning: GPU lost'; exit 0")
    error = await stage.fails(replace(task, progress=ProgressSpec(fatal_patterns=("GPU lost",))))

    assert str(error) == "sh exited with code 0, and said that it had failed: Warning: GPU lost"


async def test_what_an_earlier_command_printed_is_not_held_against_this_one(stage: Stage) -> None:
    stage.log.write_text("openjd_fail: no licence\nRendered 3/3\n")
    await stage.render(replace(stage.task("sh", "-c", "exit 0"), frames=range(3)))

    assert stage.watcher.newest.frames_done == 0


async def test_a_renderer_killed_by_the_system_is_told_of(stage: Stage) -> None:
    error = await stage.fails(stage.task("sh", "-c", "kill -9 $$"))

    assert "sh was ended by a SIGKILL that Longtake did not send; the system may have run out of memory" in str(error)


async def test_a_program_that_is_not_there_is_a_fatal_failure(stage: Stage) -> None:
    error = await stage.fails(stage.task("/no/such/program"))

    assert str(error) == "program cannot be started: No such file or directory"
    assert error.fatal


async def test_a_keeper_that_is_killed_takes_the_render_with_it_and_the_try_does_not_count(stage: Stage) -> None:
    rendering = asyncio.create_task(stage.render(stage.python(WAIT_FOR_GATE)))
    pid = await stage.pid()
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)

    with pytest.raises(AttemptLostError, match="did not end by itself"):
        await asyncio.wait_for(rendering, BOUND_SECONDS)

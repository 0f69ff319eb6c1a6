"""`longtake top` on a real terminal and a real farm: it shows, steers, follows logs, and leaves all as it was."""

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from support.command_line import command_line
from support.farm import PATIENCE_SECONDS, Farm, until, until_state

from longtake import JobState, PauseMode
from longtake.text import strip_controls

pytestmark = pytest.mark.integration


class Screen:
    """What a program has drawn on a terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.drawn = b""

    def press(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def newest(self) -> str:
        """Text of the last whole picture."""
        *_, last, _ = ["", "", *self.drawn.decode(errors="replace").split("\x1b[H")]
        return "\n".join(map(strip_controls, last.split("\n")))

    async def until(self, shown: Callable[[str], bool], what: str) -> str:
        """Read until a picture is as wanted."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not shown(self.newest):
                    self.drawn += await asyncio.to_thread(os.read, self.descriptor, 65536)
        except TimeoutError:
            raise AssertionError(f"{what}; last seen:\n{self.newest}") from None
        return self.newest


@asynccontextmanager
async def top_on_terminal(farm: Farm) -> AsyncIterator[tuple[Screen, asyncio.subprocess.Process]]:
    """Run `longtake top` on a terminal of its own."""
    master, terminal = pty.openpty()
    screen = Screen(master)
    screen.resize(24, 80)
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "longtake", "--address", farm.address, "--task-queue", farm.task_queue, "top"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env=environment,
    )
    before = termios.tcgetattr(terminal)
    try:
        yield screen, process
        # The modes of the terminal are those of before.
        if process.returncode is not None:
            assert termios.tcgetattr(terminal)[3] == before[3]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(terminal)
        os.close(master)


@pytest.mark.slow
async def test_jobs_are_shown_steered_and_their_logs_followed(farm: Farm) -> None:
    job = await farm.started(chunks=4, running=1, options=("--say", "colour \x1b[31mred"))
    await until(job, lambda status: any(not chunk.waiting for chunk in status.running))
    async with top_on_terminal(farm) as (screen, process):
        # Other tests have jobs in this namespace, and failures stand first.
        # What is typed before it reads the terminal is dropped.
        await screen.until(lambda text: "/ filter" in text, "the list is shown")
        screen.press(f"/{job.id}")
        await screen.until(lambda text: f"filter: {job.id}" in text, "the filter is shown")
        screen.press("\r")
        shown = await screen.until(
            lambda text: job.id in text and "RENDERS NOW" in text and "filter: " not in text, "the job is listed alone"
        )
        assert "running" in shown
        assert "0/4" in shown
        assert max(map(len, shown.splitlines())) <= 80

        screen.press("\r")
        await screen.until(lambda text: "CHUNK" in text and "renders" in text, "the job is open")
        screen.press("\r")
        await screen.until(lambda text: "colour red" in text, "the log is shown")
        screen.press("hh")
        await screen.until(lambda text: "STATE" in text and "CHUNKS" in text, "the list is back")

        screen.press("p")
        await screen.until(lambda text: "d finish what runs" in text, "the modes are told")
        screen.press("f")
        frozen = await until_state(job, JobState.PAUSED)
        assert frozen.pause_mode is PauseMode.FREEZE
        await screen.until(lambda text: "frozen" in text, "the pause is shown")
        screen.press("r")
        await screen.until(lambda text: "resume" in text and "y yes" in text, "it is asked")
        screen.press("y")
        await until_state(job, JobState.RUNNING)

        screen.resize(12, 60)
        await screen.until(lambda text: len(text.splitlines()) <= 12 and job.id[:12] in text, "it fits the new size")
        screen.press("cx")
        screen.press("c")
        await screen.until(lambda text: "cancel" in text and "y yes" in text, "it is asked again")
        screen.press("y")
        await until_state(job, JobState.CANCELLED)
        await screen.until(lambda text: "cancelled" in text, "the end is shown")
        screen.press("q")
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await process.wait()
        assert code == 0


async def test_a_pipe_gets_one_picture(farm: Farm) -> None:
    status = await farm.run(farm.job(chunks=1))
    async with command_line(farm) as cli:
        ran = await cli("top")

    assert ran.code == 0, ran.err
    assert status.id in ran.out
    assert "HOST" in ran.out
    assert "\x1b" not in ran.out

"""One render process with its whole process group: started, watched and ended together."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

# A group that was told to stop is looked at soon and then less and less often: most end at once, and a look at the
# whole process table ten times a second is all that one which does not should cost the other renders.
_FIRST_LOOK_SECONDS = 0.01
_LAST_LOOK_SECONDS = 0.1

# A process in uninterruptible sleep outlives SIGKILL until its disk or driver answers.
_KILL_SECONDS = 30.0


class ProcessSurvivedError(Exception):
    """Processes are still there after SIGKILL; their pids are in the text."""


class RenderProcess:
    """A renderer in a session of its own, with stdin closed and all output going straight to a file.

    The file, and no pipe, because a pipe stalls the renderer when its reader is slow or dead.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._group = process.pid

    @classmethod
    async def start(cls, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> Self:
        """Return the started process; a cancel while it starts leaves nothing behind.

        Raises:
            OSError: The program cannot be executed.
        """
        with log.open("ab") as output:
            starting = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    cwd=cwd,
                    env=dict(env),
                    start_new_session=True,
                )
            )
            try:
                return cls(await asyncio.shield(starting))
            except asyncio.CancelledError:
                await cls(await starting).stop(0)
                raise

    async def wait(self) -> int:
        """Return the exit code when the renderer itself has ended; minus the signal if one ended it."""
        return await self._process.wait()

    async def stop(self, grace_seconds: float) -> None:
        """Return when no process of the group is left: TERM, then KILL after the grace.

        Raises:
            ProcessSurvivedError: Some outlived the KILL.
        """
        # A stopped process takes no TERM: it must be continued first.
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        if not await self._gone_within(grace_seconds):
            self._signal(signal.SIGKILL)
            if not await self._gone_within(_KILL_SECONDS):
                pids = ", ".join(str(process.pid) for process in self.members())
                raise ProcessSurvivedError(f"processes {pids} are still there {_KILL_SECONDS:g} s after SIGKILL")
        await self._process.wait()

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the group."""
        living = []
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getpgid(pid) == self._group and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
        return living

    def work(self) -> float:
        """Return a number that grows while the group works: CPU seconds and bytes moved."""
        total = 0.0
        for process in self.members():
            with contextlib.suppress(psutil.Error, OSError):
                cpu = process.cpu_times()
                total += cpu.user + cpu.system
                # macOS has no counters of I/O by process.
                if hasattr(process, "io_counters"):
                    counters = process.io_counters()
                    total += counters.read_chars + counters.write_chars
        return total

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)

    async def _gone_within(self, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        pause = _FIRST_LOOK_SECONDS
        while True:
            try:
                os.killpg(self._group, 0)
            except (ProcessLookupError, PermissionError):
                return True
            # Only now the dearer look: a zombie that nobody reaps still answers to signal 0.
            if not self.members():
                return True
            if loop.time() >= end:
                return False
            await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
            pause = min(pause * 1.5, _LAST_LOOK_SECONDS)

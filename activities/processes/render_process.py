"""One render process with all that it starts: watched and ended together."""

import asyncio
import contextlib
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from activities.processes.tree import ProcessTree

# A process in uninterruptible sleep outlives SIGKILL until its disk or driver answers.
_KILL_SECONDS = 30.0

# A child that was forked between the look and the kill is found by the next round.
_RESCAN_SECONDS = 0.5


class ProcessSurvivedError(Exception):
    """Processes are still there after SIGKILL; their pids are in the text."""


class RenderProcess:
    """A renderer in a session of its own, with stdin closed and all output going straight to a file.

    The file, and no pipe, because a pipe stalls the renderer when its reader is slow or dead.
    """

    def __init__(self, process: asyncio.subprocess.Process, tag: Mapping[str, str]) -> None:
        self._process = process
        self._tree = ProcessTree(process.pid, tag)

    @classmethod
    async def start(
        cls, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, tag: Mapping[str, str]
    ) -> Self:
        """Return the started process; a cancel while it starts leaves nothing behind.

        Args:
            command: Program and arguments.
            cwd: Where it runs.
            env: All that it sees of the environment; the tag should be in it.
            log: Where its output is appended.
            tag: Variables of `env` by which its children are found, wherever they go.

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
                return cls(await asyncio.shield(starting), tag)
            except asyncio.CancelledError:
                await cls(await starting, tag).stop(0)
                raise

    async def wait(self) -> int:
        """Return the exit code when the renderer itself has ended; minus the signal if one ended it."""
        return await self._process.wait()

    async def stop(self, grace_seconds: float) -> None:
        """Return when no process of the tree is left: TERM, then KILL after the grace.

        Raises:
            ProcessSurvivedError: Some outlived the KILL.
        """
        if await self._tree.gone_within(0):
            await self._process.wait()
            return
        # A stopped process takes no TERM: it must be continued first.
        self._tree.signal(signal.SIGCONT)
        self._tree.signal(signal.SIGTERM)
        if not await self._tree.gone_within(grace_seconds):
            await self._kill()
        await self._process.wait()

    def work(self) -> float:
        """Return a number that grows while the tree works: CPU seconds and bytes moved."""
        total = 0.0
        for process in self._tree.members():
            with contextlib.suppress(psutil.Error, OSError):
                cpu = process.cpu_times()
                total += cpu.user + cpu.system
                # macOS has no counters of I/O by process.
                if hasattr(process, "io_counters"):
                    counters = process.io_counters()
                    total += counters.read_chars + counters.write_chars
        return total

    async def _kill(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + _KILL_SECONDS
        while loop.time() < end:
            # Stopped first, so that none of them can fork while the others die.
            self._tree.signal(signal.SIGSTOP)
            self._tree.signal(signal.SIGKILL)
            if await self._tree.gone_within(_RESCAN_SECONDS):
                return
        pids = ", ".join(str(process.pid) for process in self._tree.members())
        raise ProcessSurvivedError(f"processes {pids} are still there {_KILL_SECONDS:g} s after SIGKILL")

"""One process of the farm: started until it is ready, stopped in order, or killed and started again."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil

from deploy.production.accounts import Account

# Long enough for a server that mends its files after a crash on a busy machine.
_START_SECONDS = 90.0


class ProductionError(Exception):
    """A part of the farm did not come up; says which, with the end of its log."""


class Component:
    """A program with its settings; whichever process runs it, it is the same component.

    Args:
        name: What people call it.
        command: The program and its arguments.
        environment: All that the process sees.
        log: File that its output is added to.
        ready: Tells whether it can be used; asked until it can.
        account: Who it runs as.
        stopping: The signal that asks it to end.
        stop_seconds: How long it may take for that before it is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        ready: Callable[["Component"], Awaitable[bool]],
        *,
        account: Account | None = None,
        stopping: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._ready = ready
        self._account = account or Account()
        self._stopping = stopping
        self._stop_seconds = stop_seconds
        self._process: asyncio.subprocess.Process | None = None
        # Where the log of the present process begins.
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def printed(self) -> str:
        """What the present process has written to its log."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    async def start(self) -> None:
        """Return when the component can be used.

        Raises:
            ProductionError: It ended, or was not ready in time.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            # A session of its own: Ctrl-C is for whoever runs the farm, which then ends everything in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._account.command(self._command, self._stopping),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        try:
            while not await self._ready(self):
                if self._process.returncode is not None or time.monotonic() > end:
                    raise ProductionError(f"{self.name} did not come up; {self.log} ends:\n{last_lines(self.printed)}")
                await asyncio.sleep(0.1)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ask the component to end, and return when it has; safe to call twice."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._stopping)
        try:
            await asyncio.wait_for(self._process.wait(), self._stop_seconds)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the component as a power cut would, and return when nothing of it is left."""
        pid = self.pid
        if pid is None or self._process is None:
            return
        # Stopped first, so that it starts nothing between the look at its children and its end.
        os.kill(pid, signal.SIGSTOP)
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        await self._process.wait()
        _, left = await asyncio.to_thread(psutil.wait_procs, children, timeout=self._stop_seconds)
        if left:
            raise ProductionError(f"{len(left)} processes outlived {self.name}: {left}")


async def run_once(
    name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, account: Account | None = None
) -> None:
    """Run a program that sets something up, and return when it has.

    Raises:
        ProductionError: It failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(account or Account()).command(command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd="/",
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    with log.open("ab") as file:
        file.write(printed)
    if process.returncode != 0:
        raise ProductionError(f"{name} failed; {log} ends:\n{last_lines(printed.decode(errors='replace'))}")


def last_lines(text: str) -> str:
    """Return the end of a log, short enough to be read."""
    return "\n".join(line[:300] for line in text.splitlines()[-5:])

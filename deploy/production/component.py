"""Run one process of the farm, as an account of this host: start it until it is ready, stop it, or kill it."""

import asyncio
import contextlib
import hashlib
import os
import pwd
import signal
import stat
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from devserver import end_with_parent
from ports import is_port_conflict

# Starts of a server whose port another process takes between its choice and its use.
_STARTS = 5
# Long enough for a server that mends its files after a crash on a busy machine.
_START_SECONDS = 90.0


class ProductionError(Exception):
    """A part of the farm did not come up; says which, with the end of its log."""


@dataclass(frozen=True)
class Account:
    """An account that is not root's; `uid` -1 stands for whoever runs this."""

    uid: int = -1
    gid: int = -1

    @classmethod
    def for_database(cls) -> Self:
        """Return the account for PostgreSQL, which refuses to run as root."""
        if os.geteuid() != 0:
            return cls()
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)

    def command(self, words: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
        """Return the command so that it runs as this account, and is sent a signal when its parent is gone.

        Args:
            words: The command; its program is looked for on PATH.
            number: The signal; on Linux only.
        """
        return end_with_parent(words, number=number, uid=self.uid, gid=self.gid)

    def own(self, folder: Path) -> None:
        """Make a folder that only this account may read and write."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self.uid >= 0:
            os.chown(folder, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Return whether this account may pass through a folder and all above it."""
        if self.uid < 0:
            return True
        return all(self._passes(path) for path in (folder, *folder.parents))

    def place_for(self, folder: Path) -> Path:
        """Return a folder of the same content that this account reaches: the given one, or one in /var/tmp.

        A checkout in a home folder is closed to other accounts. The other place is the same each time.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.reaches(folder):
            return folder
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        place = Path("/var/tmp") / f"longtake-{name}"
        place.mkdir(mode=0o755, exist_ok=True)
        return place

    def _passes(self, folder: Path) -> bool:
        seen = folder.stat()
        if seen.st_uid == self.uid:
            return bool(seen.st_mode & stat.S_IXUSR)
        if seen.st_gid == self.gid:
            return bool(seen.st_mode & stat.S_IXGRP)
        return bool(seen.st_mode & stat.S_IXOTH)


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


async def start_component(make: Callable[[], Component], on_port_conflict: Callable[[Component], None]) -> Component:
    """Start a component and return it; make another where one of its ports was taken before it listened there.

    Args:
        make: Makes the component, with ports that are free.
        on_port_conflict: Called with the component that has ended for want of a port, before the next is made.

    Raises:
        ProductionError: It did not come up.
    """
    for starts_left in reversed(range(_STARTS)):
        component = make()
        try:
            await component.start()
        except ProductionError:
            if not starts_left or not is_port_conflict(component.printed):
                raise
            on_port_conflict(component)
        else:
            break
    return component


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

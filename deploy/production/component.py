"""Run one process of the farm, as an account of this host: start it and wait until it is ready, stop or kill it."""

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

# Starts of one server: another process may take its port between the choice and the use.
_STARTS = 5
# Long enough for a server that recovers its files after a crash on a busy machine.
_START_SECONDS = 90.0


class ProductionError(Exception):
    """Raised when a part of the farm does not come up; says which, with the end of its log."""


@dataclass(frozen=True)
class Account:
    """An account of this host; `uid` -1 is the account of this process."""

    uid: int = -1
    gid: int = -1

    @classmethod
    def for_database(cls) -> Self:
        """Find the account for PostgreSQL, which refuses to run as root."""
        if os.geteuid() != 0:
            return cls()
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)

    def wrap_command(self, command: Sequence[str], stop_signal: signal.Signals = signal.SIGTERM) -> list[str]:
        """Wrap a command so that it runs as this account, and gets a signal when its parent is gone.

        Args:
            command: The command; its program is looked for on PATH.
            stop_signal: The signal; on Linux only.
        """
        return end_with_parent(command, stop_signal=stop_signal, uid=self.uid, gid=self.gid)

    def make_private_folder(self, folder: Path) -> None:
        """Make a folder that only this account can read and write."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if self.uid >= 0:
            os.chown(folder, self.uid, self.gid)

    def can_reach(self, folder: Path) -> bool:
        """Tell whether this account may enter a folder and all folders above it."""
        if self.uid < 0:
            return True
        return all(self._can_enter(path) for path in (folder, *folder.parents))

    def find_reachable_folder(self, folder: Path) -> Path:
        """Return the folder if this account can reach it, else the one in /var/tmp that always stands for it.

        Other accounts cannot reach a checkout in a home folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self.can_reach(folder):
            return folder
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        place = Path("/var/tmp") / f"longtake-{name}"
        place.mkdir(mode=0o755, exist_ok=True)
        return place

    def _can_enter(self, folder: Path) -> bool:
        seen = folder.stat()
        if seen.st_uid == self.uid:
            return bool(seen.st_mode & stat.S_IXUSR)
        if seen.st_gid == self.gid:
            return bool(seen.st_mode & stat.S_IXGRP)
        return bool(seen.st_mode & stat.S_IXOTH)


class Component:
    """A server program of the farm with its settings; it may be started again, in a new process.

    Args:
        name: Name for people.
        command: The program and its arguments.
        environment: The whole environment of the process.
        log: File that the output is appended to.
        is_ready: Tells whether the server can be used; asked until it can.
        account: The account that the process runs as.
        stop_signal: The signal that asks the process to end.
        stop_seconds: How long a stop may take before the process is killed.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        is_ready: Callable[["Component"], Awaitable[bool]],
        *,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_seconds: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._is_ready = is_ready
        self._account = account or Account()
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        self._process: asyncio.subprocess.Process | None = None
        # Offset in the log at which the output of the present process begins.
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Pid of the process; None when it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def output(self) -> str:
        """Output of the present process so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    async def start(self) -> None:
        """Start the process and wait until the server can be used.

        Raises:
            ProductionError: The process ended, or was not ready in time.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            # A session of its own: Ctrl-C goes to the farm alone, which then ends its components in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._account.wrap_command(self._command, self._stop_signal),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd="/",
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        try:
            while not await self._is_ready(self):
                if self._process.returncode is not None or time.monotonic() > end:
                    raise ProductionError(
                        f"{self.name} did not come up; {self.log} ends:\n{find_last_lines(self.output)}"
                    )
                await asyncio.sleep(0.1)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ask the process to end and wait until it has; safe to call twice."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self._stop_seconds)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """Kill the process as a power cut would, and wait until its children have ended too.

        Raises:
            ProductionError: A child outlived it.
        """
        pid = self.pid
        if pid is None or self._process is None:
            return
        # Stopped first: it must start no child between the list of its children and its end.
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
        make: Makes the component, with free ports.
        on_port_conflict: Called with a component that ended because a port was taken, before the next one is made.

    Raises:
        ProductionError: The component did not come up.
    """
    for starts_left in reversed(range(_STARTS)):
        component = make()
        try:
            await component.start()
        except ProductionError:
            if not starts_left or not is_port_conflict(component.output):
                raise
            on_port_conflict(component)
        else:
            break
    return component


async def run_once(
    name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, account: Account | None = None
) -> None:
    """Run a program that sets something up to its end.

    Raises:
        ProductionError: The program failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(account or Account()).wrap_command(command),
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
        raise ProductionError(f"{name} failed; {log} ends:\n{find_last_lines(printed.decode(errors='replace'))}")


def find_last_lines(text: str) -> str:
    """Return the last lines of a log, each cut to a length that people read."""
    return "\n".join(line[:300] for line in text.splitlines()[-5:])

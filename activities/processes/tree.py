"""All processes of one attempt, wherever they went: found by process group and by the tag in their environment."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

import psutil

# A tree that was told to stop is looked at soon and then less and less often: most end at once, and a look at the
# whole process table ten times a second is all that one which does not should cost the other renders.
_FIRST_LOOK_SECONDS = 0.01
_LAST_LOOK_SECONDS = 0.1


class ProcessTree:
    """The processes that carry an attempt's tag, or belong to its process group.

    The tag is inherited by every child, also by one that leads a session of its own, was forked twice or closed its
    output: those have left the group, and no parent leads to them any more.

    Args:
        group: Process group of the renderer.
        tag: Environment variables that mark the attempt; without any, the group is all that is looked for.
    """

    def __init__(self, group: int, tag: Mapping[str, str]) -> None:
        self._group = group
        self._marks = [f"{name}={value}".encode() for name, value in tag.items()]

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the tree."""
        living = []
        for pid in psutil.pids():
            with contextlib.suppress(psutil.Error, OSError):
                if self._holds(pid) and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
        return living

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every member."""
        # The group at once first, so that a parent has no time to start another child between two members.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)
        for process in self.members():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getpgid(process.pid) != self._group:
                    process.send_signal(number)

    async def gone_within(self, seconds: float) -> bool:
        """Return whether the tree is empty before the time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        pause = _FIRST_LOOK_SECONDS
        while self.members():
            if loop.time() >= end:
                return False
            await asyncio.sleep(min(pause, max(0.0, end - loop.time())))
            pause = min(pause * 1.5, _LAST_LOOK_SECONDS)
        return True

    def _holds(self, pid: int) -> bool:
        if os.getpgid(pid) == self._group:
            return True
        if not self._marks:
            return False
        environment = _environment(pid)
        return all(mark in environment for mark in self._marks)


def _environment(pid: int) -> set[bytes]:
    """Return the variables that a process was started with."""
    try:
        # psutil takes five times as long, and there may be thousands of processes to look at.
        with open(f"/proc/{pid}/environ", "rb") as file:
            return set(file.read().split(b"\0"))
    except FileNotFoundError:
        return {f"{name}={value}".encode() for name, value in psutil.Process(pid).environ().items()}

"""The processes of a host: what one entry holds, and the interface that Linux and other platforms implement.

Standard library only: see `supervisor_main`.
"""

import contextlib
import os
import signal
from typing import NamedTuple, Protocol


class ProcessEntry(NamedTuple):
    """State of one process at one moment."""

    pid: int
    parent: int
    group: int
    state: str
    # Clock ticks since the host started (Linux), or seconds since 1970: pid and start time identify a process.
    started: float
    # Reaped children included.
    cpu_seconds: float
    memory_bytes: int
    # Name of the program, cut to the kernel's length (15 bytes on Linux).
    name: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the process is no zombie."""
        return self.state not in "ZX"

    @property
    def is_running(self) -> bool:
        """Whether the process is neither stopped nor a zombie."""
        return self.state not in "ZXTt"


class ProcessTable(Protocol):
    """Reads the processes of a host and signals them."""

    # Whether `adopt_orphans` works, so that the walk by parents finds every process of a tree.
    exact: bool

    def adopt_orphans(self) -> None:
        """Make the calling process the new parent of orphans below it."""
        ...

    def die_with_parent(self) -> None:
        """Have the kernel kill the calling process when its parent dies."""
        ...

    def die_first(self) -> None:
        """Have the kernel kill the calling process before its parent when the host runs out of memory."""
        ...

    def kill_first(self, pid: int) -> None:
        """Have the kernel kill a child before this process when the host runs out of memory."""
        ...

    def lower_priority(self, pid: int, nice: int) -> bool:
        """Have a process, its group and its session wait for the processor where this process needs it.

        Args:
            pid: The process.
            nice: Steps below this process, as nice(2) counts; nothing is raised that is lower already.

        Returns:
            False where the kernel wants to be asked again later.
        """
        ...

    def set_name(self, name: str) -> None:
        """Set the name of the calling process in process lists."""
        ...

    def pids(self) -> list[int]:
        """List the pid of every visible process."""
        ...

    def scan(self) -> dict[int, ProcessEntry]:
        """Read the entry of every visible process, by pid."""
        ...

    def list_descendants(self, root: int) -> list[ProcessEntry]:
        """List the living descendants of a process quickly; one that is born meanwhile may be missed."""
        ...

    def find(self, pid: int) -> ProcessEntry | None:
        """Read the entry of one process; None when there is none of that pid."""
        ...

    def read_environment(self, pid: int) -> list[bytes]:
        """Read the `NAME=value` items that a process was started with; none where this user may not read them."""
        ...

    def read_io_bytes(self, pid: int) -> int:
        """Read how many bytes a process has read and written, reaped children included."""
        ...

    def send_signal(self, entry: ProcessEntry, number: signal.Signals) -> None:
        """Signal the process of an entry, never another one that has its pid now; do nothing where it is gone."""
        ...

    def now(self) -> float:
        """Return the present time on the clock of `ProcessEntry.started`."""
        ...


def lower_group_priority(pid: int, nice: int) -> int:
    """Lower the priority of a process and its group to this many steps below this process, and return that level.

    A group that is lower already stays so: its command may have begun with `nice -n 19`.
    """
    level = min(19, os.getpriority(os.PRIO_PROCESS, 0) + nice)
    # The process may have ended, or be another account's.
    with contextlib.suppress(OSError):
        group = os.getpgid(pid)
        if os.getpriority(os.PRIO_PGRP, group) < level:
            os.setpriority(os.PRIO_PGRP, group, level)
    return level


def find_descendants(
    table: dict[int, ProcessEntry], root: int, excluded: frozenset[int] = frozenset()
) -> list[ProcessEntry]:
    """Find all descendants of a process in a scan, without the excluded ones and their descendants."""
    children: dict[int, list[ProcessEntry]] = {}
    for entry in table.values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[ProcessEntry] = []
    parents = [root]
    while parents:
        below = [entry for entry in children.pop(parents.pop(), []) if entry.pid not in excluded]
        found += below
        parents += [entry.pid for entry in below]
    return found

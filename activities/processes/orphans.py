"""Ending renders whose worker is dead, which a worker does as it starts.

Each render carries the mark of its worker in its environment, where it can be read when worker, supervisor and keeper
are all dead.
"""

import os
import time
from dataclasses import dataclass
from typing import Self

import psutil

from activities.processes.linux_table import process_table
from activities.processes.process_tree import ProcessTree, list_worker_groups

# Variable of every render that holds the mark of its worker.
WORKER_VARIABLE = "LONGTAKE_WORKER"


@dataclass(frozen=True)
class WorkerMark:
    """Identity of one worker process: a pid alone is used again, and means another process in another container."""

    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Self:
        """Return the mark of this process."""
        entry = process_table().find(os.getpid())
        return cls(_boot(), _namespace(), os.getpid(), str(entry.started if entry else 0))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse the text of a mark; None when the text is none."""
        boot, _, rest = text.partition("/")
        match rest.split("/"):
            case [namespace, pid, started] if pid.isdigit():
                return cls(boot, namespace, int(pid), started)
        return None

    def __str__(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.pid}/{self.started}"

    @property
    def is_dead(self) -> bool:
        """Whether the worker is known to have ended; one of another container or boot may live."""
        if (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        entry = process_table().find(self.pid)
        return entry is None or not entry.is_alive or str(entry.started) != self.started


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


# Longer than any process takes to die that is not in uninterruptible sleep.
_KILL_SECONDS = 10.0
_PAUSE_SECONDS = 0.01


def kill_orphans() -> list[int]:
    """Kill the renders of dead workers and return their pids; leave those of living workers alone.

    Reads the environment of every visible process, so it belongs to the start of a worker. Blocking.
    """
    killed: set[int] = set()
    end = time.monotonic() + _KILL_SECONDS
    # Until two rounds find none: a render may start a process during the first.
    while (found := _kill_round()) or _kill_round():
        killed |= found
        if time.monotonic() >= end:
            break
        time.sleep(_PAUSE_SECONDS)
    return sorted(killed)


def _kill_round() -> set[int]:
    found: set[int] = set()
    table = process_table()
    marks = {mark for pid in table.scan() if (mark := _mark_of(table.read_environment(pid)))}
    for mark in marks:
        if mark.is_dead:
            tree = ProcessTree(table, None, tag={WORKER_VARIABLE: str(mark)})
            found |= {entry.pid for entry in tree.kill()}
    for name, group in list_worker_groups():
        mark_of_group = WorkerMark.parse(name)
        if mark_of_group is not None and mark_of_group.is_dead:
            found |= set(group.pids())
            group.kill()
            group.remove()
    return found


def _mark_of(environment: list[bytes]) -> WorkerMark | None:
    prefix = f"{WORKER_VARIABLE}=".encode()
    item = next((item for item in environment if item.startswith(prefix)), None)
    return WorkerMark.parse(item[len(prefix) :].decode("utf-8", "replace")) if item else None

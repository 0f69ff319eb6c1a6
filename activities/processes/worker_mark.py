"""Which worker a render belongs to, readable from the render's environment after everything else is dead."""

import os
from dataclasses import dataclass
from typing import Self

import psutil

from activities.processes.host import process_table

# Each render carries it.
WORKER_VARIABLE = "LONGTAKE_WORKER"


@dataclass(frozen=True)
class WorkerMark:
    """One worker process among all that there ever were: pids come again, and mean others in other containers."""

    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def own(cls) -> Self:
        """Return the mark of this process."""
        entry = process_table().entry(os.getpid())
        return cls(_boot(), _namespace(), os.getpid(), str(entry.started if entry else 0))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return what `str` made, or None when it is not that."""
        boot, _, rest = text.partition("/")
        match rest.split("/"):
            case [namespace, pid, started] if pid.isdigit():
                return cls(boot, namespace, int(pid), started)
        return None

    def __str__(self) -> str:
        return f"{self.boot}/{self.namespace}/{self.pid}/{self.started}"

    @property
    def is_dead(self) -> bool:
        """Whether the worker is known to have ended; one that cannot be seen from here may live."""
        if (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        entry = process_table().entry(self.pid)
        return entry is None or not entry.lives or str(entry.started) != self.started


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

"""What a process tree uses of its host."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """CPU time and bytes moved since a tree began, ended processes included where the host tells; memory now."""

    cpu_seconds: float = 0.0
    io_bytes: int = 0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    processes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Return what two runs, one after the other, have used together."""
        return Usage(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            io_bytes=self.io_bytes + other.io_bytes,
            memory_bytes=other.memory_bytes,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
            processes=other.processes,
        )


class ProcessSurvivedError(Exception):
    """Processes are still there long after SIGKILL: they sleep uninterruptibly, until a disk or driver answers."""

    def __init__(self, pids: Sequence[int], seconds: float) -> None:
        self.pids = tuple(pids)
        super().__init__(f"processes {', '.join(map(str, pids))} are still there {seconds:g} s after SIGKILL")


class KeeperLostError(Exception):
    """The process that kept a render was killed; every process of the render is dead by now."""


class SupervisorError(Exception):
    """The process that starts renders cannot be started."""

"""What a process tree uses of its host."""

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

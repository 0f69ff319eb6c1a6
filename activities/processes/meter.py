"""What the processes below a keeper use of their host."""

import os
import sys

from activities.processes.process_table import ProcessTable

# macOS counts in bytes what Linux counts in kibibytes.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class Meter:
    """Sums up CPU time, bytes and memory of all children, living and ended."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table
        self._ended_cpu = 0.0
        self._ended_io = 0
        self._cpu = self._seen_cpu = 0.0
        self._io = self._seen_io = 0
        self._peak_memory = 0

    def reap(self) -> tuple[int, int] | None:
        """Bury one dead child; return its pid and exit code, or None when none is dead.

        Raises:
            ChildProcessError: There are no children at all.
        """
        pid = -1
        if self._table.exact:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if dead is None:
                return None
            pid = dead.si_pid
            # Gone with the zombie.
            self._ended_io += self._table.io_bytes(pid)
        pid, status, used = os.wait4(pid, os.WNOHANG)
        if pid == 0:
            return None
        self._ended_cpu += used.ru_utime + used.ru_stime
        self._peak_memory = max(self._peak_memory, used.ru_maxrss * _MAXRSS_BYTES)
        return pid, os.waitstatus_to_exitcode(status)

    def sample(self) -> list[float]:
        """Return the fields of `Usage`."""
        living = self._table.below(os.getpid())
        memory = sum(entry.memory_bytes for entry in living)
        self._peak_memory = max(self._peak_memory, memory)
        # Grows only: what a child used that nobody waited for is lost to the host, and not taken back here.
        cpu = self._ended_cpu + sum(entry.cpu_seconds for entry in living)
        self._cpu, self._seen_cpu = self._cpu + max(0.0, cpu - self._seen_cpu), cpu
        io = self._ended_io + sum(self._table.io_bytes(entry.pid) for entry in living)
        self._io, self._seen_io = self._io + max(0, io - self._seen_io), io
        return [round(self._cpu, 6), self._io, memory, self._peak_memory, len(living)]

"""Processes through psutil, where there is no /proc, such as macOS.

Orphans are not adopted there, so trees are found by process group and tag. A module of its own, because psutil must
not be imported by keepers on Linux.
"""

import contextlib
import os
import signal
import time

import psutil

from activities.processes.process_table import ProcessEntry, find_descendants, lower_group_priority

_STATES = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: "T", "tracing-stop": "t"}


class PortableTable:
    """Reads and signals processes through psutil; see `ProcessTable`."""

    exact = False

    def adopt_orphans(self) -> None:
        """Do nothing: orphans go to the first process of the host."""

    def die_with_parent(self) -> None:
        """Do nothing: orphans are ended by `kill_orphans` at the next start of a worker."""

    def die_first(self) -> None:
        """Do nothing: the kernel's choice cannot be steered."""

    def kill_first(self, pid: int) -> None:
        """Do nothing, likewise."""

    def lower_priority(self, pid: int, nice: int) -> bool:
        lower_group_priority(pid, nice)
        return True

    def set_name(self, name: str) -> None:
        """Do nothing: the name is for people only."""

    def pids(self) -> list[int]:
        return psutil.pids()

    def scan(self) -> dict[int, ProcessEntry]:
        entries = map(self.find, self.pids())
        return {entry.pid: entry for entry in entries if entry is not None}

    def list_descendants(self, root: int) -> list[ProcessEntry]:
        return [entry for entry in find_descendants(self.scan(), root) if entry.is_alive]

    def find(self, pid: int) -> ProcessEntry | None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                state = _STATES.get(process.status(), "R")
                cpu, memory = 0.0, 0
                # CPU time and memory of other users' processes cannot be read.
                with contextlib.suppress(psutil.AccessDenied, psutil.ZombieProcess):
                    cpu = float(sum(process.cpu_times()[:4]))
                    memory = process.memory_info().rss
                parent, group, name = process.ppid(), os.getpgid(pid), process.name()
                return ProcessEntry(pid, parent, group, state, process.create_time(), cpu, memory, name)
        except (psutil.Error, OSError):
            return None

    def read_environment(self, pid: int) -> list[bytes]:
        try:
            return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]
        except (psutil.Error, OSError):
            return []

    def read_io_bytes(self, pid: int) -> int:
        with contextlib.suppress(psutil.Error, OSError, AttributeError):
            counters = psutil.Process(pid).io_counters()
            return int(counters.read_chars + counters.write_chars)
        return 0

    def send_signal(self, entry: ProcessEntry, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(entry.pid)
            if process.create_time() == entry.started:
                process.send_signal(number)

    def now(self) -> float:
        return time.time()

"""Processes where there is no /proc, such as macOS: nobody adopts orphans, so trees are found by group and tag."""

import contextlib
import os
import signal
import time

import psutil

from activities.processes.process_table import Entry, descendants

_STATES = {psutil.STATUS_ZOMBIE: "Z", psutil.STATUS_DEAD: "X", psutil.STATUS_STOPPED: "T", "tracing-stop": "t"}


class PortableTable:
    """See `ProcessTable`."""

    exact = False

    def adopt_orphans(self) -> None:
        """Do nothing: orphans go to the first process of the host."""

    def die_with_parent(self) -> None:
        """Do nothing: whoever outlives its parent is ended by the sweep at the next start."""

    def call_itself(self, name: str) -> None:
        """Do nothing: a name is a convenience."""

    def pids(self) -> list[int]:
        return psutil.pids()

    def scan(self) -> dict[int, Entry]:
        entries = map(self.entry, self.pids())
        return {entry.pid: entry for entry in entries if entry is not None}

    def below(self, root: int) -> list[Entry]:
        return [entry for entry in descendants(self.scan(), root) if entry.lives]

    def entry(self, pid: int) -> Entry | None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                state = _STATES.get(process.status(), "R")
                cpu, memory = 0.0, 0
                # Of other people's processes no more than this may be seen.
                with contextlib.suppress(psutil.AccessDenied, psutil.ZombieProcess):
                    cpu = float(sum(process.cpu_times()[:4]))
                    memory = process.memory_info().rss
                parent, group, name = process.ppid(), os.getpgid(pid), process.name()
                return Entry(pid, parent, group, state, process.create_time(), cpu, memory, name)
        except (psutil.Error, OSError):
            return None

    def environment(self, pid: int) -> list[bytes]:
        try:
            return [os.fsencode(f"{name}={value}") for name, value in psutil.Process(pid).environ().items()]
        except (psutil.Error, OSError):
            return []

    def io_bytes(self, pid: int) -> int:
        with contextlib.suppress(psutil.Error, OSError, AttributeError):
            counters = psutil.Process(pid).io_counters()
            return int(counters.read_chars + counters.write_chars)
        return 0

    def send(self, entry: Entry, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(entry.pid)
            if process.create_time() == entry.started:
                process.send_signal(number)

    def now(self) -> float:
        return time.time()

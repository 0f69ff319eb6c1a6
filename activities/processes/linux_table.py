"""Processes on Linux, read from /proc: a third of psutil's memory and a fifth of its time, in every keeper."""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import time

from activities.processes.process_table import Entry, ProcessTable, descendants

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)


class LinuxTable:
    """See `ProcessTable`."""

    exact = True

    def adopt_orphans(self) -> None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def die_with_parent(self) -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def call_itself(self, name: str) -> None:
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))

    def pids(self) -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def scan(self) -> dict[int, Entry]:
        entries = map(self.entry, self.pids())
        return {entry.pid: entry for entry in entries if entry is not None}

    def below(self, root: int) -> list[Entry]:
        # Kernels that list children spare a look at every process of the host, once a second in each keeper.
        if not os.path.exists(f"/proc/{root}/task/{root}/children"):
            return [entry for entry in descendants(self.scan(), root) if entry.lives]
        found: list[Entry] = []
        parents = [root]
        while parents:
            entries = [self.entry(pid) for pid in _children(parents.pop())]
            found += (below := [entry for entry in entries if entry is not None and entry.lives])
            parents += [entry.pid for entry in below]
        return found

    def entry(self, pid: int) -> Entry | None:
        try:
            stat = _read(f"/proc/{pid}/stat")
        except OSError:
            return None
        # The name may hold spaces and parentheses.
        name_end = stat.rindex(b")")
        field = stat[name_end + 2 :].split()
        return Entry(
            pid=pid,
            parent=int(field[1]),
            group=int(field[2]),
            state=field[0].decode(),
            started=int(field[19]),
            cpu_seconds=sum(map(int, field[11:15])) / _TICKS,
            memory_bytes=int(field[21]) * _PAGE,
            name=stat[stat.index(b"(") + 1 : name_end].decode("utf-8", "replace"),
        )

    def environment(self, pid: int) -> list[bytes]:
        try:
            return _read(f"/proc/{pid}/environ").split(b"\0")
        except OSError:
            return []

    def io_bytes(self, pid: int) -> int:
        try:
            lines = _read(f"/proc/{pid}/io").split(b"\n")
        except OSError:
            return 0
        # rchar and wchar: they also count what caches and pipes answer.
        return sum(int(line.split()[1]) for line in lines[:2])

    def send(self, entry: Entry, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                handle = os.pidfd_open(entry.pid)
            except OSError as error:
                # Kernels before 5.3, and some sandboxes, have no handles for processes.
                if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EMFILE, errno.ENFILE):
                    raise
                os.kill(entry.pid, number)
                return
            try:
                if (now := self.entry(entry.pid)) and now.started == entry.started:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def now(self) -> float:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def _prctl(option: int, value: object) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _read(path: str) -> bytes:
    # Twice as quick as open(): a scan reads hundreds of these.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(descriptor, 16384)]
        while len(parts[-1]) == 16384:
            parts.append(os.read(descriptor, 16384))
    finally:
        os.close(descriptor)
    return b"".join(parts)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


HAS_EXACT_TREES = sys.platform == "linux"


def process_table(*, exact: bool = HAS_EXACT_TREES) -> ProcessTable:
    """Return the processes of this host.

    Args:
        exact: As Linux shows them; else as psutil does everywhere.
    """
    if exact:
        return LinuxTable()
    # psutil would cost the supervisor, and so each keeper, more than all the rest of it.
    from activities.processes.psutil_table import PortableTable  # noqa: PLC0415

    return PortableTable()

"""Processes on Linux, read from /proc (proc(5)), and the table of this host.

Used in every keeper in place of psutil, which takes three times the memory and five times the time.
"""

import contextlib
import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Sequence

from activities.processes.process_table import ProcessEntry, ProcessTable, find_descendants, lower_group_priority

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

# Above that of their worker. A process that takes half of the memory of the host has 500 by that alone: a worker is
# killed before the smallest render only if it takes more.
OOM_SCORE_OF_RENDERS = 500

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)


class LinuxTable:
    """Reads and signals processes through /proc, prctl and pidfds; see `ProcessTable`."""

    exact = True

    def adopt_orphans(self) -> None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def die_with_parent(self) -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def die_first(self) -> None:
        # The files of a process that forbids reading, as keepers do, are root's. The program that is executed next
        # allows reading in any case.
        _prctl(_PR_SET_DUMPABLE, 1)
        self.kill_first(os.getpid())

    def kill_first(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            descriptor = os.open(f"/proc/{pid}/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"%d" % min(1000, int(os.read(descriptor, 16)) + OOM_SCORE_OF_RENDERS))
            finally:
                os.close(descriptor)

    def lower_priority(self, pid: int, nice: int) -> bool:
        level = lower_group_priority(pid, nice)
        # Where each session has a share of the processor of its own (sched(7), "The autogroup feature"), the values of
        # processes count within it alone.
        try:
            descriptor = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"%d" % level)
            finally:
                os.close(descriptor)
        except BlockingIOError:
            # Accounts other than root may do this ten times in a second, all of them together.
            return False
        except OSError:
            # No such feature, or the process has ended.
            pass
        return True

    def set_name(self, name: str) -> None:
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))

    def pids(self) -> list[int]:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def scan(self) -> dict[int, ProcessEntry]:
        entries = map(self.find, self.pids())
        return {entry.pid: entry for entry in entries if entry is not None}

    def list_descendants(self, root: int) -> list[ProcessEntry]:
        # Kernels without lists of children need a scan of the whole host, once a second in each keeper.
        if not os.path.exists(f"/proc/{root}/task/{root}/children"):
            return [entry for entry in find_descendants(self.scan(), root) if entry.is_alive]
        found: list[ProcessEntry] = []
        parents = [root]
        while parents:
            entries = [self.find(pid) for pid in _children(parents.pop())]
            found += (below := [entry for entry in entries if entry is not None and entry.is_alive])
            parents += [entry.pid for entry in below]
        return found

    def find(self, pid: int) -> ProcessEntry | None:
        try:
            stat = _read(f"/proc/{pid}/stat")
        except OSError:
            return None
        # The name may hold spaces and parentheses.
        name_end = stat.rindex(b")")
        field = stat[name_end + 2 :].split()
        return ProcessEntry(
            pid=pid,
            parent=int(field[1]),
            group=int(field[2]),
            state=field[0].decode(),
            started=int(field[19]),
            cpu_seconds=sum(map(int, field[11:15])) / _TICKS,
            memory_bytes=int(field[21]) * _PAGE,
            name=stat[stat.index(b"(") + 1 : name_end].decode("utf-8", "replace"),
        )

    def read_environment(self, pid: int) -> list[bytes]:
        try:
            return _read(f"/proc/{pid}/environ").split(b"\0")
        except OSError:
            return []

    def read_io_bytes(self, pid: int) -> int:
        try:
            lines = _read(f"/proc/{pid}/io").split(b"\n")
        except OSError:
            return 0
        # rchar and wchar: they also count what caches and pipes answer.
        return sum(int(line.split()[1]) for line in lines[:2])

    def send_signal(self, entry: ProcessEntry, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                handle = os.pidfd_open(entry.pid)
            except OSError as error:
                # Older kernels say this of a process that is reaped at that moment.
                if error.errno == errno.EINVAL:
                    return
                # Kernels before 5.3, and some sandboxes, have no handles for processes.
                if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EMFILE, errno.ENFILE):
                    raise
                os.kill(entry.pid, number)
                return
            try:
                if (now := self.find(entry.pid)) and now.started == entry.started:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def now(self) -> float:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def forbid_reading() -> None:
    """Keep processes of the same account from reading the memory and environment of this one; root still can.

    A program that this process starts can be read again, until it asks for the same.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def switch_account(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Make the calling process that of another account, with no way back; Linux only.

    The program that it executes next gets no capability, and none by a setuid program either (`sudo`, `su`).
    """
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # A worker that is not root has been given its right to switch so, and a program that it starts would have it too.
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


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


# Linux alone has subreapers and PDEATHSIG, which make the walk by parents complete.
HAS_EXACT_TREES = sys.platform == "linux"


def process_table(*, exact: bool = HAS_EXACT_TREES) -> ProcessTable:
    """Return the process table of this host.

    Args:
        exact: Whether to read /proc; else psutil is used, which works everywhere.
    """
    if exact:
        return LinuxTable()
    # Imported here: psutil would take more memory in each keeper than everything else together.
    from activities.processes.psutil_table import PortableTable  # noqa: PLC0415

    return PortableTable()

"""Signals through handles of processes, on kernels of any age."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from activities.processes.linux_table import LinuxTable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc and pidfds are Linux")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ESRCH])
def test_a_process_that_is_reaped_at_that_moment_is_gone(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Older kernels call its pid an invalid argument; nothing else must get the signal."""
    table = LinuxTable()
    entry = table.find(os.getpid())
    assert entry is not None

    def refuse(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal was sent"))
    table.send_signal(entry, signal.SIGTERM)


def test_a_process_is_signalled_where_there_are_no_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    table = LinuxTable()

    def refuse(pid: int) -> int:
        raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with subprocess.Popen(["sleep", "60"]) as process:
        entry = table.find(process.pid)
        assert entry is not None
        table.send_signal(entry, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL

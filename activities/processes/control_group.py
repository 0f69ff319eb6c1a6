"""A cgroup of its own for each render, where the worker may make some: `cgroup.kill` reaches all of it at once."""

import contextlib
import os
from typing import Self

_PREFIX = "longtake-"


class ControlGroup:
    """A cgroup v2 folder; each step of it may fail, and the scans of the process table do without."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def made(cls, path: str) -> Self | None:
        """Return a new cgroup, or None where there can be none."""
        try:
            os.mkdir(path)
        except OSError:
            return None
        group = cls(path)
        # cgroup.kill came with Linux 5.14.
        if os.path.exists(f"{path}/cgroup.kill"):
            return group
        group.remove()
        return None

    def join(self) -> None:
        """Move the calling process into the group."""
        with contextlib.suppress(OSError):
            self._write("cgroup.procs", b"0")

    def kill(self) -> None:
        """Send SIGKILL to every member at once; none of them can fork away from it."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", b"1")

    def pids(self) -> list[int]:
        """Return the living members."""
        try:
            with open(f"{self.path}/cgroup.procs", "rb") as file:
                return [int(line) for line in file]
        except OSError:
            return []

    def remove(self) -> None:
        """Remove the group, and what renderers made below it, as far as it is empty."""
        with contextlib.suppress(OSError):
            for folder, _, _ in os.walk(self.path, topdown=False):
                os.rmdir(folder)

    def _write(self, name: str, text: bytes) -> None:
        descriptor = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)


def own_cgroup() -> str | None:
    """Return the folder of the cgroup v2 that this process is in, or None where there is none."""
    try:
        with open("/proc/self/mounts") as file:
            # Beside version 1 it is mounted elsewhere than at /sys/fs/cgroup.
            mount = next((line.split()[1] for line in file if line.split()[2] == "cgroup2"), None)
        with open("/proc/self/cgroup") as file:
            path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    except OSError:
        return None
    if mount is None or path is None:
        return None
    folder = os.path.normpath(f"{mount}/{path}")
    return folder if os.path.isdir(folder) and os.access(folder, os.W_OK) else None


def group_prefix(worker: str) -> str | None:
    """Return what the paths of a worker's groups start with, or None where it can have none.

    Args:
        worker: Mark of the worker, see `WorkerMark`.
    """
    home = own_cgroup()
    if home is None:
        return None
    prefix = f"{home}/{_PREFIX}{worker.replace('/', '_')}-"
    trial = ControlGroup.made(f"{prefix}trial")
    if trial is None:
        return None
    trial.remove()
    return prefix


def groups_by_worker() -> list[tuple[str, ControlGroup]]:
    """Return the groups beside this process, each with the mark of its worker."""
    home = own_cgroup()
    if home is None:
        return []
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(home) if name.startswith(_PREFIX)]
        return [
            (name[len(_PREFIX) :].rpartition("-")[0].replace("_", "/"), ControlGroup(f"{home}/{name}"))
            for name in names
        ]
    return []

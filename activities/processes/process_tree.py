"""The process tree of one render: finding its members by parent, tag and cgroup, and signalling all of them.

Standard library only: see `supervisor_main`.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from typing import Self

from activities.processes.process_table import ProcessEntry, ProcessTable, find_descendants

# Names of the cgroups of renders begin with it.
_PREFIX = "longtake-"


class ControlGroup:
    """A cgroup v2 folder (https://docs.kernel.org/admin-guide/cgroup-v2.html); every step is best effort.

    Args:
        path: The folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def create(cls, path: str) -> Self | None:
        """Create a cgroup; None where the host does not allow that or has no `cgroup.kill`."""
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
        self.add(0)

    def add(self, pid: int) -> None:
        """Move a process into the group."""
        with contextlib.suppress(OSError):
            self._write("cgroup.procs", b"%d" % pid)

    def kill(self) -> None:
        """Send SIGKILL to every member at once, so that none can escape by forking."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", b"1")

    def pids(self) -> list[int]:
        """List the pids of the living members."""
        try:
            with open(f"{self.path}/cgroup.procs", "rb") as file:
                return [int(line) for line in file]
        except OSError:
            return []

    def remove(self) -> None:
        """Remove the group and the groups that renderers made below it, as far as they are empty."""
        with contextlib.suppress(OSError):
            for folder, _, _ in os.walk(self.path, topdown=False):
                os.rmdir(folder)

    def _write(self, name: str, text: bytes) -> None:
        descriptor = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text)
        finally:
            os.close(descriptor)


def find_own_cgroup() -> str | None:
    """Find the folder of the cgroup v2 that this process is in; None where there is none that it may write to."""
    try:
        with open("/proc/self/mounts") as file:
            # Not always /sys/fs/cgroup: hosts with version 1 mount version 2 elsewhere.
            mount = next((line.split()[1] for line in file if line.split()[2] == "cgroup2"), None)
        with open("/proc/self/cgroup") as file:
            path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    except OSError:
        return None
    if mount is None or path is None:
        return None
    folder = os.path.normpath(f"{mount}/{path}")
    return folder if os.path.isdir(folder) and os.access(folder, os.W_OK) else None


def make_group_prefix(worker: str) -> str | None:
    """Make the prefix of the paths of a worker's cgroups; None where the worker cannot create any.

    Args:
        worker: Mark of the worker, see `WorkerMark`.
    """
    home = find_own_cgroup()
    if home is None:
        return None
    prefix = f"{home}/{_PREFIX}{worker.replace('/', '_')}-"
    trial = ControlGroup.create(f"{prefix}trial")
    if trial is None:
        return None
    trial.remove()
    return prefix


def list_worker_groups() -> list[tuple[str, ControlGroup]]:
    """List the cgroups of renders beside this process, each with the mark of its worker."""
    home = find_own_cgroup()
    if home is None:
        return []
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(home) if name.startswith(_PREFIX)]
        return [
            (name[len(_PREFIX) :].rpartition("-")[0].replace("_", "/"), ControlGroup(f"{home}/{name}"))
            for name in names
        ]
    return []


# A child that is forked between a look and the SIGSTOP is found by the next look. After so many looks the members that
# were found are killed, and the caller looks again: some trees fork faster than they can be stopped.
_STOP_LOOKS = 5
_TERM_LOOKS = 3

# ffmpeg looks for a signal twice a second, and ends at once with the fourth (measured: 0.33 to 0.8 s after one SIGTERM,
# 0.1 s after five). It would write the end of
# its file meanwhile, but the output of a stopped render is thrown away.
_SIGNALLED_AGAIN = ("ffmpeg",)

# One scan is no proof: a process may be born after its pid was passed, and its parent end before it is reached.
PROOF_LOOKS = 2


class ProcessTree:
    """The descendants of a process, and all processes that carry a tag, without the process itself.

    Below a process that adopts orphans the walk by parents is complete: it finds processes that lead sessions, were
    forked twice or have cleared their environment. The tag finds what other processes started for the render, and the
    whole render where orphans are not adopted.

    Args:
        table: The processes of the host.
        root: Process whose descendants belong to the tree; None for a tree by tag and cgroup alone.
        tag: Environment variables that mark the render; empty to look for none.
        group: Cgroup of the render, if it has one.
        excluded: Returns children of the root that do not belong to the tree, nor do their descendants.
    """

    def __init__(
        self,
        table: ProcessTable,
        root: int | None,
        *,
        tag: Mapping[str, str],
        group: ControlGroup | None = None,
        excluded: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._table = table
        self._root = root
        # Tags by the last of their variables, which differs most: a span of 1,000 chunks has as many tags.
        self._tags: dict[bytes, set[frozenset[bytes]]] = {}
        self.add_tag(tag)
        self.group = group
        self._excluded = excluded
        # The renderer's process group, which finds members where the walk by parents is incomplete.
        self.session: int | None = None

    def add_tag(self, tag: Mapping[str, str]) -> None:
        """Look for the processes that carry this tag too."""
        variables = [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in tag.items()]
        if variables:
            self._tags.setdefault(variables[-1], set()).add(frozenset(variables))

    def find_members(self, *, by_tag: bool = True) -> list[ProcessEntry]:
        """Find the living processes of the tree.

        Args:
            by_tag: Whether to look for the tag too, which reads the environment of every process. It is looked for in
                any case where the walk by parents is incomplete.
        """
        table = self._table.scan()
        found: dict[int, ProcessEntry] = {}
        if self._root is not None:
            found |= {entry.pid: entry for entry in find_descendants(table, self._root, self._excluded())}
        if not self._table.exact:
            found |= {entry.pid: entry for entry in table.values() if entry.group == self.session}
        unparented = self._find_unparented(set(table) - set(found)) if by_tag or not self._table.exact else []
        return [entry for entry in [*found.values(), *unparented] if entry.is_alive and entry.pid != self._root]

    def find_unparented(self) -> list[ProcessEntry]:
        """Find the living members by tag or cgroup alone; these are all members once the root has no child left."""
        return [entry for entry in self._find_unparented(set(self._table.pids())) if entry.is_alive]

    def prove_empty(self) -> bool:
        """Look for members by tag and cgroup, everywhere for all of them where the walk by parents is incomplete.

        Returns:
            Whether there is none; then tags are looked for no more. Where the walk is complete, the root must have no
            child left.
        """
        if self._tags or self.group is not None:
            look = self.find_unparented if self._table.exact else self.find_members
            if any(look() for _ in range(PROOF_LOOKS)):
                return False
            self._tags.clear()
        return True

    def fill_group(self) -> None:
        """Move all descendants into the cgroup, if there is one; what they start from now on is born there."""
        # What was born outside of it meanwhile is found by the second look.
        for _ in range(PROOF_LOOKS):
            if self.group is not None and self._root is not None:
                for entry in self._table.list_descendants(self._root):
                    self.group.add(entry.pid)

    def has_group_members(self) -> bool:
        """Tell whether the cgroup has living members."""
        return self.group is not None and bool(self.group.pids())

    def terminate(self) -> None:
        """Send SIGTERM to every member, also to stopped ones."""
        begun = self._table.now()
        asked: set[int] = set()
        for _ in range(_TERM_LOOKS):
            # A member may start processes to clean up when it gets the signal: those get none.
            members = self.find_members(by_tag=False)
            new = [entry for entry in members if entry.pid not in asked and entry.started <= begun]
            # SIGTERM first, so that a stopped process gets it before anything else when it is continued.
            for number in (signal.SIGTERM, signal.SIGCONT):
                for entry in new:
                    self._table.send_signal(entry, number)
            if not new:
                break
            asked |= {entry.pid for entry in new}

    def signal_again(self) -> None:
        """Send SIGTERM once more to programs that end at once only after several signals."""
        for entry in self.find_members():
            if entry.name.startswith(_SIGNALLED_AGAIN):
                self._table.send_signal(entry, signal.SIGTERM)

    def freeze(self) -> bool:
        """Send SIGSTOP to every running member; return whether none was running."""
        running = [entry for entry in self.find_members() if entry.is_running]
        for entry in running:
            self._table.send_signal(entry, signal.SIGSTOP)
        return not running

    def thaw(self) -> None:
        """Send SIGCONT to every member."""
        for entry in self.find_members():
            self._table.send_signal(entry, signal.SIGCONT)

    def kill(self) -> list[ProcessEntry]:
        """Send SIGKILL to every member that is found, and return them."""
        if self.group is not None:
            self.group.kill()
        # Stopped first, so that none can fork while the others die.
        for _ in range(_STOP_LOOKS):
            members = self.find_members()
            running = [entry for entry in members if entry.is_running]
            for entry in running:
                self._table.send_signal(entry, signal.SIGSTOP)
            if not running:
                break
        for entry in members:
            self._table.send_signal(entry, signal.SIGKILL)
        return members

    def kill_twice(self) -> bool:
        """Kill every member, in two rounds if the first finds none; return whether there was one."""
        return any(self.kill() for _ in range(PROOF_LOOKS))

    def _find_unparented(self, pids: set[int]) -> list[ProcessEntry]:
        found = {pid for pid in pids if self._tags and self._carries_tag(pid)}
        if self.group is not None:
            found |= pids & set(self.group.pids())
        return [entry for pid in found if (entry := self._table.find(pid))]

    def _carries_tag(self, pid: int) -> bool:
        environment = frozenset(self._table.read_environment(pid))
        return any(tag <= environment for last in self._tags.keys() & environment for tag in self._tags[last])

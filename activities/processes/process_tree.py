"""All processes of one render, wherever they went, and signals to all of them."""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from typing import Self

from activities.processes.process_table import Entry, ProcessTable, descendants

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


# A child that was forked between the look and the SIGSTOP is found by the next look. A tree that forks faster than
# this many looks is killed as far as it is seen, and looked at again.
_STOP_LOOKS = 5
_TERM_LOOKS = 3

# ffmpeg looks for a signal twice a second, and ends at once with the fourth (measured: 0.33 to 0.8 s after one SIGTERM,
# 0.1 s after five). The end of a file that it would write meanwhile is not wanted: who stops it throws its output away.
_HARD_OF_HEARING = ("ffmpeg",)

# One look is no proof: a process may be born behind the eye and its parent end before it.
PROOF_LOOKS = 2


class ProcessTree:
    """The descendants of a process and whatever carries a tag, the process itself excepted.

    Below a process that adopts orphans the walk by parents is complete: also those that lead sessions, were forked
    twice or cleared their environment are there. The tag finds what someone else started for the render, and all of
    it where nobody adopts orphans.

    Args:
        table: The processes of the host.
        root: Whose descendants belong to the tree; None: nobody's.
        tag: Environment variables that mark the render; without any, none is looked for.
        group: Its cgroup, if it has one.
        spared: Children of the root that are not meant, nor what is below them.
    """

    def __init__(
        self,
        table: ProcessTable,
        root: int | None,
        *,
        tag: Mapping[str, str],
        group: ControlGroup | None = None,
        spared: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._table = table
        self._root = root
        self._marks = {f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in tag.items()}
        self._group = group
        self._spared = spared
        # The renderer's process group: followed where parents do not lead to all.
        self.session: int | None = None

    def members(self, *, by_tag: bool = True) -> list[Entry]:
        """Return the living processes of the tree; where parents lead to all, the dear look for tags can be left."""
        table = self._table.scan()
        found: dict[int, Entry] = {}
        if self._root is not None:
            found |= {entry.pid: entry for entry in descendants(table, self._root, self._spared())}
        if not self._table.exact:
            found |= {entry.pid: entry for entry in table.values() if entry.group == self.session}
        strangers = self._strangers(set(table) - set(found)) if by_tag or not self._table.exact else []
        return [entry for entry in [*found.values(), *strangers] if entry.lives and entry.pid != self._root]

    def strangers(self) -> list[Entry]:
        """Return the living members of the tree that are so by tag or cgroup; all of them, where no child is left."""
        return [entry for entry in self._strangers(set(self._table.pids())) if entry.lives]

    def terminate(self) -> None:
        """Ask every member to end, also a stopped one."""
        begun = self._table.now()
        asked: set[int] = set()
        for _ in range(_TERM_LOOKS):
            # What a member starts in answer to the signal, to clean up, is left alone.
            members = self.members(by_tag=False)
            new = [entry for entry in members if entry.pid not in asked and entry.started <= begun]
            # The signal is there before a stopped process is continued: it does nothing else any more.
            for number in (signal.SIGTERM, signal.SIGCONT):
                for entry in new:
                    self._table.send(entry, number)
            if not new:
                break
            asked |= {entry.pid for entry in new}

    def insist(self) -> None:
        """Ask those once more that end at once only when they are asked again and again."""
        for entry in self.members():
            if entry.name.startswith(_HARD_OF_HEARING):
                self._table.send(entry, signal.SIGTERM)

    def freeze(self) -> bool:
        """Stop what runs; return whether nothing was found running."""
        running = [entry for entry in self.members() if entry.runs]
        for entry in running:
            self._table.send(entry, signal.SIGSTOP)
        return not running

    def thaw(self) -> None:
        """Continue every member."""
        for entry in self.members():
            self._table.send(entry, signal.SIGCONT)

    def kill(self) -> list[Entry]:
        """Kill every member that is found, and return them."""
        if self._group is not None:
            self._group.kill()
        # Stopped first, so that none of them can fork while the others die.
        for _ in range(_STOP_LOOKS):
            members = self.members()
            running = [entry for entry in members if entry.runs]
            for entry in running:
                self._table.send(entry, signal.SIGSTOP)
            if not running:
                break
        for entry in members:
            self._table.send(entry, signal.SIGKILL)
        return members

    def kill_all_seen(self) -> bool:
        """Kill every member; return whether there was one, in two looks."""
        return any(self.kill() for _ in range(PROOF_LOOKS))

    def _strangers(self, pids: set[int]) -> list[Entry]:
        found = {pid for pid in pids if self._marks and self._marks.issubset(self._table.environment(pid))}
        if self._group is not None:
            found |= pids & set(self._group.pids())
        return [entry for pid in found if (entry := self._table.entry(pid))]

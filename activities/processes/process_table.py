"""What there is to know of the processes of a host, and the one seam where platforms differ."""

import signal
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One process at one moment."""

    pid: int
    parent: int
    group: int
    state: str
    # Clock ticks since the host started, or whatever else tells it from a later process of the same pid.
    started: float
    # Waited-for children included.
    cpu_seconds: float
    memory_bytes: int
    # Of its program, cut where the kernel cuts it.
    name: str = ""

    @property
    def lives(self) -> bool:
        """Whether it is no zombie."""
        return self.state not in "ZX"

    @property
    def runs(self) -> bool:
        """Whether it may do anything before someone continues it."""
        return self.state not in "ZXTt"


class ProcessTable(Protocol):
    """Looks at processes and signals them."""

    # Whether orphans come back to whoever asked for them, so that parents lead to every process of a tree.
    exact: bool

    def adopt_orphans(self) -> None:
        """Make the calling process the one that orphans below it come back to."""
        ...

    def die_with_parent(self) -> None:
        """Have the calling process killed when its parent dies."""
        ...

    def call_itself(self, name: str) -> None:
        """Give the calling process a name for process lists."""
        ...

    def pids(self) -> list[int]:
        """Return the pid of every process that can be seen."""
        ...

    def scan(self) -> dict[int, Entry]:
        """Return every process that can be seen."""
        ...

    def below(self, root: int) -> list[Entry]:
        """Return the living descendants of a process quickly; one that was born meanwhile may be missed."""
        ...

    def entry(self, pid: int) -> Entry | None:
        """Return one process, or None when there is none of that pid."""
        ...

    def environment(self, pid: int) -> list[bytes]:
        """Return the `NAME=value` items that a process was started with; none where they may not be seen."""
        ...

    def io_bytes(self, pid: int) -> int:
        """Return the bytes that a process has read and written, waited-for children included."""
        ...

    def send(self, entry: Entry, number: signal.Signals) -> None:
        """Signal the process, and never another that took its pid; nothing happens where that is not possible."""
        ...

    def now(self) -> float:
        """Return the present on the clock of `Entry.started`."""
        ...


def descendants(table: dict[int, Entry], root: int, spared: frozenset[int] = frozenset()) -> list[Entry]:
    """Return all below a process, in a scan; neither the spared ones nor what is below them."""
    children: dict[int, list[Entry]] = {}
    for entry in table.values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[Entry] = []
    parents = [root]
    while parents:
        below = [entry for entry in children.pop(parents.pop(), []) if entry.pid not in spared]
        found += below
        parents += [entry.pid for entry in below]
    return found

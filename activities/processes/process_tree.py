"""All processes of one render, wherever they went, and signals to all of them."""

import signal
from collections.abc import Callable, Mapping

from activities.processes.control_group import ControlGroup
from activities.processes.process_table import Entry, ProcessTable, descendants

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

"""Who runs on this machine, read from /proc by nothing that the product uses: the second opinion on survivors."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """A process at the moment it was looked at; pid and start time together never come back."""

    pid: int
    started: int
    parent: int
    state: str
    cpu_ticks: int

    @property
    def living(self) -> bool:
        """Whether it is more than an entry that waits to be reaped."""
        return self.state not in "ZX"

    @property
    def stopped(self) -> bool:
        """Whether it stands still by a stop signal."""
        return self.state == "T"


def look(pid: int) -> Seen | None:
    """Return a process as it is now, or None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may hold anything, brackets too.
    fields = text[text.rindex(")") + 2 :].split()
    return Seen(pid, int(fields[19]), int(fields[1]), fields[0], int(fields[11]) + int(fields[12]))


def everyone() -> Iterator[Seen]:
    """Yield all living processes."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (seen := look(int(name))) is not None and seen.living:
            yield seen


def carrying(mark: str) -> list[Seen]:
    """Return the living processes with a text in their environment or their command line."""
    return [seen for seen in everyone() if mark.encode() in words(seen.pid)]


def words(pid: int) -> bytes:
    """Return the command line and the environment of a process; nothing where they cannot be read."""
    found = b""
    for name in ("cmdline", "environ"):
        try:
            found += Path(f"/proc/{pid}/{name}").read_bytes() + b"\0"
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[Seen]:
    """Return the living processes below another, whatever their sessions."""
    children: dict[int, list[Seen]] = {}
    for seen in everyone():
        children.setdefault(seen.parent, []).append(seen)
    found: list[Seen] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [seen.pid for seen in below]
    return found


def still_there(seen: Seen) -> bool:
    """Tell whether this very process still lives."""
    now = look(seen.pid)
    return now is not None and now.living and now.started == seen.started

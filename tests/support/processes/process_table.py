"""Who runs on this machine, read from /proc by nothing that the product uses: the second opinion on survivors."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """A process at the moment it was looked at; pid and start time together never come back."""

    pid: int
    name: str
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
    text = shown(pid, "stat").decode(errors="replace")
    if not text:
        return None
    # The name stands in brackets and may hold anything, brackets too.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Seen(
        pid=pid,
        name=head.partition("(")[2],
        started=int(fields[19]),
        parent=int(fields[1]),
        state=fields[0],
        cpu_ticks=int(fields[11]) + int(fields[12]),
    )


def everyone(*, zombies: bool = False) -> Iterator[Seen]:
    """Yield all living processes; or the dead that nobody has reaped as well."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (seen := look(int(name))) is not None and (zombies or seen.living):
            yield seen


def living(*pids: int) -> list[int]:
    """Return those of the pids that are living processes."""
    return [pid for pid in pids if (seen := look(pid)) is not None and seen.living]


def tagged(tag: dict[str, str]) -> list[Seen]:
    """Return the living processes that have exactly this variable in their environment."""
    (mark,) = (f"{name}={value}".encode() for name, value in tag.items())
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = [pid for pid in pids if mark in shown(pid, "environ").split(b"\0")]
    return [seen for pid in found if (seen := look(pid)) is not None and seen.living]


def carrying(mark: str) -> list[Seen]:
    """Return the living processes with a text anywhere in their environment or their command line.

    Unlike `tagged` this finds renderers that have cleared their environment, and others whose mark only begins alike.
    """
    return [seen for seen in everyone() if mark.encode() in words(seen.pid)]


def words(pid: int) -> bytes:
    """Return the command line and the environment of a process; nothing where they cannot be read."""
    return b"".join(shown(pid, name) + b"\0" for name in ("cmdline", "environ"))


def shown(pid: int, name: str) -> bytes:
    """Return what a file of a process holds; nothing where it cannot be read."""
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def children(pid: int, *, zombies: bool = False) -> dict[int, Seen]:
    """Return the living children of a process, by pid; or the dead as well."""
    return {seen.pid: seen for seen in everyone(zombies=zombies) if seen.parent == pid}


def descendants(pid: int) -> list[Seen]:
    """Return the living processes below another, whatever their sessions."""
    families: dict[int, list[Seen]] = {}
    for seen in everyone():
        families.setdefault(seen.parent, []).append(seen)
    found: list[Seen] = []
    waiting = [pid]
    while waiting:
        below = families.get(waiting.pop(), [])
        found += below
        waiting += [seen.pid for seen in below]
    return found


def still_there(seen: Seen) -> bool:
    """Tell whether this very process still lives."""
    now = look(seen.pid)
    return now is not None and now.living and now.started == seen.started


def memory_bytes(pid: int, kind: str = "Pss") -> int:
    """Return what a process takes of memory, its share of what it has in common with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {kind}")


def survivors(tag: dict[str, str], *pids: int) -> list[int]:
    """Return the living processes that carry the tag, or have one of the pids."""
    return list({*living(*pids), *(seen.pid for seen in tagged(tag))})


def state_of(pid: int) -> str:
    """Return the state of a process as a letter; X where there is none."""
    seen = look(pid)
    return seen.state if seen is not None else "X"


def cpu_ticks(pid: int) -> int:
    """Return the CPU time that a process has used."""
    seen = look(pid)
    assert seen is not None, f"there is no process {pid}"
    return seen.cpu_ticks


def session_nice(pid: int) -> str:
    """Return how much lower the whole session of a process is; empty where it has no share of its own.

    A kernel without such shares has no such file, and the file of what is in the session of the host's first process
    is empty.
    """
    return shown(pid, "autogroup").decode().rpartition(" ")[2].strip()


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> float:
    """Return the seconds until the condition holds; fail when that takes too long."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.005)
    return time.monotonic() - begun


async def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Return when the condition holds; fail when that takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(0.01)


def kill_quietly(*pids: int) -> None:
    """Kill processes that a failed test may have left."""
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue

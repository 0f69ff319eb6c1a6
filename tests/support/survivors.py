"""An independent look at /proc: which processes of a render are left, and how those of a worker are doing."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path


def survivors(tag: dict[str, str], *pids: int) -> list[int]:
    """Return the living processes that carry the tag, or have one of the pids."""
    (mark,) = (f"{name}={value}".encode() for name, value in tag.items())
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                dead = state_of(int(folder.name)) in "ZX"
                if not dead and (int(folder.name) in pids or mark in (folder / "environ").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def state_of(pid: int) -> str:
    """Return the state of a process as a letter; X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def children_of(parent: int, *, zombies: bool = False) -> dict[int, str]:
    """Return the names of the living children of a process, by pid; or of the dead as well."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            except OSError:
                continue
            state, ppid = rest.split()[:2]
            if int(ppid) == parent and (zombies or state not in "ZX"):
                found[int(folder.name)] = name.partition("(")[2]
    return found


def cpu_ticks(pid: int) -> int:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory_bytes(pid: int, kind: str = "Pss") -> int:
    """Return what a process takes of memory, its share of what it has in common with others."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {kind}")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> float:
    """Return the seconds until the condition holds; fail when that takes too long."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.005)
    return time.monotonic() - begun


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
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

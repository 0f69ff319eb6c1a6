"""What a test asks about the processes of a render: who is left, how they are, and a wait until that changes."""

import asyncio
import os
import time
from collections.abc import Callable

from processtable import living, look, tagged


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

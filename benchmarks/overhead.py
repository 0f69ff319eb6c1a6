"""Measure the CPU time of what is not the renderers: worker, supervisor, keepers and Temporal's server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil
from local_farm import LocalFarm
from support.processes.process_table import look

_LOOK_SECONDS = 1.0
# Ticks of CPU time in /proc.
_TICKS = 100


class Overhead:
    """CPU time by part, and the time that it was measured for."""

    def __init__(self) -> None:
        self.seconds = 0.0
        # By part, pid and start: what a process had used when it was looked at first and last.
        self._used: dict[tuple[str, int, int], tuple[int, int]] = {}

    def note(self, part: str, pid: int) -> None:
        """Look at a process."""
        if (seen := look(pid)) is not None:
            key = (part, seen.pid, seen.started)
            # What begins within the measurement has used nothing before.
            first = self._used.get(key, (seen.cpu_ticks if not self.seconds else 0, 0))[0]
            self._used[key] = (first, seen.cpu_ticks)

    def share(self, part: str | None = None) -> float:
        """Return the share of all cores that a part has used; without one, all parts together."""
        ticks = sum(last - first for (name, _, _), (first, last) in self._used.items() if part in (None, name))
        return ticks / _TICKS / self.seconds / (psutil.cpu_count() or 1) if self.seconds else 0.0


@asynccontextmanager
async def measure_overhead(farm: LocalFarm, found: Overhead, is_over: Callable[[], bool]) -> AsyncIterator[None]:
    """Measure until the block ends, or until something is over.

    Args:
        farm: The farm.
        found: Gets the figures.
        is_over: Asked at each look.
    """
    began = time.monotonic()

    async def watch() -> None:
        while not is_over():
            found.note("server", farm.server_pid)
            worker, *others = farm.list_own()
            found.note("worker", worker)
            for pid in others:
                found.note("supervisor and keepers", pid)
            found.seconds = time.monotonic() - began
            await asyncio.sleep(_LOOK_SECONDS)

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)

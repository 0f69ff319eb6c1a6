"""Renders that stand at a gate and are no processes: hundreds of them cost one process next to nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from activities.backends.backend import RenderTask, RenderWatcher
from activities.processes.render_process import Usage

_LOOK_SECONDS = 0.2


class StandingBackend:
    """Runs each command by waiting for a gate, and then writes its last word, the output; freezes and ends as told.

    Args:
        at_once: How many renders are expected to run.

    Attributes:
        begun: How many have begun so far.
        ended: Outputs of those that came to their end, in order.
    """

    takes_bursts = False

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._gate = asyncio.Event()
        self._changed = asyncio.Condition()
        self._running = self._frozen = 0
        self.begun = 0
        self.ended: list[str] = []

    def open_gate(self) -> None:
        """Let all renders come to their end."""
        self._gate.set()

    async def until_all_run(self) -> None:
        """Return when as many as expected have begun and have not ended, and none is frozen."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._running == self._at_once and not self._frozen)

    @asynccontextmanager
    async def open_span(self) -> AsyncIterator["StandingBackend"]:
        """Return this backend: nothing is shared by the commands of a span."""
        yield self

    async def render(self, task: RenderTask, watcher: RenderWatcher) -> Usage:
        """Wait for the gate, frozen or not, and write the output."""
        self.begun += 1
        await self._count(running=1)
        frozen = 0
        try:
            while frozen or not self._gate.is_set():
                if (order := watcher.freeze_order) != frozen:
                    await self._count(frozen=bool(order) - bool(frozen))
                    frozen = order
                    watcher.on_frozen(frozen)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await self._count(running=-1, frozen=-bool(frozen))
        await asyncio.to_thread(Path(task.command[-1]).write_text, "rendered")
        self.ended.append(task.command[-1].rpartition("/")[2])
        return Usage()

    async def _count(self, *, running: int = 0, frozen: int = 0) -> None:
        self._running += running
        self._frozen += frozen
        async with self._changed:
            self._changed.notify_all()

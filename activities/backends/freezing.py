"""Carrying out freeze orders on one render."""

import asyncio

from activities.backends.backend import RenderWatcher
from activities.backends.clock import RenderClock
from activities.backends.following import LOOK_SECONDS
from activities.backends.renderer import Renderer
from activities.backends.tasks import drop


class Freezing:
    """Freezes and thaws a render as its watcher orders; an order counts for as long as it stands.

    Args:
        renderer: The render.
        clock: Its clock, which is held from before the first process stops until after the last one goes on.
        watcher: Who orders, and is told when the order is carried out.
    """

    def __init__(self, renderer: Renderer, clock: RenderClock, watcher: RenderWatcher) -> None:
        self._renderer = renderer
        self._clock = clock
        self._watcher = watcher
        self._freezing: asyncio.Task[None] | None = None
        self._told = 0

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """A freeze that is not complete yet, to be waited for; none otherwise."""
        return [self._freezing] if self._freezing is not None and not self._freezing.done() else []

    async def obey(self) -> None:
        """Do the next step to what is ordered now; never waits for processes to stand still."""
        order = self._watcher.freeze_order
        if order and self._freezing is None:
            self._clock.hold()
            self._freezing = asyncio.create_task(self._renderer.freeze())
        elif not order and self._freezing is not None:
            await self.forget()
            await self._renderer.thaw()
            self._clock.go_on()
            self._tell(0)
        if order and self._freezing is not None and self._freezing.done():
            self._freezing.result()
            self._tell(order)

    async def forget(self) -> None:
        """Wait no longer for a freeze, complete or not."""
        if self._freezing is not None:
            freezing, self._freezing = self._freezing, None
            await drop(freezing)

    def _tell(self, order: int) -> None:
        if order != self._told:
            self._told = order
            self._watcher.frozen(order)


async def until_it_may_run(watcher: RenderWatcher) -> None:
    """Return when nothing orders a freeze; until then confirm that nothing runs, for nothing was started."""
    while order := watcher.freeze_order:
        watcher.frozen(order)
        await asyncio.sleep(LOOK_SECONDS)
    watcher.frozen(0)

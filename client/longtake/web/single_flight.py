"""Read something once for all who ask within a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from longtake.concurrency import drop_error

T = TypeVar("T")


class SharedRead(Generic[T]):
    """Read something again only when what was read last is no longer fresh, and then once for all who wait.

    Args:
        read: Reads it.
        fresh_seconds: How old it may be.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], *, fresh_seconds: float) -> None:
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._value: tuple[T, float] | None = None
        self._reading: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return what was read, at most so old."""
        if self._value is not None and time.monotonic() - self._value[1] < self._fresh_seconds:
            return self._value[0]
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read_now())
            self._reading.add_done_callback(drop_error)
        # One who goes away takes the answer from nobody else.
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Let the next who asks read it anew, also where a read is under way that may not see what has changed."""
        self._value = None
        self._reading = None

    async def _read_now(self) -> T:
        mine = asyncio.current_task()
        try:
            value = await self._read()
            if self._reading is mine:
                self._value = value, time.monotonic()
            return value
        finally:
            if self._reading is mine:
                self._reading = None

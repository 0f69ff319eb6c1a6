"""How far a render is, told to the store once a second while it goes on."""

import asyncio
import logging
import math
from functools import partial

from activities.backends.backend import Progress
from activities.remote.call_records import RemoteCalls
from activities.remote.protocol import RemoteProgress
from agent.call import Aside
from agent.lifecycle import Stop
from longtake.plaintext import short_line
from remote.call import Call

_log = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0

_LONGEST_MESSAGE = 400

# Workers wait 10 s for the word that nothing runs any more, and platforms 10 s from SIGTERM to SIGKILL.
_GRACE_SECONDS = {Stop.ORDERED: 7.0, Stop.ORPHANED: math.inf, Stop.OUT_OF_TIME: math.inf, Stop.GOING_DOWN: 4.0}


class Reporting:
    """Hears of one render as its `RenderWatcher`, and passes on what it hears.

    A store that is away costs beats and nothing else.

    Args:
        aside: Where the store is told.
        calls: What lies there about the chunk.
        attempt: The attempt.
        call: How it was called.
        save_seconds: What must be left of the call when the processes are gone.
    """

    # Services bill what stands still: workers stop what is to be frozen.
    freeze_order = 0

    def __init__(self, aside: Aside, calls: RemoteCalls, attempt: str, call: Call, *, save_seconds: float) -> None:
        self._aside = aside
        self._calls = calls
        self._attempt = attempt
        self._call = call
        self._save_seconds = save_seconds
        self._beat = 0
        self._newest = Progress()
        self._begun_with: int | None = None
        self.stop: Stop | None = None

    @property
    def most_grace_seconds(self) -> float:
        """How long the end of the render may take at most."""
        most = math.inf if self.stop is None else _GRACE_SECONDS[self.stop]
        return max(0.0, min(most, self._call.left_seconds - self._save_seconds))

    @property
    def frames_done(self) -> int:
        """How many frames of the chunk are done, those of earlier attempts included."""
        return self._newest.frames_done

    @property
    def frames_made(self) -> int:
        """How many of them this attempt has made."""
        return self.frames_done - (self._begun_with or 0)

    def frozen(self, order: int) -> None:
        """Hear that nothing is frozen."""

    def progress(self, progress: Progress) -> None:
        """Hear how far the render is."""
        if self._begun_with is None:
            self._begun_with = progress.frames_done
        self._newest = progress

    async def go_on(self) -> None:
        """Report until cancelled."""
        while True:
            self._beat += 1
            try:
                await self._aside.do(partial(self._calls.report, self._attempt, self._report()))
            except OSError as error:
                _log.warning("%s: the store does not hear how far it is: %s", self._attempt, error)
            await asyncio.sleep(_BEAT_SECONDS)

    def _report(self) -> RemoteProgress:
        newest = self._newest
        return RemoteProgress(
            beat=self._beat,
            frames_done=newest.frames_done,
            message=short_line(newest.message, _LONGEST_MESSAGE),
            cpu_seconds=round(newest.usage.cpu_seconds, 2),
            memory_bytes=newest.usage.memory_bytes,
            io_bytes=newest.usage.io_bytes,
        )

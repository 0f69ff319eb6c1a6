"""How fast a job goes, as far as whoever watches it can tell."""

import time
from collections import deque
from collections.abc import Callable

from longtake.models.status import JobState, JobStatus

# Long enough to smooth over renderers that report every few seconds.
_WINDOW_SECONDS = 60.0

# An estimate from less would jump about.
_LEAST_SECONDS = 3.0


class Pace:
    """Counts frames, those of unfinished chunks included, and estimates the time to go.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque()
        self.frames = 0
        self.eta_seconds: float | None = None

    def look(self, status: JobStatus) -> None:
        """Take in a look at the job."""
        partial = sum(chunk.frames_done for chunk in status.running)
        frames = min(status.completed_frames + partial, status.total_frames)
        # A chunk that fails takes its frames back; the bar shows that, an average over time must forget it.
        if frames < self.frames or status.state is not JobState.RUNNING:
            self._looks.clear()
        self.frames = frames
        now = self._clock()
        self._looks.append((now, frames))
        while now - self._looks[0][0] > _WINDOW_SECONDS:
            self._looks.popleft()
        self.eta_seconds = self._estimate(status)

    def _estimate(self, status: JobStatus) -> float | None:
        if status.state is not JobState.RUNNING:
            return None
        left = status.total_frames - self.frames
        if status.eta_seconds is not None:
            # The job counts whole chunks; what is done of the unfinished ones shortens its estimate.
            unfinished = max(1, status.total_frames - status.completed_frames)
            return status.eta_seconds * left / unfinished
        (first, before), (last, after) = self._looks[0], self._looks[-1]
        if last - first < _LEAST_SECONDS or after <= before:
            return None
        return (last - first) / (after - before) * left

"""Renderers that tell when they began, whether they move, and when they were asked to end."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from processtable import look

TREES = Path(__file__).with_name("trees.py")

_PATIENCE_SECONDS = 60.0

# Finer than anything that is measured.
_LOOK_SECONDS = 0.001


def beacon_renderer(output: str) -> tuple[str, ...]:
    """Return the command of a renderer that writes its beacon to a file."""
    return (sys.executable, "-S", "-E", str(TREES), "traps", output, "240")


def until(reached: Callable[[], bool], what: str) -> float:
    """Return the time when something had come true; it blocks, for it measures milliseconds."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_PATIENCE_SECONDS:g} s in vain: {what}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic()


class Beacon:
    """The file of one renderer. All times are of the monotonic clock, which all processes of a host share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def until_ready(self) -> float:
        """Return when it began, by its own word."""
        until(lambda: bool(self._lines("ready")), f"{self.path} begins")
        return self.ready()

    def ready(self) -> float:
        """Return when it began."""
        return float(self._lines("ready")[0][2])

    def pid(self) -> int:
        """Return the renderer's pid."""
        return int(self._lines("ready")[0][1])

    def term(self) -> float:
        """Return when TERM reached it."""
        return float(self._lines("term")[0][2])

    def until_stopped(self, pids: list[int]) -> float:
        """Return when all these processes stood still."""
        return until(lambda: all((seen := look(pid)) and seen.stopped for pid in pids), "they stand still")

    def until_tick(self, after: float) -> float:
        """Return the first time after the given one at which the renderer was at work, by its own clock."""
        until(lambda: self._clock() > after, "the renderer goes on")
        return self._clock()

    def _clock(self) -> float:
        try:
            return float(Path(f"{self.path}.clock").read_text() or 0)
        except OSError:
            return 0.0

    def _lines(self, word: str) -> list[list[str]]:
        try:
            lines = self.path.read_text().splitlines()
        except OSError:
            return []
        return [line.split() for line in lines if line.startswith(word)]

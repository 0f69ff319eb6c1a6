"""Renderers that tell when they began, whether they move, and when they were asked to end."""

import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from support.farm import Farm, eventually, until_state
from support.processes.process_table import carrying, look

from longtake import FrameRange, JobState, Timeouts

TREES = Path(__file__).with_name("process_trees.py")

_PATIENCE_SECONDS = 60.0

# Finer than anything that is measured.
_LOOK_SECONDS = 0.001


def signal_logging_renderer(output: str) -> tuple[str, ...]:
    """Return the command of a renderer that writes its beacon to a file."""
    return (sys.executable, "-S", "-E", str(TREES), "traps", output, "240")


def block_until(reached: Callable[[], bool], what: str) -> float:
    """Return the time when something had come true; it blocks, for it measures milliseconds."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_PATIENCE_SECONDS:g} s in vain: {what}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic()


class SignalLog:
    """The file of one renderer. All times are of the monotonic clock, which all processes of a host share."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def until_ready(self) -> float:
        """Return when it began, by its own word."""
        block_until(lambda: bool(self._lines("ready")), f"{self.path} begins")
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
        return block_until(lambda: all((seen := look(pid)) and seen.stopped for pid in pids), "they stand still")

    def until_tick(self, after: float) -> float:
        """Return the first time after the given one at which the renderer was at work, by its own clock."""
        block_until(lambda: self._clock() > after, "the renderer goes on")
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


async def measure_cancel(farm: Farm, beacons: Path, is_calm: Callable[[], bool] = lambda: True) -> tuple[float, float]:
    """Return the seconds from the client's call to the TERM at the renderer, and to no process of the job.

    Args:
        farm: Where the job runs.
        beacons: A folder for what renderers write.
        is_calm: Whether the job may be cancelled by now.
    """
    folder = beacons / uuid.uuid4().hex[:12]
    job = await farm.submit(
        farm.job(
            frames=FrameRange(count=1, per_chunk=1),
            command=(*signal_logging_renderer(f"{folder}/"), "{output}"),
            timeouts=Timeouts(grace_seconds=2),
        )
    )
    await eventually(lambda: any(path.read_text() for path in folder.glob("*.txt")), "the renderer begins")
    (beacon,) = (SignalLog(path) for path in folder.glob("*.txt"))
    await eventually(is_calm, "the job may be cancelled")
    assert carrying(job.id)
    began = time.monotonic()
    await job.cancel()
    await eventually(lambda: not carrying(job.id), "the renderer ends")
    gone = time.monotonic()
    await until_state(job, JobState.CANCELLED)
    return beacon.term() - began, gone - began

"""Measure the same renderers under a bare `subprocess` and `killpg`: no queue, no proof, no recovery."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from support.renderers.signal_times import SignalLog, signal_logging_renderer


class BareRender:
    """A renderer in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.beacon = SignalLog(folder / f"{os.urandom(6).hex()}.txt")
        self._process = subprocess.Popen(signal_logging_renderer(str(self.beacon.path)), start_new_session=True)
        self.beacon.until_ready()

    def signal(self, number: signal.Signals) -> float:
        """Send a signal to the group; return the time of that."""
        at = time.monotonic()
        os.killpg(self._process.pid, number)
        return at

    def wait(self) -> float:
        """Wait until the renderer has ended and was reaped; return the time of that."""
        self._process.wait()
        return time.monotonic()

    def wait_for_state(self, stopped: bool) -> float:
        """Wait until the renderer is stopped, or runs again; return the time of that."""
        return self.beacon.until_stopped([self._process.pid]) if stopped else self.beacon.until_tick(time.monotonic())


def measure(folder: Path, runs: int) -> dict[str, list[float]]:
    """Measure each step some times; return the seconds, under the same names as `FarmRuns`."""
    found: dict[str, list[float]] = {}

    def note(step: str, seconds: float) -> None:
        found.setdefault(step, []).append(seconds)

    for _ in range(runs):
        for measured in (_measure_stop, _measure_kill, _measure_freeze):
            measured(folder, note)
    return found


def measure_stop_of_many(folder: Path, count: int) -> float:
    """Return the seconds from the first of many signals until all renderers have ended."""
    renders = [BareRender(folder) for _ in range(count)]
    started = time.monotonic()
    for render in renders:
        render.signal(signal.SIGTERM)
    return max(render.wait() for render in renders) - started


def _measure_stop(folder: Path, note: Callable[[str, float], None]) -> None:
    render = BareRender(folder)
    started = render.signal(signal.SIGTERM)
    gone = render.wait()
    note("cancel to notice", render.beacon.term() - started)
    note("cancel to proof", gone - started)
    note("pause now to idle", gone - started)


def _measure_kill(folder: Path, note: Callable[[str, float], None]) -> None:
    render = BareRender(folder)
    started = render.signal(signal.SIGKILL)
    note("kill -9 to no process left", render.wait() - started)
    again = BareRender(folder)
    note("kill -9 to next start", again.beacon.ready() - started)
    again.signal(signal.SIGKILL)
    again.wait()


def _measure_freeze(folder: Path, note: Callable[[str, float], None]) -> None:
    render = BareRender(folder)
    started = render.signal(signal.SIGSTOP)
    note("freeze to frozen", render.wait_for_state(stopped=True) - started)
    started = render.signal(signal.SIGCONT)
    note("thaw to running", render.wait_for_state(stopped=False) - started)
    render.signal(signal.SIGKILL)
    render.wait()

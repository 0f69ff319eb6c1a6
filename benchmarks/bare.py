"""The yardstick: the same renderers under a bare `subprocess` and `killpg`, with no queue, no proof and no recovery."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from support.renderers.signal_times import SignalLog, signal_logging_renderer


class BareRender:
    """One renderer in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.beacon = SignalLog(folder / f"{os.urandom(6).hex()}.txt")
        self._process = subprocess.Popen(signal_logging_renderer(str(self.beacon.path)), start_new_session=True)
        self.beacon.until_ready()

    def signal(self, number: signal.Signals) -> float:
        """Send a signal to the group; return when that was."""
        at = time.monotonic()
        os.killpg(self._process.pid, number)
        return at

    def wait(self) -> float:
        """Return when it was gone and reaped."""
        self._process.wait()
        return time.monotonic()

    def until_state(self, stopped: bool) -> float:
        """Return when it stood still, or moved again."""
        return self.beacon.until_stopped([self._process.pid]) if stopped else self.beacon.until_tick(time.monotonic())


def measure(folder: Path, runs: int) -> dict[str, list[float]]:
    """Return the seconds of each step, by the same names as those of the farm."""
    found: dict[str, list[float]] = {}

    def note(step: str, seconds: float) -> None:
        found.setdefault(step, []).append(seconds)

    for _ in range(runs):
        for measured in (_stopped, _killed, _frozen):
            measured(folder, note)
    return found


def _stopped(folder: Path, note: Callable[[str, float], None]) -> None:
    render = BareRender(folder)
    began = render.signal(signal.SIGTERM)
    gone = render.wait()
    note("cancel to notice", render.beacon.term() - began)
    note("cancel to proof", gone - began)
    note("pause now to idle", gone - began)


def _killed(folder: Path, note: Callable[[str, float], None]) -> None:
    render = BareRender(folder)
    began = render.signal(signal.SIGKILL)
    note("kill -9 to no process left", render.wait() - began)
    again = BareRender(folder)
    note("kill -9 to next start", again.beacon.ready() - began)
    again.signal(signal.SIGKILL)
    again.wait()


def _frozen(folder: Path, note: Callable[[str, float], None]) -> None:
    render = BareRender(folder)
    began = render.signal(signal.SIGSTOP)
    note("freeze to frozen", render.until_state(stopped=True) - began)
    began = render.signal(signal.SIGCONT)
    note("thaw to running", render.until_state(stopped=False) - began)
    render.signal(signal.SIGKILL)
    render.wait()

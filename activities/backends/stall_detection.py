"""Stall and linger: renderers that stand still, and renderers that do not end though their outputs are whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from activities.processes.render_process import Usage

# Pause between looks; one that finds a file missing or changed costs a few calls of `stat`.
_LOOK_SECONDS = 1.0

# Looks and proofs take at most this share of the time: the proof of a film of 50 GB reads all of it.
_SHARE_OF_TIME = 0.1

# Size and time of change of every output, the last one first.
OutputState = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class OutputsSnapshot:
    """What one look at the outputs has found.

    Args:
        state: Size and time of change of each; None when one is missing.
        was_checked: Whether the proof was made.
        is_whole: Whether all outputs are proven.
        seconds: How long the look took.
    """

    state: OutputState | None
    was_checked: bool
    is_whole: bool
    seconds: float


def inspect_outputs(
    outputs: Sequence[Path], is_whole: Callable[[], bool], before: OutputState | None
) -> OutputsSnapshot:
    """Look at the outputs, and check them if all are there and unchanged since the look before; blocking."""
    began = monotonic()
    state = _state(outputs)
    is_unchanged = state is not None and state == before
    return OutputsSnapshot(state, is_unchanged, is_unchanged and _check(is_whole), monotonic() - began)


class LingerDetector:
    """Decides when to look at the outputs, and when a renderer lingers: its outputs are whole, and it does not end.

    Args:
        linger_seconds: How long outputs must stay whole and untouched.
    """

    def __init__(self, linger_seconds: float) -> None:
        self._linger_seconds = linger_seconds
        self._next_at = _LOOK_SECONDS
        self._pause = _LOOK_SECONDS
        self._all_done = False
        self._whole_at: float | None = None
        self.state: OutputState | None = None

    def is_due(self, now: float, *, all_done: bool) -> bool:
        """Return whether to look now.

        Args:
            now: Seconds by the clock of the render.
            all_done: Whether the renderer reports all frames done.
        """
        if all_done and not self._all_done:
            self._all_done = True
            self._pause = _LOOK_SECONDS
            self._next_at = now
        return now >= self._next_at

    def record_look(self, began: float, now: float, outputs: OutputsSnapshot) -> bool:
        """Record a look that took from `began` to `now`; return whether the renderer lingers."""
        self.state = outputs.state
        if not outputs.is_whole:
            self._whole_at = None
            if outputs.was_checked:
                self._pause = min(max(self._linger_seconds, _LOOK_SECONDS), 2 * self._pause)
            self._next_at = now + max(
                self._pause if outputs.was_checked else _LOOK_SECONDS, outputs.seconds / _SHARE_OF_TIME
            )
            return False
        if self._whole_at is None:
            self._whole_at = began
        lingers = began - self._whole_at >= self._linger_seconds
        due = now + _LOOK_SECONDS if lingers else self._whole_at + self._linger_seconds
        self._next_at = max(due, now + outputs.seconds / _SHARE_OF_TIME)
        return lingers

    @property
    def whole_at(self) -> float | None:
        """When the outputs were first found whole as they are now; None when they are not whole."""
        return self._whole_at


def _state(outputs: Sequence[Path]) -> OutputState | None:
    found = []
    # Renderers write the last output last, so its absence is mostly found with one call.
    for path in reversed(outputs):
        try:
            status = path.stat()
        except OSError:
            return None
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def _check(is_whole: Callable[[], bool]) -> bool:
    try:
        return is_whole()
    except OSError:
        # The renderer may remove a file while it is checked.
        return False


# Less CPU time than this share of one core is none. Measured, of one core: ffmpeg waiting for its input, Blender and
# Python asleep 0; a loop that wakes 100 times a second in Python or in Blender 0.3 %, 60 times in node 0.5 %; an idle
# Chromium with its nine processes 0.4 %.
_IDLE_CPU_SHARE = 0.01

# Fewer bytes in a second are none. Measured: all of the above 0, but for Chromium, 9 KiB, which its processes tell each
# other that they are well; a shell that runs `sleep 1` in a loop reads 7 KiB of libraries each time.
_IDLE_IO_BYTES = 32 * 1024

# Age that a usage may have: keepers measure once a second.
_SAMPLE_SECONDS = 1.0


class StallDetector:
    """Measures how long a render has shown no progress, no output, and hardly any CPU time or I/O.

    CPU time and I/O count when a render uses more of them within the window than an idle program does:
    a single wake-up is no work, and real work is seen after a hundredth of the window.

    Args:
        window_seconds: How long a render may do nothing before it stands still.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._output_state: object = None
        self._worked_at = 0.0
        self._progressed_at = 0.0
        self._usage_then = self._newest = Usage()

    def update(self, now: float, output_state: object, usage: Usage) -> None:
        """Record one look at the render.

        Args:
            now: Seconds by the clock of the render.
            output_state: A value that changes with each piece of progress or output.
            usage: What the render has used in all.
        """
        self._newest = usage
        if output_state != self._output_state:
            self._output_state, self._progressed_at = output_state, now
            self._record_work(now)
        elif self._has_worked():
            self._record_work(now)
        else:
            # Where a host does not count ended processes, the sums fall when one ends.
            self._usage_then = replace(
                usage,
                cpu_seconds=min(usage.cpu_seconds, self._usage_then.cpu_seconds),
                io_bytes=min(usage.io_bytes, self._usage_then.io_bytes),
            )

    def is_stalled(self, now: float) -> bool:
        """Return whether the render has done nothing for the length of the window."""
        # Work at the end of the window may show in the next sample only.
        return self.still_seconds(now) >= self._window_seconds + _SAMPLE_SECONDS

    def still_seconds(self, now: float) -> float:
        """Return how long the render has done nothing."""
        return now - self._worked_at

    def silent_seconds(self, now: float) -> float:
        """Return how long the render has shown no progress and no output."""
        return now - self._progressed_at

    @property
    def cpu_seconds(self) -> float:
        """CPU time since the render last did something."""
        return self._newest.cpu_seconds - self._usage_then.cpu_seconds

    @property
    def io_bytes(self) -> int:
        """Bytes read and written since the render last did something."""
        return self._newest.io_bytes - self._usage_then.io_bytes

    def _has_worked(self) -> bool:
        return (
            self.cpu_seconds > _IDLE_CPU_SHARE * self._window_seconds
            or self.io_bytes > _IDLE_IO_BYTES * self._window_seconds
        )

    def _record_work(self, now: float) -> None:
        self._worked_at = now
        self._usage_then = self._newest

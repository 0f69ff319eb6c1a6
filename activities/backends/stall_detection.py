"""Noticing a renderer that has finished its outputs and does not end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from activities.processes.usage import Usage

# A look that finds something missing or changed costs one `stat` or a few.
_LOOK_SECONDS = 1.0

# Looks and proofs take at most this part of the time: the proof of a film of 50 GB reads all of it.
_DUTY = 0.1

# Size and time of change of every output.
State = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class OutputsSeen:
    """What one look at the outputs showed.

    Args:
        state: None when one of them is missing.
        tried: Whether the proof was asked for.
        whole: Whether all outputs are proven.
        seconds: How long the look took.
    """

    state: State | None
    tried: bool
    whole: bool
    seconds: float


def inspect_outputs(outputs: Sequence[Path], is_whole: Callable[[], bool], before: State | None) -> OutputsSeen:
    """Look, and ask for the proof if all outputs are there and are what they were before; blocking."""
    began = monotonic()
    state = _state(outputs)
    tried = state is not None and state == before
    whole = tried and _asked(is_whole)
    return OutputsSeen(state, tried, whole, monotonic() - began)


class LingerDetector:
    """Decides when to look at the outputs, and when a renderer has outlived them.

    Args:
        linger_seconds: How long outputs stay whole and untouched before the renderer is not waited for any more.
    """

    def __init__(self, linger_seconds: float) -> None:
        self._linger_seconds = linger_seconds
        self._next_at = _LOOK_SECONDS
        self._pause = _LOOK_SECONDS
        self._all_done = False
        self._whole_at: float | None = None
        self.state: State | None = None

    def is_due(self, now: float, *, all_done: bool) -> bool:
        """Tell whether to look now.

        Args:
            now: By the clock of the render.
            all_done: Whether the renderer says that it has done all frames.
        """
        if all_done and not self._all_done:
            self._all_done = True
            self._pause = _LOOK_SECONDS
            self._next_at = now
        return now >= self._next_at

    def has_outlived(self, began: float, now: float, sight: OutputsSeen) -> bool:
        """Take in a look, from `began` to `now`; return whether the outputs are done and the renderer is not."""
        self.state = sight.state
        if not sight.whole:
            self._whole_at = None
            if sight.tried:
                self._pause = min(max(self._linger_seconds, _LOOK_SECONDS), 2 * self._pause)
            self._next_at = now + max(self._pause if sight.tried else _LOOK_SECONDS, sight.seconds / _DUTY)
            return False
        if self._whole_at is None:
            self._whole_at = began
        outlived = began - self._whole_at >= self._linger_seconds
        due = now + _LOOK_SECONDS if outlived else self._whole_at + self._linger_seconds
        self._next_at = max(due, now + sight.seconds / _DUTY)
        return outlived

    @property
    def whole_at(self) -> float | None:
        """When the outputs were first seen whole as they are now; None when they are not."""
        return self._whole_at


def _state(outputs: Sequence[Path]) -> State | None:
    found = []
    # The last one mostly comes last: one look at it tells that there is more to come.
    for path in reversed(outputs):
        try:
            status = path.stat()
        except OSError:
            return None
        found.append((status.st_size, status.st_mtime_ns))
    return tuple(found)


def _asked(is_whole: Callable[[], bool]) -> bool:
    try:
        return is_whole()
    except OSError:
        # A file may go while it is looked at: its renderer is at work.
        return False


# Less CPU time than this share of one core is none. Measured, of one core: ffmpeg waiting for its input, Blender and
# Python asleep 0; a loop that wakes 100 times a second in Python or in Blender 0.3 %, 60 times in node 0.5 %; an idle
# Chromium with its nine processes 0.4 %.
_IDLE_CPU_SHARE = 0.01

# Fewer bytes in a second are none. Measured: all of the above 0, but for Chromium, 9 KiB, which its processes tell each
# other that they are well; a shell that runs `sleep 1` in a loop reads 7 KiB of libraries each time.
_IDLE_IO_BYTES = 32 * 1024

# So old may the usage be that a look is shown.
_SAMPLE_SECONDS = 1.0


class StallDetector:
    """What a render does, look by look: progress, output, CPU time and I/O of all its processes.

    CPU time and I/O count when more of them comes together within the window than an idle program has in all of it:
    a single wake-up is no work, and real work is seen after a hundredth of the window.

    Args:
        window_seconds: How long nothing may move before the render stands still.
    """

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._signs: object = None
        self._moved_at = 0.0
        self._progressed_at = 0.0
        self._at_move = self._newest = Usage()

    def look(self, now: float, signs: object, usage: Usage) -> None:
        """Take in what is to be seen now.

        Args:
            now: By the clock of the render.
            signs: Whatever changes with each piece of progress or output.
            usage: What the render has used so far.
        """
        self._newest = usage
        if signs != self._signs:
            self._signs, self._progressed_at = signs, now
            self._move(now)
        elif self._has_worked():
            self._move(now)
        else:
            # Where a host does not count ended processes, the sums fall when one ends.
            self._at_move = replace(
                usage,
                cpu_seconds=min(usage.cpu_seconds, self._at_move.cpu_seconds),
                io_bytes=min(usage.io_bytes, self._at_move.io_bytes),
            )

    def has_stopped(self, now: float) -> bool:
        """Tell whether nothing has moved for the length of the window."""
        # What moved at the end of the window may show up a sample later.
        return self.still_seconds(now) >= self._window_seconds + _SAMPLE_SECONDS

    def still_seconds(self, now: float) -> float:
        """Return how long nothing has moved."""
        return now - self._moved_at

    def silent_seconds(self, now: float) -> float:
        """Return how long there was no progress and no output."""
        return now - self._progressed_at

    @property
    def cpu_seconds(self) -> float:
        """CPU time since it last moved."""
        return self._newest.cpu_seconds - self._at_move.cpu_seconds

    @property
    def io_bytes(self) -> int:
        """Bytes read and written since it last moved."""
        return self._newest.io_bytes - self._at_move.io_bytes

    def _has_worked(self) -> bool:
        return (
            self.cpu_seconds > _IDLE_CPU_SHARE * self._window_seconds
            or self.io_bytes > _IDLE_IO_BYTES * self._window_seconds
        )

    def _move(self, now: float) -> None:
        self._moved_at = now
        self._at_move = self._newest

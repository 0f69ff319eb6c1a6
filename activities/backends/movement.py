"""Telling a renderer that stands still from one that is only silent."""

from dataclasses import replace

from activities.processes.usage import Usage

# Less CPU time than this share of one core is none. Measured, of one core: ffmpeg waiting for its input, Blender and
# Python asleep 0; a loop that wakes 100 times a second in Python or in Blender 0.3 %, 60 times in node 0.5 %; an idle
# Chromium with its nine processes 0.4 %.
_IDLE_CPU_SHARE = 0.01

# Fewer bytes in a second are none. Measured: all of the above 0, but for Chromium, 9 KiB, which its processes tell each
# other that they are well; a shell that runs `sleep 1` in a loop reads 7 KiB of libraries each time.
_IDLE_IO_BYTES = 32 * 1024

# So old may the usage be that a look is shown.
_SAMPLE_SECONDS = 1.0


class Movement:
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

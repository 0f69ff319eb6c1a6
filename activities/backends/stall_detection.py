"""Noticing a renderer that has finished its outputs and does not end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

# A look that finds something missing or changed costs one `stat` or a few.
_LOOK_SECONDS = 1.0

# Looks and proofs take at most this part of the time: the proof of a film of 50 GB reads all of it.
_DUTY = 0.1

# Size and time of change of every output.
State = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Sight:
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


def look_at_outputs(outputs: Sequence[Path], is_whole: Callable[[], bool], before: State | None) -> Sight:
    """Look, and ask for the proof if all outputs are there and are what they were before; blocking."""
    began = monotonic()
    state = _state(outputs)
    tried = state is not None and state == before
    whole = tried and _asked(is_whole)
    return Sight(state, tried, whole, monotonic() - began)


class Linger:
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

    def has_outlived(self, began: float, now: float, sight: Sight) -> bool:
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

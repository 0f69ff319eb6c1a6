"""When the frames of a stream are shown, as exact numbers."""

from array import array
from dataclasses import dataclass, field
from fractions import Fraction

# Matroska, WebM and FLV store whole milliseconds, and files made from them keep that rounding.
_MILLISECOND = Fraction(1, 1000)


def rate_text(rate: Fraction) -> str:
    """Writes a frame rate the way people say it: 25, 29.97, 23.976."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


@dataclass
class Timeline:
    """Presentation times of all frames of one stream, in the order they are stored."""

    time_base: Fraction
    pts: "array[int]" = field(default_factory=lambda: array("q"))
    first_dts: int | None = None

    def grid_problem(self, fps: Fraction, slack_seconds: Fraction = Fraction(0)) -> str | None:
        """Tells in words how the frames miss the grid of `fps`, or nothing when each lies on it.

        A frame may be off by the rounding of its own container and no more, so 29.97 and 30 are told apart
        from the second frame on; films that others joined may be given some slack.
        """
        shown = sorted(self.pts)
        allowed = self._rounding(shown) + slack_seconds
        for index, pts in enumerate(shown):
            if abs((pts - shown[0]) * self.time_base - index / fps) > allowed:
                return self._describe(shown, index, fps, allowed)
        return None

    def _rounding(self, shown: "array[int] | list[int]") -> Fraction:
        tick = self.time_base
        if tick >= _MILLISECOND:
            return tick if tick == _MILLISECOND else _MILLISECOND
        for pts in shown:
            seconds = (pts - shown[0]) * tick
            if abs(seconds - round(seconds * 1000) * _MILLISECOND) > tick:
                return tick
        return _MILLISECOND + tick

    def _describe(self, shown: list[int], index: int, fps: Fraction, allowed: Fraction) -> str:
        span = (shown[-1] - shown[0]) * self.time_base
        if span > 0:
            real = (len(shown) - 1) / span
            steady = all(
                abs((pts - shown[0]) * self.time_base - k / real) <= allowed + self.time_base
                for k, pts in enumerate(shown)
            )
            if steady and rate_text(real) != rate_text(fps):
                return f"runs at {rate_text(real)} frames a second instead of {rate_text(fps)}"
        real_seconds = float((shown[index] - shown[0]) * self.time_base)
        seconds = float(index / fps)
        return f"is unevenly timed: frame {index} is shown at {real_seconds:.4f} s instead of {seconds:.4f} s"

    def frame_indices(self, fps: Fraction) -> list[int]:
        """Returns the number of each frame in display order, in the order they are stored."""
        first = min(self.pts)
        return [round((pts - first) * self.time_base * fps) for pts in self.pts]

    def reorder_frames(self, fps: Fraction) -> int:
        """Returns by how many frames decoding must run ahead of showing, so that no frame comes too late."""
        needed = max(place - index for place, index in enumerate(self.frame_indices(fps)))
        # An encoder may ask for more than it used; its players were promised that much.
        promised = round((self.pts[0] - self.first_dts) * self.time_base * fps) if self.first_dts is not None else 0
        return max(needed, promised)

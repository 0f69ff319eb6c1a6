"""Learn what the chunks of a job take, by the region of the job that they are of. Pure, as the scheduling is."""

from collections.abc import Mapping

from longtake.ranges import Range

# What a chunk takes at least: to start a process, to check and to publish are not in the measured seconds.
_LEAST_CHUNK_SECONDS = 0.01

# Parts of a job whose durations are learned apart. Neighbours are alike: a film has quiet scenes and heavy ones.
_REGIONS = 64

# What one more measured chunk weighs in the mean of its region.
_WEIGHT = 0.1


class Durations:
    """What chunks take, learned by region: the latest of a region count most, and a new region is as its nearest.

    Args:
        chunk_count: Chunks of the job.
        means: Seconds of a chunk by region, as learned before.
    """

    def __init__(self, chunk_count: int, means: Mapping[int, float] | None = None) -> None:
        self._width = max(1, -(-chunk_count // _REGIONS))
        self.means = dict(means or {})

    def learn(self, span: Range, chunks: int, seconds: float) -> None:
        """Learn what some chunks of a span took together."""
        if chunks <= 0:
            return
        regions = self._regions(span)
        weight = 1 - (1 - _WEIGHT) ** (chunks / len(regions))
        for region in regions:
            before = self.means.get(region, seconds / chunks)
            self.means[region] = before + weight * (seconds / chunks - before)

    def adopt(self, span: Range, means: Mapping[int, float]) -> None:
        """Take over what others have learned of the regions of a span."""
        for region in self._regions(span):
            if region in means:
                self.means[region] = means[region]

    def save(self) -> dict[int, float]:
        """Return the means, rounded."""
        return {region: round(mean, 4) for region, mean in self.means.items()}

    def estimate(self, chunk: int) -> float | None:
        """Return what a chunk may take; None before anything is known."""
        region = chunk // self._width
        nearest = min(self.means, key=lambda known: (abs(known - region), known), default=None)
        return None if nearest is None else max(self.means[nearest], _LEAST_CHUNK_SECONDS)

    def _regions(self, span: Range) -> range:
        start, stop = span
        return range(start // self._width, (stop - 1) // self._width + 1)

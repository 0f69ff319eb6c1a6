"""Measured times: their distribution, in words and as data."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Figures:
    """How a set of measurements lies; a percentile is a value that was measured (nearest rank)."""

    n: int
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the distribution of at least one measurement."""
        ordered = sorted(seconds)

        def rank(share: float) -> float:
            return ordered[math.ceil(share * len(ordered)) - 1]

        return cls(len(ordered), rank(0.5), rank(0.9), rank(0.99), ordered[-1])

    def as_json(self) -> dict[str, float]:
        """Return the figures as numbers, in seconds."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"n {self.n}, p50 {self.p50:.3f} s, p90 {self.p90:.3f} s, p99 {self.p99:.3f} s, max {self.max:.3f} s"

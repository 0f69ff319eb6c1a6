"""Measured times: their distribution, in words and as data."""

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

import psutil


@dataclass(frozen=True)
class Distribution:
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


_LOOK_SECONDS = 0.02


class Memory:
    """How much this process grew at most, in a `with` block."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._most = 0
        self._before = 0

    def __enter__(self) -> "Memory":
        self._most = self._before = self._process.memory_info().rss
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()

    @property
    def growth_bytes(self) -> int:
        """How much more it held at most than at the beginning of the block."""
        return self._most - self._before

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._most = max(self._most, self._process.memory_info().rss)

"""Sets of whole numbers kept as ranges, so that a million chunks cost a few bytes."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

Range = tuple[int, int]


class RangeSet:
    """A set of whole numbers as sorted, disjoint, half-open ranges `[start, stop)`."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges: list[Range] = []
        for start, stop in ranges:
            self.add(start, stop)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges in ascending order, with a gap between any two."""
        return tuple(self._ranges)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self._ranges)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self._ranges:
            yield from range(start, stop)

    def __contains__(self, number: int) -> bool:
        return any(start <= number < stop for start, stop in self._ranges)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({self._ranges})"

    def add(self, start: int, stop: int) -> None:
        """Add `[start, stop)`; what is there already stays."""
        if start >= stop:
            return
        kept = []
        for low, high in self._ranges:
            if high < start or low > stop:
                kept.append((low, high))
            else:
                start, stop = min(start, low), max(stop, high)
        self._ranges = sorted([*kept, (start, stop)])

    def remove(self, start: int, stop: int) -> None:
        """Remove `[start, stop)`; what is not there does not matter."""
        if start >= stop:
            return
        kept: list[Range] = []
        for low, high in self._ranges:
            kept.extend(part for part in ((low, min(high, start)), (max(low, stop), high)) if part[0] < part[1])
        self._ranges = kept

    def take(self, size: int) -> Range:
        """Remove and return up to `size` consecutive numbers from the front.

        Raises:
            IndexError: The set is empty.
        """
        start, stop = self._ranges[0]
        stop = min(stop, start + size)
        self.remove(start, stop)
        return start, stop

    def gaps(self, start: int, stop: int) -> "RangeSet":
        """Return what `[start, stop)` has and this set has not."""
        edges = [start]
        for low, high in self._ranges:
            edges += [min(max(low, start), stop), min(max(high, start), stop)]
        edges.append(stop)
        return RangeSet((low, high) for low, high in list(pairwise(edges))[::2])


def shown(ranges: Iterable[Range], most: int = 5) -> str:
    """Return the numbers as people write them: `3, 7-9 and 12 more`."""
    listed = list(ranges)
    parts = [str(start) if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in listed[:most]]
    more = sum(stop - start for start, stop in listed[most:])
    return ", ".join(parts) + (f" and {more} more" if more else "")

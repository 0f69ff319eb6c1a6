"""Keep sets of whole numbers as ranges, so that a million chunks take a few bytes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import itemgetter

Range = tuple[int, int]

_LOW, _HIGH = itemgetter(0), itemgetter(1)


class RangeSet:
    """A mutable set of whole numbers, stored as sorted, disjoint, half-open ranges `[start, stop)`."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._ranges = _merge(sorted(ranges))

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Ranges of the set in ascending order, with a gap between any two."""
        return tuple(self._ranges)

    @property
    def front(self) -> Range:
        """First range of the set.

        Raises:
            IndexError: The set is empty.
        """
        return self._ranges[0]

    def __bool__(self) -> bool:
        return bool(self._ranges)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self._ranges)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self._ranges:
            yield from range(start, stop)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._ranges, number, key=_LOW)
        return place > 0 and number < self._ranges[place - 1][1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._ranges == other._ranges

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RangeSet({self._ranges})"

    def add(self, start: int, stop: int) -> None:
        """Add the numbers `[start, stop)`."""
        if start >= stop:
            return
        # Ranges that overlap or touch are merged.
        first = bisect_left(self._ranges, start, key=_HIGH)
        last = bisect_right(self._ranges, stop, key=_LOW)
        if first < last:
            start, stop = min(start, self._ranges[first][0]), max(stop, self._ranges[last - 1][1])
        self._ranges[first:last] = [(start, stop)]

    def remove(self, start: int, stop: int) -> None:
        """Remove the numbers `[start, stop)`, as far as the set has them."""
        if start >= stop:
            return
        first = bisect_right(self._ranges, start, key=_HIGH)
        last = bisect_left(self._ranges, stop, key=_LOW)
        if first < last:
            low, high = self._ranges[first][0], self._ranges[last - 1][1]
            self._ranges[first:last] = [part for part in ((low, start), (stop, high)) if part[0] < part[1]]

    def add_all(self, other: "RangeSet") -> None:
        """Add the numbers of another set in one walk: of 500,000 ranges, one after the other takes minutes."""
        self._ranges = _merge(sorted((*self._ranges, *other._ranges)))

    def remove_all(self, other: "RangeSet") -> None:
        """Remove the numbers of another set in one walk."""
        self._ranges = _subtract(self._ranges, other._ranges)

    def overlap(self, other: "RangeSet") -> "RangeSet":
        """Return the numbers that are in both sets."""
        both = RangeSet()
        both._ranges = _subtract(self._ranges, _subtract(self._ranges, other._ranges))
        return both

    def take(self, size: int) -> Range:
        """Remove and return up to `size` consecutive numbers from the front.

        Raises:
            IndexError: The set is empty.
        """
        start, stop = self.front
        stop = min(stop, start + size)
        self.remove(start, stop)
        return start, stop

    def within(self, start: int, stop: int) -> "RangeSet":
        """Return the numbers of `[start, stop)` that are in this set."""
        first = bisect_right(self._ranges, start, key=_HIGH)
        last = bisect_left(self._ranges, stop, key=_LOW)
        return RangeSet((max(low, start), min(high, stop)) for low, high in self._ranges[first:last])

    def gaps(self, start: int, stop: int) -> "RangeSet":
        """Return the numbers of `[start, stop)` that are not in this set."""
        edges = [start]
        first = bisect_right(self._ranges, start, key=_HIGH)
        last = bisect_left(self._ranges, stop, key=_LOW)
        for low, high in self._ranges[first:last]:
            edges += [max(low, start), min(high, stop)]
        edges.append(stop)
        return RangeSet((low, high) for low, high in list(pairwise(edges))[::2])


def _merge(ordered: Iterable[Range]) -> list[Range]:
    """Merge sorted ranges that overlap or touch."""
    merged: list[Range] = []
    for start, stop in ordered:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        elif start < stop:
            merged.append((start, stop))
    return merged


def _subtract(ranges: list[Range], others: list[Range]) -> list[Range]:
    """Return the parts of sorted, disjoint ranges that no other range holds."""
    left: list[Range] = []
    place = 0
    for start, stop in ranges:
        while place < len(others) and others[place][1] <= start:
            place += 1
        index = place
        while index < len(others) and others[index][0] < stop:
            low, high = others[index]
            if start < low:
                left.append((start, low))
            start = max(start, high)
            index += 1
        if start < stop:
            left.append((start, stop))
    return left


def format_range(start: int, stop: int) -> str:
    """Return a range with both ends included: `3`, `7-9`."""
    return str(start) if stop == start + 1 else f"{start}-{stop - 1}"


def format_ranges(ranges: Iterable[Range], most: int = 5) -> str:
    """Format ranges for people, as in `3, 7-9 and 12 more`.

    Args:
        ranges: The ranges.
        most: Number of ranges to write out.
    """
    listed = list(ranges)
    parts = [format_range(start, stop) for start, stop in listed[:most]]
    more = sum(stop - start for start, stop in listed[most:])
    return ", ".join(parts) + (f" and {more} more" if more else "")

"""Keep sets of whole numbers as ranges, so that a million chunks take a few bytes."""

import base64
import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from operator import itemgetter

Range = tuple[int, int]

_LOW, _HIGH = itemgetter(0), itemgetter(1)

# No job has more chunks: a text that says otherwise is none of ours, and is not unpacked.
MOST_NUMBERS = 1_000_000


class RangeSet:
    """A mutable set of whole numbers, stored as sorted, disjoint, half-open ranges `[start, stop)`."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._set(_merge(sorted(ranges)))

    def _set(self, ranges: list[Range]) -> None:
        self._ranges = ranges
        # Counted along: a sum over 500,000 ranges for each decision would take longer than a workflow task may.
        self._count = _count(ranges)

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
        return self._count

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
        self._replace(first, last, [(start, stop)])

    def remove(self, start: int, stop: int) -> None:
        """Remove the numbers `[start, stop)`, as far as the set has them."""
        if start >= stop:
            return
        first = bisect_right(self._ranges, start, key=_HIGH)
        last = bisect_left(self._ranges, stop, key=_LOW)
        if first < last:
            low, high = self._ranges[first][0], self._ranges[last - 1][1]
            self._replace(first, last, [part for part in ((low, start), (stop, high)) if part[0] < part[1]])

    def _replace(self, first: int, last: int, parts: list[Range]) -> None:
        self._count += _count(parts) - _count(self._ranges[first:last])
        self._ranges[first:last] = parts

    def add_all(self, other: "RangeSet") -> None:
        """Add the numbers of another set in one walk: of 500,000 ranges, one after the other takes minutes."""
        self._set(_merge(sorted((*self._ranges, *other._ranges))))

    def remove_all(self, other: "RangeSet") -> None:
        """Remove the numbers of another set in one walk."""
        self._set(_subtract(self._ranges, other._ranges))

    def overlap(self, other: "RangeSet") -> "RangeSet":
        """Return the numbers that are in both sets."""
        both = RangeSet()
        both._set(_subtract(self._ranges, _subtract(self._ranges, other._ranges)))
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

    def reach(self, size: int) -> int:
        """Return the end of the first `size` numbers, or of all of them where there are fewer.

        Raises:
            IndexError: The set is empty.
        """
        stop = self.front[0]
        for low, high in self._ranges:
            stop = min(high, low + size)
            size -= stop - low
            if size <= 0:
                break
        return stop

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


def pack_ranges(ranges: Iterable[Range]) -> str:
    """Write ranges as a bitmap from their first number on, compressed: 500,000 of them take a few hundred bytes.

    Any set of a million numbers takes 170 KB at most. See `unpack_ranges`.
    """
    held = RangeSet(ranges)
    if not held:
        return ""
    first = held.front[0]
    parts = []
    reached = first
    for low, high in held.ranges:
        parts.append("0" * (low - reached) + "1" * (high - low))
        reached = high
    # The first number is the last bit, so that the length needs no word.
    bits = int("".join(parts)[::-1], 2)
    packed = zlib.compress(bits.to_bytes(-(-(reached - first) // 8), "little"), 9)
    return f"{first}:{base64.b64encode(packed).decode('ascii')}"


def unpack_ranges(text: str) -> tuple[Range, ...]:
    """Read what `pack_ranges` has written.

    Raises:
        ValueError: The text is no bitmap, or one of more numbers than a job has chunks.
    """
    if not text:
        return ()
    number, colon, packed = text.partition(":")
    if not (colon and number.isascii() and number.isdecimal() and len(number) <= 7):
        raise ValueError("is no bitmap of chunks")
    unpacker = zlib.decompressobj()
    try:
        bitmap = unpacker.decompress(base64.b64decode(packed, validate=True), MOST_NUMBERS // 8 + 1)
    except (ValueError, zlib.error) as error:
        raise ValueError("is no bitmap of chunks") from error
    if not unpacker.eof or int(number) + 8 * len(bitmap) > MOST_NUMBERS + 8:
        raise ValueError("is no bitmap of the chunks of a job")
    bits = bin(int.from_bytes(bitmap, "little"))[:1:-1]
    return tuple((int(number) + run.start(), int(number) + run.end()) for run in re.finditer("1+", bits))


def _count(ranges: Iterable[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


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


def format_ranges(ranges: Iterable[Range], most: int = 5, *, count: int = 0) -> str:
    """Format ranges for people, as in `3, 7-9 and 12 more`.

    Args:
        ranges: The ranges.
        most: Number of ranges to write out.
        count: How many numbers there are, where the ranges are the first of more.
    """
    listed = list(ranges)
    parts = [format_range(start, stop) for start, stop in listed[:most]]
    more = max(_count(listed), count) - _count(listed[:most])
    return ", ".join(parts) + (f" and {more} more" if more else "")
